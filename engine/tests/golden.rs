//! Golden pools of every published format version: what an old firn wrote, today's firn reads, to the byte.
//!
//! `golden/v1` holds two pools that the same script made (`golden/script.rs`): one was closed cleanly, of the other
//! the process died. Each is an image of its device as text, the metadata store's files, and a dump of their keys and
//! values; the second has the shared memory that the process left, too. What they hold stands at the end of this file
//! and can be followed in the script. A published version's files never change; `FIRN_GOLDEN_WRITE=1` makes them anew
//! while the version is not published yet, and what stands here is then to be compared with the script again.

#[path = "golden/codec.rs"]
mod codec;
#[path = "golden/describe.rs"]
mod describe;
#[path = "golden/driver.rs"]
mod driver;
#[path = "golden/files.rs"]
mod files;
#[path = "golden/script.rs"]
mod script;

use std::fs;
use std::path::PathBuf;

use firn_engine::check::DiscrepancyKind;
use firn_engine::checksum::checksum;
use firn_engine::error::{Kind, Result};
use firn_engine::format::{head, journal};
use firn_engine::map::store::{CheckpointState, Family, MapStore};
use firn_engine::pool::{Pool, PoolOptions};
use firn_engine::recovery::RecoveryReport;
use firn_engine::sys::boot_id;
use firn_engine::units::{BLOCK_BYTES, BLOCK_LEN};

use codec::Seen;
use describe::describe;
use driver::{BOOT, POOL, TAIL};
use files::{at, copy_store, dump, entries, golden, read_image, store_options, undump, write_image};

const POOLS: [&str; 2] = ["clean", "crashed"];

/// Whether the shared memory of the dead process is still there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The process died, or closed the pool.
    Process,
    /// The machine died.
    PowerCut,
}

/// A copy of a golden pool, to be opened.
struct Copy {
    disk: tempfile::TempDir,
    shared: tempfile::TempDir,
}

impl Copy {
    fn new(name: &str, end: End) -> Self {
        Self::damaged(name, end, |_| {})
    }

    fn damaged(name: &str, end: End, damage: impl FnOnce(&mut [u8])) -> Self {
        let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on disk");
        let shared = tempfile::tempdir_in("/dev/shm").expect("a directory in shared memory");
        let mut device = read_image(&golden(name).join("device.txt"));
        damage(&mut device);
        fs::write(disk.path().join("pool"), device).expect("written");
        copy_store(&golden(name).join("meta"), &disk.path().join("pool.meta"));
        if name == "crashed" && end == End::Process {
            let mut tail = read_image(&golden(name).join("tail.txt"));
            assert_eq!(tail[32..48], BOOT);
            // The kernel that the dead process ran under lives on.
            tail[32..48].copy_from_slice(&boot_id().expect("a boot id"));
            fs::write(shared.path().join(format!("firn-{POOL}")), tail).expect("written");
        }
        Self { disk, shared }
    }

    fn path(&self) -> PathBuf {
        self.disk.path().join("pool")
    }

    fn meta(&self) -> PathBuf {
        self.disk.path().join("pool.meta")
    }

    fn options(&self) -> PoolOptions {
        PoolOptions {
            tail_directory: Some(self.shared.path().to_owned()),
            tail: TAIL,
            store: store_options(),
            ..PoolOptions::default()
        }
    }

    fn open(&self) -> Result<Pool> {
        Pool::open(&self.path(), &self.options())
    }

    /// Nobody has it open: map, history, indexes, bitmap and every block's checksum agree.
    fn check(&self) {
        let report = Pool::check(&self.path(), &self.options(), true).expect("a check");
        assert!(report.is_clean() && report.verified_blocks > 0, "{report:?}");
    }
}

fn recovery(pool: &Pool) -> RecoveryReport {
    pool.status().expect("status").recovery
}

fn kind<T>(result: Result<T>) -> Kind {
    result.err().map(|error| error.kind()).expect("refused")
}

