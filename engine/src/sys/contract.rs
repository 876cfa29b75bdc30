//! What every device over a file must do, whatever drives it.

#![expect(clippy::disallowed_methods, reason = "the suite runs on the real clock and real threads")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{CreateOptions, DeviceFile, Memory, MemorySlice, OpenMode};
use crate::device::{Device, DeviceRequest};

const LONG: Duration = Duration::from_secs(20);
const BLOCK: usize = 4096;

/// A file on a real disk, gone after the test. `/tmp` may be memory, `/var/tmp` is not.
pub(super) struct Disk {
    pub(super) directory: tempfile::TempDir,
    file: Option<Arc<DeviceFile>>,
}

impl Disk {
    pub(super) fn new(bytes: u64) -> Self {
        let directory = tempfile::tempdir_in("/var/tmp").expect("a directory on disk");
        let options = CreateOptions { bytes: Some(bytes), ..CreateOptions::default() };
        let file = DeviceFile::create(&directory.path().join("pool"), &options).expect("created");
        Self { directory, file: Some(file) }
    }

    /// The open file, for the one device that uses it.
    pub(super) fn file(&self) -> Arc<DeviceFile> {
        Arc::clone(self.file.as_ref().expect("not given away"))
    }

    fn give_away(&mut self) -> Arc<DeviceFile> {
        self.file.take().expect("not given away")
    }
}

/// Runs the whole suite on devices that `open` makes.
pub(super) fn contract<D: Device + 'static>(open: impl Fn(Arc<DeviceFile>) -> D) {
    reads_back_what_was_written_at_depth(&open);
    small_requests_of_a_large_slice_stay_in_their_place(&open);
    says_when_it_reads_beyond_the_end_and_sees_it_grow(&open);
    wait_ends_with_its_timeout(&open);
    no_wake_from_another_thread_is_lost(&open);
    drop_waits_for_requests_in_flight(&open);
    the_lock_lasts_as_long_as_the_device(&open);
}

/// Submits all and waits for all; each must succeed.
pub(super) fn run(device: &mut dyn Device, requests: Vec<(u64, DeviceRequest)>) {
    let expected = requests.len();
    for (token, request) in requests {
        device.submit(token, request);
    }
    let (mut completions, start) = (Vec::new(), Instant::now());
    while completions.len() < expected {
        assert!(start.elapsed() < LONG, "{} of {expected} requests completed", completions.len());
        device.wait(Some(Duration::from_secs(1)), &mut completions);
    }
    for completion in completions {
        completion.result.expect("a request that succeeds");
    }
}

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

fn stamped(stamp: u64, blocks: usize) -> MemorySlice {
    let memory = Memory::heap(blocks * BLOCK);
    for word in 0..memory.len() / 8 {
        memory.copy_in(word * 8, &(stamp + word as u64).to_le_bytes());
    }
    MemorySlice::whole(memory)
}

fn reads_back_what_was_written_at_depth<D: Device>(open: &impl Fn(Arc<DeviceFile>) -> D) {
    const BLOCKS: u64 = 4096;
    let disk = Disk::new(BLOCKS * BLOCK as u64);
    let mut device = open(disk.file());
    assert_eq!(device.bytes(), BLOCKS * BLOCK as u64);
    let (mut numbers, mut model) = (Numbers(0x5eed), BTreeMap::new());
    for round in 0..8_u64 {
        let mut writes = BTreeMap::new();
        for index in 0..device.depth() as u64 {
            writes.insert(numbers.next(BLOCKS), (round * 1_000 + index + 1) << 32);
        }
        model.extend(&writes);
        let write = |(block, stamp): (u64, u64)| {
            (block, DeviceRequest::Write { offset: block * BLOCK as u64, from: stamped(stamp, 1) })
        };
        run(&mut device, writes.into_iter().map(write).collect());
        run(&mut device, vec![(0, DeviceRequest::Sync)]);
        device.sync_now().expect("nothing in flight").expect("synced");
    }
    for part in model.into_iter().collect::<Vec<_>>().chunks(device.depth()) {
        let reads =
            part.iter().map(|(block, stamp)| (*block, *stamp, MemorySlice::whole(Memory::heap(BLOCK))));
        let reads: Vec<_> = reads.collect();
        let request = |(block, _, into): &(u64, u64, MemorySlice)| {
            (*block, DeviceRequest::Read { offset: block * BLOCK as u64, into: into.clone() })
        };
        run(&mut device, reads.iter().map(request).collect());
        for (block, stamp, into) in reads {
            assert_eq!(into.bytes(0, BLOCK), stamped(stamp, 1).bytes(0, BLOCK), "block {block}");
        }
    }
}

fn small_requests_of_a_large_slice_stay_in_their_place<D: Device>(open: &impl Fn(Arc<DeviceFile>) -> D) {
    const BLOCKS: usize = 1024;
    let disk = Disk::new((BLOCKS * BLOCK) as u64);
    let mut device = open(disk.file());
    let (written, read) = (stamped(1, BLOCKS), MemorySlice::whole(Memory::heap(BLOCKS * BLOCK)));
    run(&mut device, vec![(0, DeviceRequest::Write { offset: 0, from: written.clone() })]);
    let part = BLOCKS * BLOCK / 128;
    let request = |index: usize| {
        let into = read.slice(index * part, part);
        (index as u64, DeviceRequest::Read { offset: (index * part) as u64, into })
    };
    run(&mut device, (0..128).map(request).collect());
    assert!(read.bytes(0, read.len()) == written.bytes(0, written.len()), "a part is somewhere else");
}

