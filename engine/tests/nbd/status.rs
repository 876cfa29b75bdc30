//! Metadata contexts: allocation, depth, and what changed since a snapshot.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use firn_engine::catalog::Tags;
use firn_engine::volume::Volume;

use crate::place::{MIB, Place, noise, run};

/// The extents that nbdinfo shows of a context: (offset, length, status).
fn map(place: &Place, export: &str, context: &str) -> Vec<(u64, u64, u64)> {
    let said = run("nbdinfo", &["--json", &format!("--map={context}"), &place.uri(export)]);
    let extents: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let number = |extent: &serde_json::Value, name: &str| extent[name].as_u64().expect("a number");
    let list = extents.as_array().expect("a list").iter();
    list.map(|extent| (number(extent, "offset"), number(extent, "length"), number(extent, "type"))).collect()
}

const BLOCK: u64 = 4096;

#[test]
fn allocation_tells_data_from_holes_at_every_point() {
    let place = Place::new();
    let volume = place.volume("a", 8 * MIB);
    assert_eq!(map(&place, "a", "base:allocation"), [(0, 8 * MIB, 3)]);
    volume.write_at(BLOCK, &noise(1, 8192)).expect("written");
    volume.write_at(MIB, &noise(2, 4096)).expect("written");
    let before = [
        (0, BLOCK, 3),
        (BLOCK, 8192, 0),
        (3 * BLOCK, MIB - 3 * BLOCK, 3),
        (MIB, BLOCK, 0),
        (MIB + BLOCK, 7 * MIB - BLOCK, 3),
    ];
    assert_eq!(map(&place, "a", "base:allocation"), before);
    volume.snapshot("s", Tags::new()).expect("taken");
    volume.unmap(0, 4 * MIB).expect("unmapped");
    volume.write_at(8 * MIB - BLOCK, &noise(3, 4096)).expect("written");
    // At once: an answer that was remembered must not be given for a volume that has changed.
    let after = [(0, 8 * MIB - BLOCK, 3), (8 * MIB - BLOCK, BLOCK, 0)];
    assert_eq!(map(&place, "a", "base:allocation"), after);
    assert_eq!(map(&place, "a@s", "base:allocation"), before);
}

#[test]
fn dirty_bitmaps_tell_what_changed_since_a_snapshot() {
    let place = Place::new();
    let volume = place.volume("a", 8 * MIB);
    volume.write_at(0, &noise(1, 1 << 20)).expect("written");
    volume.snapshot("one", Tags::new()).expect("taken");
    volume.write_at(2 * BLOCK, &noise(2, 4096)).expect("written");
    volume.unmap(16 * BLOCK, 4 * BLOCK).expect("unmapped");
    volume.snapshot("two", Tags::new()).expect("taken");
    volume.write_at(4 * MIB, &noise(3, 4096)).expect("written");
    let clean = |from: u64, to: u64| (from, to - from, 0);
    let dirty = |from: u64, blocks: u64| (from, blocks * BLOCK, 1);
    let one_to_two = [
        clean(0, 2 * BLOCK),
        dirty(2 * BLOCK, 1),
        clean(3 * BLOCK, 16 * BLOCK),
        dirty(16 * BLOCK, 4),
        clean(20 * BLOCK, 8 * MIB),
    ];
    assert_eq!(map(&place, "a@two", "qemu:dirty-bitmap:one"), one_to_two);
    let two_to_now = [clean(0, 4 * MIB), dirty(4 * MIB, 1), clean(4 * MIB + BLOCK, 8 * MIB)];
    assert_eq!(map(&place, "a", "qemu:dirty-bitmap:two"), two_to_now);
    let one_to_now = [&one_to_two[..4], &[clean(20 * BLOCK, 4 * MIB)], &two_to_now[1..]].concat();
    assert_eq!(map(&place, "a", "qemu:dirty-bitmap:one"), one_to_now);
}

