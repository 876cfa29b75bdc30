//! Single requests by libnbd's shell: what each reply holds, and which error says what.

use firn_engine::catalog::Tags;

use crate::place::{MIB, Place, noise};

/// Functions that the scripts use.
const PRELUDE: &str = "
import errno
h.set_strict_mode(0)
def refused(error, f, *args, **kw):
    try:
        f(*args, **kw)
    except nbd.Error as e:
        assert e.errnum == error, (e.errnum, e.string)
        return e.string
    raise AssertionError('it was not refused')
def chunks(length, offset, flags=0):
    found = []
    def f(data, offset, kind, error):
        found.append((offset, len(data), kind))
    data = h.pread_structured(length, offset, f, flags)
    return data, sorted(found)
";

fn script(place: &Place, export: &str, text: &str) {
    place.script(export, &format!("{PRELUDE}\n{text}"));
}

#[test]
fn reads_come_in_chunks_unless_one_piece_is_wanted() {
    let place = Place::new();
    let volume = place.volume("a", 8 * MIB);
    volume.write_at(0, &noise(1, 1 << 20)).expect("written");
    volume.write_at(2 * MIB, &noise(2, 4096)).expect("written");
    script(
        &place,
        "a",
        "
assert h.get_structured_replies_negotiated()
D, H = nbd.READ_DATA, nbd.READ_HOLE
data, found = chunks(4 << 20, 0)
assert found == [(0, 1 << 20, D), (1 << 20, 1 << 20, H), (2 << 20, 4096, D), ((2 << 20) + 4096, (2 << 20) - 4096, H)], found
assert data == h.pread(4 << 20, 0, nbd.CMD_FLAG_DF)
whole, found = chunks(4 << 20, 0, nbd.CMD_FLAG_DF)
assert found == [(0, 4 << 20, D)], found
assert whole == data
assert chunks(4096, 5 << 20)[1] == [(5 << 20, 4096, H)]
assert chunks(512, 512)[1] == [(512, 512, D)]
assert len(h.pread(8 << 20, 0)) == 8 << 20
",
    );
}

#[test]
fn each_fault_has_its_error() {
    let place = Place::new();
    let volume = place.volume("a", 64 * MIB);
    volume.snapshot("s", Tags::new()).expect("taken");
    script(
        &place,
        "a",
        "
end = h.get_size()
block = bytearray(b'x' * 4096)
refused(errno.EINVAL, h.pread, 4096, end)
refused(errno.EINVAL, h.pread, 4096, end - 512)
refused(errno.ENOSPC, h.pwrite, block, end)
refused(errno.ENOSPC, h.zero, 4096, end)
refused(errno.EINVAL, h.trim, 4096, end)
refused(errno.EINVAL, h.pread, 100, 0)
refused(errno.EINVAL, h.pread, 512, 7)
refused(errno.EINVAL, h.pwrite, block[:100], 0)
refused(errno.EINVAL, h.pread, 0, 0)
refused(errno.EINVAL, h.pread, 512, 0, nbd.CMD_FLAG_NO_HOLE)
refused(errno.EINVAL, h.pread, (32 << 20) + 512, 0)
refused(errno.EOVERFLOW, h.pread, (32 << 20) + 512, 0, nbd.CMD_FLAG_DF)
refused(errno.EINVAL, h.block_status, 4096, 0, lambda *a: 0)
h.pwrite(block, end - 4096, nbd.CMD_FLAG_FUA)
h.zero(4096, 0, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_FUA)
h.trim(end, 0, nbd.CMD_FLAG_FUA)
h.cache(end, 0)
h.flush()
assert h.pread(4096, end - 4096) == bytes(4096)
",
    );
    script(
        &place,
        "a@s",
        "
assert h.is_read_only()
block = bytearray(b'x' * 4096)
refused(errno.EPERM, h.pwrite, block, 0)
refused(errno.EPERM, h.trim, 4096, 0)
refused(errno.EPERM, h.zero, 4096, 0)
h.flush()
assert h.pread(4096, 0) == bytes(4096)
",
    );
}

#[test]
fn clients_without_structured_replies_and_of_the_old_kind_are_served() {
    let place = Place::new();
    place.volume("a", 8 * MIB).write_at(0, &noise(1, 1 << 20)).expect("written");
    let simple = "
h = nbd.NBD()
h.set_request_structured_replies(False)
h.set_handshake_flags(FLAGS)
h.set_export_name('a')
h.connect_uri(URI)
assert not h.get_structured_replies_negotiated() and not h.can_df()
assert h.get_protocol() == PROTOCOL
data = h.pread(1 << 20, 0)
h.pwrite(data, 2 << 20)
h.flush()
assert h.pread(2 << 20, 1 << 20) == bytes(1 << 20) + data
";
    for (flags, protocol) in
        [("3", "newstyle-fixed"), ("1", "newstyle-fixed"), ("2", "newstyle"), ("0", "newstyle")]
    {
        let text = simple.replace("FLAGS", flags).replace("PROTOCOL", &format!("'{protocol}'"));
        crate::place::run("nbdsh", &["-c", &text.replace("URI", &format!("'{}'", place.uri("a")))]);
    }
}

#[test]
fn many_requests_at_once_are_answered_in_any_order() {
    let place = Place::new();
    place.volume("a", 64 * MIB);
    script(
        &place,
        "a",
        "
import random
random.seed(7)
waiting = []
size, count = h.get_size(), 2000
expected = bytearray(size)
busy = []
def wait(n):
    while h.aio_in_flight() > n:
        h.poll(-1)
    global waiting
    waiting = [cookie for cookie in waiting if not h.aio_command_completed(cookie)]
for i in range(count):
    length = random.choice([512, 4096, 8192, 65536, 131072])
    at = random.randrange((size - length) // 512) * 512
    if any(at < b and a < at + length for a, b in busy):
        wait(0)
        busy.clear()
    busy.append((at, at + length))
    data = random.randbytes(512) * (length // 512)
    expected[at:at + length] = data
    waiting.append(h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), at))
    wait(64)
wait(0)
h.flush()
parts = []
for at in range(0, size, 1 << 20):
    part = nbd.Buffer(1 << 20)
    waiting.append(h.aio_pread(part, at))
    parts.append(part)
    wait(16)
wait(0)
assert b''.join(bytes(p.to_bytearray()) for p in parts) == bytes(expected)
",
    );
}