fn says_when_it_reads_beyond_the_end_and_sees_it_grow<D: Device>(open: &impl Fn(Arc<DeviceFile>) -> D) {
    let disk = Disk::new(8192);
    let mut device = open(disk.file());
    let into = MemorySlice::whole(Memory::heap(8192));
    device.submit(5, DeviceRequest::Read { offset: 4096, into: into.clone() });
    let mut completions = Vec::new();
    while completions.is_empty() {
        device.wait(None, &mut completions);
    }
    assert_eq!(completions[0].token, 5);
    let error = completions[0].result.as_ref().expect_err("beyond the end");
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);

    disk.file().grow(16_384, true).expect("grown");
    assert_eq!(device.bytes(), 8192);
    assert_eq!(device.refresh_size().expect("looked"), 16_384);
    assert_eq!(device.bytes(), 16_384);
    run(&mut device, vec![(5, DeviceRequest::Read { offset: 4096, into })]);
}

fn wait_ends_with_its_timeout<D: Device>(open: &impl Fn(Arc<DeviceFile>) -> D) {
    let disk = Disk::new(8192);
    let mut device = open(disk.file());
    let mut completions = Vec::new();
    // The first wait also sets things up.
    for limit in [0, 10, 40, 40] {
        let (limit, start) = (Duration::from_millis(limit), Instant::now());
        device.wait(Some(limit), &mut completions);
        assert!(start.elapsed() >= limit.mul_f32(0.9) && start.elapsed() < LONG / 2, "{:?}", start.elapsed());
    }
    device.waker().wake();
    let start = Instant::now();
    device.wait(None, &mut completions);
    device.wait(Some(Duration::MAX.min(LONG / 200)), &mut completions);
    assert!(start.elapsed() < LONG / 2 && completions.is_empty());
}

fn no_wake_from_another_thread_is_lost<D: Device + 'static>(open: &impl Fn(Arc<DeviceFile>) -> D) {
    const ROUNDS: u64 = 5_000;
    let disk = Disk::new(1 << 20);
    let mut device = open(disk.file());
    let (waker, asked, answered) = (device.waker(), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (question, answer) = (Arc::clone(&asked), Arc::clone(&answered));
    // Every other round has a request in flight, which may end the wait at the same moment as the wake.
    let reactor = thread::spawn(move || {
        let into = MemorySlice::whole(Memory::heap(BLOCK));
        let (mut completions, mut seen, mut in_flight, mut done) = (Vec::new(), 0, 0, 0);
        while seen < ROUNDS {
            let now = question.load(Ordering::Relaxed);
            if now > seen {
                seen = now;
                answer.store(seen, Ordering::Release);
                if seen % 2 == 0 && in_flight < 100 {
                    device.submit(seen, DeviceRequest::Read { offset: 4096, into: into.clone() });
                    in_flight += 1;
                }
                continue;
            }
            device.wait(Some(LONG), &mut completions);
            done += completions.len();
            in_flight -= completions.drain(..).filter(|completion| completion.result.is_ok()).count();
        }
        done
    });
    let start = Instant::now();
    for round in 1..=ROUNDS {
        asked.store(round, Ordering::Relaxed);
        waker.wake();
        while answered.load(Ordering::Acquire) < round {
            std::hint::spin_loop();
            assert!(start.elapsed() < LONG, "wake {round} was lost");
        }
    }
    assert!(reactor.join().expect("the reactor ends") > 0);
}

fn drop_waits_for_requests_in_flight<D: Device>(open: &impl Fn(Arc<DeviceFile>) -> D) {
    let disk = Disk::new(64 << 20);
    for count in [1, 7, 8, 64] {
        let mut device = open(disk.file());
        let memory = Memory::heap(1 << 20);
        for token in 0..count {
            let into = MemorySlice::whole(Arc::clone(&memory));
            device.submit(token, DeviceRequest::Write { offset: token << 20, from: into });
        }
        drop(device);
        assert_eq!(Arc::strong_count(&memory), 1, "a dropped device still has memory");
    }
}

fn the_lock_lasts_as_long_as_the_device<D: Device + 'static>(open: &impl Fn(Arc<DeviceFile>) -> D) {
    let mut disk = Disk::new(1 << 20);
    let device = open(disk.give_away());
    let path = disk.directory.path().join("pool");
    let short = Duration::from_millis(60);
    let refused = DeviceFile::open_within(&path, OpenMode::ReadOnly, short).expect_err("it is locked");
    assert_eq!(refused.kind(), crate::error::Kind::Conflict);
    assert!(
        refused.to_string().contains("pool") && refused.next_step().is_some_and(|hint| hint.contains("firn"))
    );

    let holder = thread::spawn(move || {
        thread::sleep(Duration::from_millis(150));
        drop(device);
    });
    drop(DeviceFile::open(&path, OpenMode::ReadWrite).expect("opened once the other let go"));
    holder.join().expect("dropped");
}
