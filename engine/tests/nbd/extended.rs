//! Extended headers: lengths of 64 bits, and payloads that requests bring although nobody uses them.

use firn_engine::export::nbd::protocol::handshake::{ContextQuery, option, reply};
use firn_engine::export::nbd::protocol::transmission::{
    self, ChunkHeader, EXTENDED_CHUNK_HEADER_BYTES, Request, StatusExtent, chunk, command, command_flags,
};
use firn_engine::export::nbd::protocol::{Reader, errno};

use crate::client::Client;
use crate::place::{MIB, Place, assert_same, noise, run};

const TIB: u64 = 1 << 40;

/// A connection that asked for extended headers.
struct Extended(Client);

impl Extended {
    /// Enters an export and chooses `base:allocation`.
    fn entered(place: &Place, export: &str) -> Self {
        let mut client = Client::greeted(place);
        assert_eq!(client.ask(option::EXTENDED_HEADERS, &[]), reply::ACK);
        let query = ContextQuery { name: export, queries: vec!["base:allocation"] };
        assert_eq!(client.ask(option::SET_META_CONTEXT, &query.encode()), reply::ACK);
        Self(client.go(export))
    }

    fn send(&mut self, command: u16, flags: u16, offset: u64, length: u64, payload: &[u8]) -> Request {
        let request =
            Request { extended: true, flags, command, cookie: offset.wrapping_mul(31) ^ 7, offset, length };
        self.0.send(&request.encode());
        self.0.send(payload);
        request
    }

    /// The chunks of the next reply, which must be to this request: (kind, payload).
    fn chunks(&mut self, request: &Request) -> Vec<(u16, Vec<u8>)> {
        let mut chunks = Vec::new();
        loop {
            let bytes = self.0.read::<EXTENDED_CHUNK_HEADER_BYTES>();
            let (header, offset) = ChunkHeader::decode_extended(&bytes).expect("a chunk");
            assert_eq!((header.cookie, offset), (request.cookie, request.offset));
            chunks.push((header.kind, self.0.read_vec(usize::try_from(header.length).expect("short"))));
            if header.flags & chunk::DONE != 0 {
                return chunks;
            }
        }
    }

