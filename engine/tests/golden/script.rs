//! What was done to the golden pools. It uses every operation of the catalog, every kind of record and key, and ends
//! in a crash with three writes under way, or in a clean close.

use std::path::Path;

use firn_engine::catalog::{Operation, SnapshotKey, Subject, Tags};
use firn_engine::core::Request;
use firn_engine::device::DeviceRequest;
use firn_engine::units::{BLOCK_BYTES, GroupId, VolumeId};

use crate::driver::{Driver, word};

/// Makes the pool that was closed cleanly.
pub(crate) fn close(directory: &Path) {
    let mut driver = Driver::create(directory);
    checkpointed(&mut driver);
    journaled(&mut driver);
    driver.close();
}

/// Makes the pool whose process died. Returns what it left in shared memory.
pub(crate) fn crash(directory: &Path) -> Vec<u8> {
    let mut driver = Driver::create(directory);
    checkpointed(&mut driver);
    journaled(&mut driver);
    unfinished(&mut driver);
    let memory = driver.tail.clone();
    drop(driver);
    memory.bytes(0, memory.len()).to_vec()
}

fn tags(pairs: &[(&str, &str)]) -> Tags {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn key(driver: &Driver, volume: &str, snapshot: &str) -> SnapshotKey {
    let catalog = driver.core.catalog();
    catalog.snapshot_named(catalog.volume_named(volume).expect("a volume"), snapshot).expect("a snapshot").key
}

fn create(driver: &mut Driver, name: &str, blocks: u64, tags: Tags) {
    let (id, layer, name) = (VolumeId(driver.new_id()), driver.new_layer(), name.to_owned());
    driver.change(move |_, created_ms| Operation::VolumeCreate {
        id,
        layer,
        name,
        bytes: blocks * BLOCK_BYTES,
        created_ms,
        tags,
    });
}

fn snapshot(driver: &mut Driver, volumes: &[&str], name: &str, group: Option<GroupId>, tags: Tags) {
    let volumes = volumes.iter().map(|volume| driver.id(volume)).collect();
    let name = name.to_owned();
    driver.change(move |catalog, created_ms| Operation::Snapshot {
        epoch: catalog.epoch(),
        name,
        created_ms,
        volumes,
        group,
        tags,
    });
}

fn clone(driver: &mut Driver, volume: &str, origin: &str, name: &str, tags: Tags) {
    let origin = key(driver, volume, origin);
    let (id, layer, name) = (VolumeId(driver.new_id()), driver.new_layer(), name.to_owned());
    driver.change(move |_, created_ms| Operation::Clone { id, layer, name, origin, created_ms, tags });
}

fn roll_back(driver: &mut Driver, volume: &str, to: &str, displaced: &str) {
    let (id, to, layer) = (driver.id(volume), key(driver, volume, to), driver.new_layer());
    let displaced_name = displaced.to_owned();
    driver.change(move |catalog, created_ms| Operation::Rollback {
        id,
        layer,
        to,
        epoch: catalog.epoch(),
        displaced_name,
        created_ms,
    });
}

fn operate(driver: &mut Driver, operation: Operation) {
    driver.change(|_, _| operation);
}

/// What checkpoints hold.
fn checkpointed(driver: &mut Driver) {
    create(driver, "db", 256, tags(&[("env", "production"), ("team", "payroll")]));
    create(driver, "log", 128, Tags::new());
    let bank = GroupId(driver.new_id());
    driver.change(move |_, created_ms| Operation::GroupCreate {
        id: bank,
        name: "bank".to_owned(),
        created_ms,
        tags: tags(&[("tier", "1")]),
    });
    for volume in ["db", "log"] {
        let volume = driver.id(volume);
        operate(driver, Operation::GroupAssign { volume, group: Some(bank) });
    }
    driver.fill("db", 0..16, b'a');
    driver.fill("db", 60..68, b'b');
    driver.fill("log", 0..8, b'c');
    driver.fill("log", 100..104, b'd');
    snapshot(driver, &["db", "log"], "monday", Some(bank), tags(&[("kind", "nightly")]));
    driver.fill("db", 4..6, b'e');
    driver.unmap("db", 62..66);
    driver.fill("log", 8..12, b'f');
    driver.checkpoint();
    snapshot(driver, &["db"], "tuesday", None, Tags::new());
    let tuesday = key(driver, "db", "tuesday");
    operate(driver, Operation::SnapshotHold { key: tuesday, reason: "audit".to_owned() });
    operate(driver, Operation::SnapshotHold { key: tuesday, reason: "transfer-7".to_owned() });
    driver.fill("db", 0..2, b'g');
    driver.fill("db", 128..129, b'h');
    let sector = driver.writing("db", 10 * BLOCK_BYTES + 3 * 512, &word(b'i', 10).repeat(64));
    driver.done(sector);
    // A snapshot that is gone before a checkpoint: its point is still where an interval begins.
    snapshot(driver, &["db"], "wednesday", None, Tags::new());
    driver.fill("db", 1..2, b'j');
    let wednesday = key(driver, "db", "wednesday");
    operate(driver, Operation::SnapshotDelete { key: wednesday });
    clone(driver, "db", "monday", "test", tags(&[("purpose", "drill")]));
    driver.fill("test", 2..4, b'k');
    driver.unmap("test", 0..1);
    keyframes(driver);
    // What a detach does first: a checkpoint holds that the clone shares nothing any more.
    clone(driver, "log", "monday", "copy", Tags::new());
    driver.rewrite("copy", 0..8);
    driver.rewrite("copy", 100..104);
    driver.checkpoint();
    roll_back(driver, "db", "monday", "before");
    driver.fill("db", 6..7, b'l');
    driver.checkpoint();
}

/// A page that every snapshot sees otherwise, so that a keyframe is due.
fn keyframes(driver: &mut Driver) {
    create(driver, "page", 64, Tags::new());
    for (letter, name) in [(b'm', "one"), (b'n', "two"), (b'o', "three")] {
        (0..64).step_by(16).for_each(|block| driver.fill("page", block..block + 16, letter));
        snapshot(driver, &["page"], name, None, Tags::new());
    }
    driver.fill("page", 5..6, b'p');
}

/// What the journal holds beyond them, all of it durable.
fn journaled(driver: &mut Driver) {
    driver.fill("db", 20..22, b'q');
    snapshot(driver, &["db"], "thursday", None, Tags::new());
    driver.fill("db", 20..21, b'r');
    driver.unmap("db", 7..70);
    // Zeros between data become a hole, in one group of records.
    let mut mixed =
        [word(b's', 16).repeat(512), word(b's', 17).repeat(512), word(b's', 18).repeat(512)].concat();
    mixed[4096..8192].fill(0);
    let mixed = driver.writing("log", 16 * BLOCK_BYTES, &mixed);
    driver.done(mixed);

    let (log, test) = (driver.id("log"), driver.id("test"));
    operate(driver, Operation::VolumeResize { id: log, bytes: 102 * BLOCK_BYTES });
    operate(driver, Operation::VolumeRename { id: test, name: "trial".to_owned() });
    operate(driver, Operation::GroupAssign { volume: log, group: None });
    let tag = |subject, key: &str, value: Option<&str>| Operation::Tag {
        subject,
        key: key.to_owned(),
        value: value.map(ToOwned::to_owned),
    };
    operate(driver, tag(Subject::Volume(log), "role", Some("wal, \"quoted\" and \u{e9}")));
    let (monday, thursday) = (key(driver, "db", "monday"), key(driver, "db", "thursday"));
    operate(driver, tag(Subject::Snapshot(monday), "kind", None));
    let bank = driver.core.catalog().group_named("bank").expect("a group").id;
    operate(driver, tag(Subject::Group(bank), "tier", Some("2")));
    operate(driver, Operation::GroupRename { id: bank, name: "bank-a".to_owned() });
    operate(driver, Operation::SnapshotRename { key: thursday, name: "thursday-evening".to_owned() });
    let tuesday = key(driver, "db", "tuesday");
    operate(driver, Operation::SnapshotRelease { key: tuesday, reason: "transfer-7".to_owned() });

    let spare = GroupId(driver.new_id());
    driver.change(move |_, created_ms| Operation::GroupCreate {
        id: spare,
        name: "spare".to_owned(),
        created_ms,
        tags: Tags::new(),
    });
    operate(driver, Operation::GroupDelete { id: spare });
    create(driver, "scratch", 16, Tags::new());
    driver.fill("scratch", 0..4, b't');
    let scratch = driver.id("scratch");
    operate(driver, Operation::VolumeDelete { id: scratch });
    let copy = driver.id("copy");
    let layer = driver.core.catalog().volume(copy).expect("a volume").layer;
    operate(driver, Operation::CloneDetach { layer });
    clone(driver, "db", "thursday-evening", "late", Tags::new());
    driver.fill("late", 0..1, b'u');
    driver.done(Request::Flush);
    driver.wait_for_beacon();
}

/// Three writes that were acknowledged, none of them flushed: the device has the first one's data and the records of
/// the first and second. The third is only in shared memory.
fn unfinished(driver: &mut Driver) {
    driver.fill("db", 200..202, b'v');
    driver.turn(&|_| false);
    let second = driver.filling("db", 202..204, b'w');
    driver.submit(second);
    driver.submit(Request::Flush);
    let is_data = |request: &DeviceRequest| match request {
        DeviceRequest::Write { offset, .. } => *offset >= 80 * BLOCK_BYTES,
        _ => true,
    };
    driver.turn(&is_data);
    let third = driver.filling("trial", 9..10, b'x');
    driver.submit(third);
    driver.turn(&|_| true);
    let answered = driver.core.take_completions();
    assert_eq!(answered.len(), 2, "both writes were acknowledged, the flush was not");
}