/// Flips a bit of the image.
fn flip(image: &mut [u8], block: u64, byte: usize) {
    image[at(block) + byte] ^= 0x10;
}

fn assert_content(pool: &Pool, db: &str, trial: &str) {
    assert_text(&describe(pool), &CONTENT.replace("{db}", db).replace("{trial}", trial), "the pool");
}

fn assert_text(found: &str, expected: &str, what: &str) {
    assert!(found == expected, "{what} holds:\n{found}\nand not:\n{expected}");
}

/// Makes the golden files anew when that is asked for:
/// `FIRN_GOLDEN_WRITE=1 cargo nextest run --release -p firn-engine --test golden written_when_asked`.
#[test]
fn golden_files_are_written_when_asked() {
    if std::env::var_os("FIRN_GOLDEN_WRITE").is_none_or(|value| value != "1") {
        return;
    }
    for name in POOLS {
        let made = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on disk");
        let tail = match name {
            "clean" => {
                script::close(made.path());
                None
            }
            _ => Some(script::crash(made.path())),
        };
        let to = golden(name);
        let _ = fs::remove_dir_all(&to);
        copy_store(&made.path().join("meta"), &to.join("meta"));
        write_image(&to.join("device.txt"), &fs::read(made.path().join("device")).expect("the device"));
        if let Some(tail) = tail {
            write_image(&to.join("tail.txt"), &tail);
        }
        let store = MapStore::open(&made.path().join("meta"), false, &store_options()).expect("the store");
        fs::write(to.join("store.txt"), dump(&entries(&store))).expect("written");
    }
}

#[test]
fn structures_are_written_again_to_the_byte() {
    for name in POOLS {
        let mut seen = Seen::default();
        let image = read_image(&golden(name).join("device.txt"));
        let superblock = codec::superblocks(&image);
        assert_eq!((superblock.pool_id, superblock.clean.is_some()), (POOL, name == "clean"));
        codec::journal(&image, &superblock, &mut seen);
        let text = fs::read_to_string(golden(name).join("store.txt")).expect("a dump");
        let stored = undump(&text);
        assert_eq!(dump(&stored), text);
        codec::store(&stored, &mut seen);
        assert_eq!(seen.operations.len(), 17, "every operation of the catalog: {:?}", seen.operations);
        let rare = [seen.beacons, seen.groups_of_records, seen.unmaps, seen.keyframes];
        assert!(rare.iter().all(|&count| count > 0), "{name} lacks something: {seen:?}");
    }
}

#[test]
fn stores_hold_what_their_dumps_say_and_are_whole() {
    for name in POOLS {
        let copy = Copy::new(name, End::PowerCut);
        let text = fs::read_to_string(golden(name).join("store.txt")).expect("a dump");
        let store = MapStore::open(&copy.meta(), false, &store_options()).expect("the store");
        assert_text(&dump(&entries(&store)), &text, name);
        drop(store);
        copy.check();
    }
}

#[test]
fn a_clean_pool_opens() {
    let copy = Copy::new("clean", End::Process);
    let pool = copy.open().expect("opened");
    assert_eq!(recovery(&pool), RecoveryReport { clean: true, ..RecoveryReport::default() });
    assert_content(&pool, DB, TRIAL);
    pool.close().expect("closed");
    copy.check();
}

/// I8: three writes were acknowledged and not flushed. Two blocks of the second and one of the third, and the journal
/// block of the third, were in shared memory only.
#[test]
fn a_dead_process_is_finished_from_shared_memory() {
    let copy = Copy::new("crashed", End::Process);
    let pool = copy.open().expect("opened");
    let expected = RecoveryReport { records: RECORDS + 3, tail_blocks: 4, ..RecoveryReport::default() };
    assert_eq!(recovery(&pool), expected);
    assert_content(&pool, DB_ALL, TRIAL_ALL);
    pool.close().expect("closed");
    copy.check();
}