    /// The error number of a request that is answered by nothing else.
    fn ask(&mut self, command: u16, flags: u16, offset: u64, length: u64, payload: &[u8]) -> u32 {
        let request = self.send(command, flags, offset, length, payload);
        match &self.chunks(&request)[..] {
            [(chunk::NONE, payload)] if payload.is_empty() => 0,
            [(chunk::ERROR, payload)] => transmission::read_error(payload).expect("an error").0,
            other => panic!("{other:?}"),
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> u32 {
        self.ask(command::WRITE, command_flags::PAYLOAD_LEN, offset, data.len() as u64, data)
    }

    fn read(&mut self, offset: u64, length: u64) -> Vec<u8> {
        let request = self.send(command::READ, 0, offset, length, &[]);
        let mut data = vec![0xff; usize::try_from(length).expect("short")];
        let mut left = length;
        for (kind, payload) in self.chunks(&request) {
            let mut reader = Reader::new(&payload);
            let at = usize::try_from(reader.u64().expect("an offset") - offset).expect("in the range");
            let bytes = if kind == chunk::OFFSET_HOLE {
                let bytes = usize::try_from(reader.u32().expect("a length")).expect("short");
                data[at..at + bytes].fill(0);
                bytes
            } else {
                assert_eq!(kind, chunk::OFFSET_DATA);
                data[at..at + reader.rest().len()].copy_from_slice(reader.rest());
                reader.rest().len()
            };
            left -= bytes as u64;
        }
        assert_eq!(left, 0, "the chunks are not all of it");
        data
    }

    fn status(&mut self, offset: u64, length: u64) -> Vec<(u64, u32)> {
        let request = self.send(command::BLOCK_STATUS, 0, offset, length, &[]);
        let chunks = self.chunks(&request);
        let [(chunk::BLOCK_STATUS_EXT, payload)] = &chunks[..] else { panic!("{chunks:?}") };
        let (context, extents) = transmission::read_status_extended(payload).expect("extents");
        assert_eq!(context, 0);
        extents.into_iter().map(|StatusExtent { bytes, status }| (bytes, status)).collect()
    }
}

#[test]
fn one_request_may_cover_more_than_4_gib() {
    let place = Place::new();
    let volume = place.volume("a", 8 * TIB);
    let mut client = Extended::entered(&place, "a");
    assert_eq!(client.status(0, 8 * TIB), [(8 * TIB, 3)]);
    let (small, large) = (noise(1, 4096), noise(2, 1 << 20));
    assert_eq!(client.write(4096, &small), 0);
    assert_eq!(client.write(6 * TIB, &large), 0);
    let written = [(4096, 3), (4096, 0), (6 * TIB - 8192, 3), (MIB, 0), (2 * TIB - MIB, 3)];
    assert_eq!(client.status(0, 8 * TIB), written, "what is written lately");
    place.pool.checkpoint().expect("made");
    assert_eq!(client.status(0, 8 * TIB), written, "what the store has");
    assert_same(&client.read(6 * TIB - 128 * 1024, 2 << 20)[128 << 10..][..1 << 20], &large, "read");
    assert_eq!(client.ask(command::TRIM, 0, 8192, 7 * TIB, &[]), 0);
    assert_eq!(client.status(0, 8 * TIB), [(4096, 3), (4096, 0), (8 * TIB - 8192, 3)]);
    assert_eq!(client.ask(command::WRITE_ZEROES, command_flags::FUA, 0, 8 * TIB, &[]), 0);
    assert_eq!(client.status(0, 8 * TIB), [(8 * TIB, 3)]);
    assert_same(&client.read(0, 65_536), &[0; 65_536], "zeros");
    assert_eq!(client.ask(command::CACHE, 0, 0, 8 * TIB, &[]), 0);
    assert_eq!(client.ask(command::FLUSH, 0, 0, 0, &[]), 0);
    place.pool.checkpoint().expect("made");
    assert_eq!(volume.info().expect("known").mapped_bytes, 0);
}

/// A volume in use: each answer may end early, but never at its beginning, and all together are right.
#[test]
fn a_question_about_more_than_is_looked_at_is_answered_in_part() {
    let place = Place::new();
    place.volume("a", 8 * TIB);
    let mut client = Extended::entered(&place, "a");
    const WRITES: u64 = 20_000;
    const APART: u64 = 1 << 28;
    let block = noise(3, 4096);
    for at in 0..WRITES {
        assert_eq!(client.write(at * APART, &block), 0);
    }
    let (mut offset, mut answers, mut data) = (0, 0, 0);
    while offset < 8 * TIB {
        let extents = client.status(offset, 8 * TIB - offset);
        answers += 1;
        for (bytes, status) in extents {
            let is_data = offset.is_multiple_of(APART) && offset / APART < WRITES;
            assert_eq!((status, bytes == 4096), (if is_data { 0 } else { 3 }, is_data), "at {offset}");
            data += u64::from(is_data);
            offset += bytes;
        }
    }
    assert_eq!((offset, data), (8 * TIB, WRITES));
    // 40,000 extents, of which one answer has 4096.
    assert!((10..=13).contains(&answers), "{answers} answers");
}

#[test]
fn what_cannot_be_is_refused_and_the_connection_goes_on() {
    let place = Place::new();
    place.volume("a", 64 * MIB);
    let mut client = Extended::entered(&place, "a");
    let flag = command_flags::PAYLOAD_LEN;
    // Payloads that nobody uses: small, and too large for the buffer.
    for payload in [vec![0xaa; 24], vec![0x5a; 200_000]] {
        for command in [command::BLOCK_STATUS, command::TRIM, command::READ, command::FLUSH, 99] {
            let length = payload.len() as u64;
            assert_eq!(client.ask(command, flag, 4096, length, &payload), errno::EINVAL, "{command}");
        }
    }
    let end = u64::MAX - 511;
    let table = [
        (command::READ, 0, (32 << 20) + 512, errno::EINVAL),
        (command::READ, 0, end, errno::EINVAL),
        (command::TRIM, 512, end, errno::EINVAL),
        (command::TRIM, 0, 65 * MIB, errno::EINVAL),
        (command::WRITE_ZEROES, end, end, errno::ENOSPC),
        (command::BLOCK_STATUS, 0, end, errno::EINVAL),
        (command::CACHE, 4096, end, errno::EINVAL),
        (command::READ, 0, 0, errno::EINVAL),
        (command::WRITE, 0, 0, errno::EINVAL),
    ];
    for (command, offset, length, expected) in table {
        assert_eq!(client.ask(command, 0, offset, length, &[]), expected, "{command} {offset} {length}");
    }
    // The flag is forgotten, and the write understood all the same.
    let data = noise(4, 512);
    assert_eq!(client.ask(command::WRITE, 0, MIB, 512, &data), 0);
    assert_same(&client.read(MIB, 512), &data, "written without the flag");
    client.send(command::TRIM, flag, 0, u64::MAX, &[]);
    assert!(client.0.is_closed(), "a payload that never ends");
    let mut compact = Extended::entered(&place, "a");
    compact.0.request(command::FLUSH, 0, 0);
    compact.0.send(&[0; 4]);
    assert!(compact.0.is_closed(), "a request of the short kind");
    drop((client, compact));
    place.wait_until(|statistics| statistics.connections_open == 0 && statistics.bytes_in_memory == 0);
}

/// A goodbye with a payload once kept its memory for as long as the client did not read its answers.
#[test]
fn a_goodbye_lets_go_of_what_it_brought() {
    let place = Place::new();
    place.volume("a", MIB);
    let mut client = Extended::entered(&place, "a");
    // More answers than the socket takes, and fewer than are too many to go on.
    (0..4000).for_each(|_| _ = client.send(99, 0, 0, 512, &[]));
    client.send(command::DISC, command_flags::PAYLOAD_LEN, 0, 32 * MIB, &vec![0; 32 << 20]);
    place.wait_until(|statistics| statistics.bytes_in_memory == 0);
    assert_eq!(place.server().statistics().connections_open, 1, "it waits until its answers are taken");
    assert!(client.0.is_closed());
}

#[test]
fn extended_headers_exclude_what_cannot_be_with_them() {
    let place = Place::new();
    place.volume("a", MIB);
    let mut client = Client::greeted(&place);
    assert_eq!(client.ask(option::STRUCTURED_REPLY, &[]), reply::ACK);
    assert_eq!(client.ask(option::EXTENDED_HEADERS, &[]), reply::ACK);
    assert_eq!(client.ask(option::EXTENDED_HEADERS, &[]), reply::ACK, "said again");
    assert_eq!(client.ask(option::STRUCTURED_REPLY, &[]), reply::ERR_EXT_HEADER_REQD);
    client.option(option::EXPORT_NAME, b"a");
    assert!(client.is_closed(), "its answer says nothing of headers");
}

/// qemu speaks it from 8.2 on: then a range of 6 GiB is one request, else several.
#[test]
fn qemu_asks_for_more_than_4_gib_at_once() {
    let version = run("qemu-io", &["--version"]);
    let number = |at: usize| {
        let words = version.split([' ', '.']).filter(|word| word.parse::<u32>().is_ok());
        words.map(|word| word.parse::<u32>().expect("a number")).nth(at).expect("a version")
    };
    let is_extended = (number(0), number(1)) >= (8, 2);
    let place = Place::new();
    let volume = place.volume("a", 16 << 30);
    volume.write_at(0, &noise(5, 8192)).expect("written");
    volume.write_at(5 << 30, &noise(6, 8192)).expect("written");
    let uri = place.uri("a");
    let counted = || {
        let statistics = place.server().statistics();
        let volume = statistics.volumes.iter().find(|volume| volume.name == "a").expect("it is there");
        (volume.unmaps.requests, volume.others.requests, volume.unmaps.errors + volume.others.errors)
    };
    let map = || {
        let said = run("qemu-img", &["map", "--output=json", "-f", "raw", &uri]);
        let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        let data = said.as_array().expect("a list").iter().filter(|extent| extent["data"] == true);
        data.map(|extent| extent["start"].as_u64().expect("a number")).collect::<Vec<_>>()
    };
    assert_eq!(map(), [0, 5 << 30]);
    let (_, asked, _) = counted();
    let most = if is_extended { 8 } else { 20 };
    assert!((1..=most).contains(&asked), "qemu {version} asked {asked} times");
    if is_extended {
        run("qemu-io", &["-f", "raw", "-c", "write -z -n -u 4k 6G", "-c", "write -z -n 8G 6G", &uri]);
        let (unmaps, _, errors) = counted();
        assert_eq!((unmaps, errors), (2, 0), "qemu {version}");
    } else {
        run("qemu-io", &["-f", "raw", "-c", "discard 4k 1G", "-c", "write -z 5G 1G", &uri]);
    }
    assert_eq!(map(), [0]);
    run("qemu-io", &["-f", "raw", "-c", "write -P 7 9G 3M", "-c", "flush", "-c", "read -P 7 9G 3M", &uri]);
    assert_eq!(map(), [0, 9 << 30]);
}