#[test]
fn depth_tells_which_layer_holds_the_data() {
    let place = Place::new();
    let volume = place.volume("a", 8 * MIB);
    volume.write_at(0, &noise(1, 1 << 20)).expect("written");
    let first = volume.snapshot("s", Tags::new()).expect("taken");
    let clone = first.clone_to("b", Tags::new()).expect("cloned");
    clone.write_at(0, &noise(2, 4096)).expect("written");
    clone.unmap(4 * BLOCK, 2 * BLOCK).expect("unmapped");
    let second = clone.snapshot("s", Tags::new()).expect("taken");
    let top = second.clone_to("c", Tags::new()).expect("cloned");
    top.write_at(2 * BLOCK, &noise(3, 4096)).expect("written");
    let expected = [
        (0, BLOCK, 2),
        (BLOCK, BLOCK, 3),
        (2 * BLOCK, BLOCK, 1),
        (3 * BLOCK, BLOCK, 3),
        (4 * BLOCK, 2 * BLOCK, 0),
        (6 * BLOCK, MIB - 6 * BLOCK, 3),
        (MIB, 7 * MIB, 0),
    ];
    assert_eq!(map(&place, "c", "qemu:allocation-depth"), expected);
}

#[test]
fn contexts_are_listed_by_name_and_by_beginning() {
    let place = Place::new();
    let volume = place.volume("a", 8 * MIB);
    volume.snapshot("one", Tags::new()).expect("taken");
    volume.snapshot("two", Tags::new()).expect("taken");
    let script = "
h = nbd.NBD()
h.set_opt_mode(True)
h.connect_uri(URI)
def listed(*queries):
    found = []
    h.clear_meta_contexts()
    for query in queries:
        h.add_meta_context(query)
    h.opt_list_meta_context(lambda name: found.append(name))
    return found
all = ['base:allocation', 'qemu:allocation-depth', 'qemu:dirty-bitmap:one', 'qemu:dirty-bitmap:two']
assert listed() == all
assert listed('base:') == all[:1]
assert listed('qemu:') == all[1:]
assert listed('qemu:dirty-bitmap:') == all[2:]
assert listed('qemu:dirty-bitmap:one', 'base:allocation', 'x:y') == [all[0], all[2]]
assert listed('qemu:dirty-bitmap') == []
h.clear_meta_contexts()
for query in ['qemu:', 'qemu:dirty-bitmap:two', 'nothing:']:
    h.add_meta_context(query)
h.opt_go()
assert h.can_meta_context(all[3]) and not h.can_meta_context(all[0])
entries = []
h.block_status(8 << 20, 0, lambda name, offset, e, error: entries.append((name, e)))
assert entries == [(all[3], [8 << 20, 0])], entries
h.pwrite(bytearray(b'x' * 4096), 4096)
entries.clear()
h.block_status(8 << 20, 0, lambda name, offset, e, error: entries.append((name, e)), nbd.CMD_FLAG_REQ_ONE)
assert entries == [(all[3], [4096, 0])], entries
entries.clear()
h.block_status(1024, 4096 + 512, lambda name, offset, e, error: entries.append((name, e)))
assert entries == [(all[3], [1024, 1])], entries
";
    run("nbdsh", &["-c", &script.replace("URI", &format!("'{}'", place.uri("a")))]);
    // The snapshots were kept for the connection, and are let go with it.
    place.wait_until(|statistics| statistics.connections_open == 0);
    for name in ["one", "two"] {
        volume.snapshot_named(name).and_then(|snapshot| snapshot.delete()).expect("deleted");
    }
}

/// Writes, trims and asks at random, and holds every answer against a model, of a clone with a snapshot of its own. SEED
/// and ROUNDS are set before it.
const ASKING: &str = "
import random
random.seed(SEED)
BLOCKS = 2048
layer = [2 if 100 <= block < 1500 else 0 for block in range(BLOCKS)]
held = list(layer)
touched = [False] * BLOCKS
def hit(first, count, now):
    for block in range(first, first + count):
        layer[block] = now
        touched[block] = True