/// I1, I2: what was flushed is there. Beyond it the first write had reached the device, so it counts; of the second
/// only the record had, so the journal ends before it.
#[test]
fn a_power_cut_leaves_what_is_whole() {
    let copy = Copy::new("crashed", End::PowerCut);
    let pool = copy.open().expect("opened");
    let expected = RecoveryReport {
        records: RECORDS + 1,
        cut_records: 1,
        verified_blocks: 4,
        ..RecoveryReport::default()
    };
    assert_eq!(recovery(&pool), expected);
    assert_content(&pool, DB_FIRST, TRIAL);
    pool.close().expect("closed");
    copy.check();
}

#[test]
fn a_damaged_superblock_is_written_again() {
    for (name, copy) in [("clean", 0), ("clean", 1), ("crashed", 0), ("crashed", 1)] {
        let copy = Copy::damaged(name, End::PowerCut, |device| flip(device, copy, 40));
        let pool = copy.open().expect("opened");
        let report = recovery(&pool);
        assert!(report.repaired_superblock && report.notes.len() == 1, "{name}: {report:?}");
        assert_content(&pool, if name == "clean" { DB } else { DB_FIRST }, TRIAL);
        pool.close().expect("closed");
        codec::superblocks(&fs::read(copy.path()).expect("the device"));
    }
    let both = Copy::damaged("clean", End::Process, |device| (0..2).for_each(|copy| flip(device, copy, 40)));
    assert_eq!(kind(both.open()), Kind::Damaged);
}

#[test]
fn a_pool_of_a_newer_version_is_refused() {
    // One copy is enough: an upgrade may have been interrupted between the two.
    for copies in [0..2, 0..1, 1..2] {
        let newer = Copy::damaged("clean", End::Process, |device| {
            for block in device.chunks_mut(BLOCK_LEN).take(copies.end).skip(copies.start) {
                block[8] = 2;
                block[12..16].fill(0);
                let sum = checksum(block);
                block[12..16].copy_from_slice(&sum.to_le_bytes());
            }
        });
        let before = fs::read(newer.path()).expect("the device");
        let error = newer.open().expect_err("refused");
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains("a newer firn wrote it"), "{error}");
        assert!(fs::read(newer.path()).expect("the device") == before, "it was written to");
    }
}

/// I7: a journal block at or below what a later one calls durable is damage; the last one is the torn tail.
#[test]
fn a_damaged_journal_block_is_said_or_cut() {
    let image = read_image(&golden("crashed").join("device.txt"));
    let state = undump(&fs::read_to_string(golden("crashed").join("store.txt")).expect("a dump"));
    let state = state.iter().find(|(_, key, _)| key == b"!checkpoint").expect("a checkpoint");
    let state: CheckpointState = serde_json::from_slice(&state.2).expect("JSON");
    let superblock = codec::superblocks(&image);
    let place = |sequence: u64| superblock.journal_start + sequence % superblock.journal_blocks;
    let is_there = |&sequence: &u64| journal::open(&image[at(place(sequence))..][..BLOCK_LEN]).is_ok();
    let last = (state.next_sequence..).take_while(is_there).last().expect("blocks after the checkpoint");

    for sequence in [state.next_sequence, state.next_sequence + 5] {
        for end in [End::Process, End::PowerCut] {
            let copy = Copy::damaged("crashed", end, |device| flip(device, place(sequence), 200));
            let error = copy.open().expect_err("refused");
            assert_eq!(error.kind(), Kind::Damaged, "{error}");
            assert!(error.to_string().contains("durable"), "{error}");
        }
    }
    let copy = Copy::damaged("crashed", End::PowerCut, |device| flip(device, place(last), 200));
    let pool = copy.open().expect("opened");
    assert_content(&pool, DB, TRIAL);
}