def ask(h):
    first = random.randrange(BLOCKS)
    count = random.choice([1, 7, 64, 500, BLOCKS])
    count = min(count, BLOCKS - first)
    said = {}
    def take(name, offset, entries, error):
        blocks = []
        for length, status in zip(entries[::2], entries[1::2]):
            assert length % 4096 == 0
            blocks += [status] * (length // 4096)
        said[name] = blocks
    h.block_status(count * 4096, first * 4096, take)
    for name, blocks in said.items():
        assert 0 < len(blocks) <= count, (name, len(blocks), count)
        for at, status in enumerate(blocks, first):
            if name == 'base:allocation':
                expected = 0 if layer[at] else 3
            elif name == 'qemu:allocation-depth':
                expected = layer[at]
            else:
                expected = 1 if touched[at] and (layer[at] or held[at]) else 0
            assert status == expected, (name, at, status, expected, SEED)
    assert len(said) == 3, said.keys()
h = nbd.NBD()
for name in ['base:allocation', 'qemu:allocation-depth', 'qemu:dirty-bitmap:one']:
    h.add_meta_context(name)
h.connect_uri(URI)
for round in range(ROUNDS):
    for _ in range(random.randrange(4)):
        first = random.randrange(BLOCKS)
        count = min(random.choice([1, 1, 3, 16, 200]), BLOCKS - first)
        if random.random() < 0.6:
            count = min(count, 16)
            h.pwrite(bytes([1 + round % 250]) * (count * 4096), first * 4096)
            hit(first, count, 1)
        else:
            h.trim(count * 4096, first * 4096)
            hit(first, count, 0)
    ask(h)
";

/// The export `b`: a clone, of whose 8 MiB the blocks from 100 to before 1500 are its origin's, with a snapshot `one`.
fn clone_to_ask(place: &Place) -> Volume {
    let origin = place.volume("a", 8 * MIB);
    origin.write_at(100 * BLOCK, &noise(1, 1400 * 4096)).expect("written");
    let clone = origin.snapshot("s", Tags::new()).and_then(|s| s.clone_to("b", Tags::new())).expect("cloned");
    clone.snapshot("one", Tags::new()).expect("taken");
    clone
}

fn ask(place: &Place, seed: u64, rounds: u32) {
    let script = ASKING.replace("SEED", &seed.to_string()).replace("ROUNDS", &rounds.to_string());
    run("nbdsh", &["-c", &script.replace("URI", &format!("'{}'", place.uri("b")))]);
}

/// Each question about a volume in use once made a checkpoint: a backup that asked for one extent after the other had
/// the pool write its map thousands of times.
#[test]
fn questions_about_a_volume_in_use_make_no_checkpoint() {
    let place = Place::new();
    clone_to_ask(&place);
    let checkpoints = || place.pool.status().expect("open").statistics.checkpoints;
    let before = checkpoints();
    ask(&place, 5, 600);
    // The first makes one for each context, and time makes one a minute.
    assert!(checkpoints() - before <= 5, "{} for 1800 questions", checkpoints() - before);
}

/// The answers are as exact while checkpoints are made, snapshots come and go, and another volume is written.
#[test]
fn questions_are_answered_exactly_whatever_else_goes_on() {
    let place = Place::new();
    let clone = clone_to_ask(&place);
    let other = place.pool.volume("a").expect("there");
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0_u64.. {
                if is_done.load(Ordering::Relaxed) {
                    break;
                }
                other.write_at(turn % 2000 * BLOCK, &noise(turn, 4096)).expect("written");
                match turn % 40 {
                    7 => drop(other.snapshot(&format!("t{turn}"), Tags::new()).expect("taken")),
                    17 => drop(clone.snapshot("passing", Tags::new()).expect("taken")),
                    37 => clone.snapshot_named("passing").and_then(|one| one.delete()).expect("deleted"),
                    turn if turn % 3 == 0 => place.pool.checkpoint().expect("made"),
                    _ => {}
                }
            }
        });
        // The other thread ends whatever becomes of the questions.
        let asked = catch_unwind(AssertUnwindSafe(|| ask(&place, 77, 2000)));
        is_done.store(true, Ordering::Relaxed);
        asked.unwrap_or_else(|panic| resume_unwind(panic));
    });
}