/// I4: a damaged block fails its own reads and no others.
#[test]
fn a_damaged_data_block_fails_its_reads() {
    let stored = undump(&fs::read_to_string(golden("clean").join("store.txt")).expect("a dump"));
    let page = stored.iter().find(|(family, key, _)| *family == Family::Head && key[3] == PAGE_LAYER);
    let page = head::decode(&page.expect("the page's head").2).expect("a head page").page;
    let copy = Copy::damaged("clean", End::Process, |device| flip(device, page.0[7].physical.0, 4000));
    let pool = copy.open().expect("opened");
    let volume = pool.volume("page").expect("found");
    let mut block = vec![0; BLOCK_LEN];
    assert_eq!(kind(volume.read_at(7 * BLOCK_BYTES, &mut block)), Kind::Damaged);
    for whole in [6, 8] {
        volume.read_at(whole * BLOCK_BYTES, &mut block).expect("readable");
        assert_eq!(block, driver::word(b'o', whole).repeat(512));
    }
    pool.close().expect("closed");
    let report = Pool::check(&copy.path(), &copy.options(), true).expect("a check");
    assert_eq!(
        (report.discrepancies_total, report.discrepancies[0].kind),
        (1, DiscrepancyKind::Checksum),
        "{report:?}"
    );
}

/// Records after the last checkpoint that were flushed.
const RECORDS: u64 = 25;
/// The layer of the volume `page`.
const PAGE_LAYER: u8 = 4;

// What the pools hold, as `golden/describe.rs` shows it. A view's content is its checksum, then how many blocks of
// which letter. It follows from the script: where it says `6a 1l 9a`, blocks 0 to 15 were filled with `a` on monday,
// and after the rollback to that day block 6 with `l`.

/// The volume `db` as it was flushed; with the first of the unfinished writes (v); with the second, too (w).
const DB: &str = "maps 28672 in bank-a on db@monday env=production team=payroll
    63cc6839 6a 1l 249.";
const DB_FIRST: &str = "maps 36864 in bank-a on db@monday env=production team=payroll
    9fa970fe 6a 1l 193. 2v 54.";
const DB_ALL: &str = "maps 45056 in bank-a on db@monday env=production team=payroll
    517c646f 6a 1l 193. 2v 2w 52.";
/// The volume `trial` without and with the third of them (x).
const TRIAL: &str = "maps 94208 on db@monday purpose=drill
    6af5e7ac 1. 1a 2k 12a 44. 8b 188.";
const TRIAL_ALL: &str = "maps 94208 on db@monday purpose=drill
    4ff79a69 1. 1a 2k 5a 1x 6a 44. 8b 188.";
/// Everything else.
const CONTENT: &str = "\
group bank-a created 1700000005000 tier=2: db
volume db created 1700000001000 {db}
  monday at 1.1 created 1700000011000 maps 98304 clones 2 with bank-a
    eb2ef125 16a 44. 8b 188.
  tuesday at 1.2 created 1700000023000 maps 81920 clones 0 held:audit
    ca1f046d 4a 2e 10a 44. 2b 4. 2b 188.
  before at 1.7 created 1700000090000 maps 86016 clones 0
    303ac0f6 1g 1j 2a 2e 4a 1[aaaiaaaa] 5a 44. 2b 4. 2b 60. 1h 127.
  thursday-evening at 6.8 created 1700000102000 maps 106496 clones 1
    fea34f83 6a 1l 9a 4. 2q 38. 8b 188.
volume log created 1700000003000 maps 65536 role=wal, \"quoted\" and \u{e9}
    e0017186 8c 4f 4. 1s 1. 1s 81. 2d
  monday at 2.1 created 1700000011000 maps 49152 clones 0 with bank-a kind=nightly
    3e675c42 8c 92. 4d 24.
volume trial created 1700000036000 {trial}
volume page created 1700000038000 maps 262144
    14490039 5o 1p 58o
  one at 4.4 created 1700000042000 maps 262144 clones 0
    8fae9e81 64m
  two at 4.5 created 1700000046000 maps 262144 clones 0
    3e5b684a 64n
  three at 4.6 created 1700000050000 maps 262144 clones 0
    e7d8c7cc 64o
volume copy created 1700000052000 maps 49152
    3e675c42 8c 92. 4d 24.
volume late created 1700000132000 maps 106496 on db@thursday-evening
    7bcb8ea9 1u 5a 1l 9a 4. 2q 38. 8b 188.
";
