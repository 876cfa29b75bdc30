//! Snapshots, groups and rollbacks, and what is noted on them.

use firn_engine::catalog::Tags;
use firn_engine::error::Kind;
use firn_engine::sys::DeviceKind;

use crate::place::{MIB, Place, assert_same, kind, pattern, read, settle};

#[test]
fn names_tags_holds_and_pins() {
    let place = Place::new(DeviceKind::Auto);
    let pool = place.create(64 * MIB);
    let volume = pool.create_volume("a", MIB, Tags::from([("env".into(), "test".into())])).expect("created");
    assert_eq!(kind(pool.create_volume("a", MIB, Tags::new())), Kind::Conflict);
    assert_eq!(kind(pool.create_volume("-", MIB, Tags::new())), Kind::Invalid);
    assert_eq!(kind(pool.create_volume("b", 512, Tags::new())), Kind::Invalid);
    volume.rename("b").expect("renamed");
    assert_eq!(kind(pool.volume("a")), Kind::NotFound);
    volume.tag("tier", "gold").expect("tagged");
    volume.untag("env").expect("untagged");
    let info = pool.volume("b").expect("found").info().expect("info");
    assert_eq!((info.name.as_str(), info.tags), ("b", Tags::from([("tier".into(), "gold".into())])));

    let snapshot = volume.snapshot("s", Tags::new()).expect("taken");
    assert_eq!(kind(volume.snapshot("s", Tags::new())), Kind::Conflict);
    snapshot.hold("audit").expect("held");
    assert_eq!(kind(snapshot.delete()), Kind::Conflict);
    assert_eq!(kind(volume.delete(true)), Kind::Conflict);
    assert_eq!(kind(snapshot.release("other")), Kind::NotFound);
    snapshot.release("audit").expect("released");
    let pin = snapshot.pin().expect("pinned");
    assert_eq!(kind(snapshot.delete()), Kind::Conflict);
    drop(pin);
    assert_eq!(kind(volume.delete(false)), Kind::Conflict);
    snapshot.rename("t").expect("renamed");
    snapshot.tag("kept", "yes").expect("tagged");
    assert_eq!(volume.snapshot_named("t").expect("found").info().expect("info").tags["kept"], "yes");
    snapshot.delete().expect("deleted");
    assert_eq!(kind(snapshot.info()), Kind::NotFound);
    assert_eq!(kind(snapshot.read_at(0, &mut [0; 512])), Kind::NotFound);
    volume.delete(false).expect("deleted");
    assert_eq!(kind(volume.write_at(0, &[1; 512])), Kind::NotFound);
}

#[test]
fn a_group_is_snapshotted_at_one_point() {
    let place = Place::new(DeviceKind::Auto);
    let pool = place.create(64 * MIB);
    let [one, other] =
        ["one", "other"].map(|name| pool.create_volume(name, MIB, Tags::new()).expect("created"));
    let group = pool.create_group("database", Tags::new()).expect("created");
    assert_eq!(kind(group.snapshot("empty", Tags::new())), Kind::Invalid);
    group.add(&one).expect("added");
    group.add(&other).expect("added");
    one.write_at(0, &pattern(1, 0, 4096)).expect("written");
    let snapshots = group.snapshot("s", Tags::new()).expect("taken");
    other.write_at(0, &pattern(2, 0, 4096)).expect("written");
    assert_eq!(snapshots[0].key().epoch, snapshots[1].key().epoch);
    let mut bytes = vec![9; 4096];
    snapshots[1].read_at(0, &mut bytes).expect("read");
    assert_eq!(bytes, [0; 4096]);
    snapshots[0].read_at(0, &mut bytes).expect("read");
    assert_eq!(bytes, pattern(1, 0, 4096));
    assert_eq!(snapshots[0].info().expect("info").group.as_deref(), Some("database"));
    assert_eq!(group.info().expect("info").volumes, ["one", "other"]);

    let second = pool.create_group("second", Tags::new()).expect("created");
    assert_eq!(kind(second.add(&one)), Kind::Conflict);
    assert_eq!(kind(second.remove(&one)), Kind::NotFound);
    group.remove(&one).expect("removed");
    second.add(&one).expect("added");
    group.rename("app").expect("renamed");
    assert_eq!(pool.group("app").expect("found").volumes().expect("listed").len(), 1);
    group.delete().expect("deleted");
    assert_eq!(kind(group.info()), Kind::NotFound);
    assert_eq!(pool.groups().expect("listed").len(), 1);
    assert_eq!(other.info().expect("info").group, None);
}

#[test]
fn a_rollback_can_be_undone() {
    let place = Place::new(DeviceKind::Auto);
    let pool = place.create(64 * MIB);
    let volume = pool.create_volume("a", MIB, Tags::new()).expect("created");
    let (first, second) = (pattern(1, 0, 1 << 20), pattern(2, 0, 1 << 20));
    volume.write_at(0, &first).expect("written");
    volume.snapshot("good", Tags::new()).expect("taken");
    volume.write_at(0, &second).expect("written");
    volume.resize(2 * MIB, false).expect("grown");
    let displaced = volume.rollback("good", None).expect("rolled back");
    assert_eq!(displaced, "before-rollback-1");
    assert_eq!(volume.info().expect("info").bytes, MIB);
    assert_same(&read(&volume, 0, 1 << 20), &first, "rolled back");
    volume.write_at(0, &pattern(3, 0, 8192)).expect("written");
    let again = volume.rollback(&displaced, None).expect("undone");
    assert_eq!(again, "before-rollback-2");
    assert_same(&read(&volume, 0, 1 << 20), &second, "undone");
    assert_eq!(volume.info().expect("info").bytes, 2 * MIB);
    assert_eq!(volume.rollback("good", Some("mine")).expect("rolled back"), "mine");
    assert_eq!(kind(volume.rollback("nothing", None)), Kind::NotFound);
    assert_eq!(kind(volume.rollback("good", Some("mine"))), Kind::Conflict);
    let names: Vec<_> =
        volume.snapshots().expect("listed").iter().map(|one| one.info().expect("info").name).collect();
    assert_eq!(names, ["good", "before-rollback-1", "before-rollback-2", "mine"]);
    drop(pool);
    assert_same(&read(&place.open().volume("a").expect("found"), 0, 1 << 20), &first, "after a restart");
}

#[test]
fn snapshots_know_what_they_hold_and_give_it_back() {
    let place = Place::new(DeviceKind::Auto);
    let pool = place.create(128 * MIB);
    let volume = pool.create_volume("a", 16 * MIB, Tags::new()).expect("created");
    volume.write_at(0, &pattern(1, 0, 8 << 20)).expect("written");
    let first = volume.snapshot("first", Tags::new()).expect("taken");
    volume.write_at(0, &pattern(2, 0, 2 << 20)).expect("written");
    let second = volume.snapshot("second", Tags::new()).expect("taken");
    volume.write_at(MIB, &pattern(3, 0, 4 << 20)).expect("written");
    pool.checkpoint().expect("checkpoint");
    let [one, two] = [&first, &second].map(|snapshot| snapshot.info().expect("info"));
    assert_eq!((one.referenced_bytes, one.exclusive_bytes), (8 * MIB, 2 * MIB));
    // Of what the second one wrote, half is in the head; of what it shares with the first, 3 MiB were displaced.
    assert_eq!((two.referenced_bytes, two.exclusive_bytes), (8 * MIB, MIB));
    settle(&pool);
    let used = || pool.status().expect("status").used_bytes;
    let before = used();
    first.delete().expect("deleted");
    settle(&pool);
    assert_eq!(before - used(), 2 * MIB);
    assert_eq!(second.info().expect("info").exclusive_bytes, 4 * MIB);
    second.delete().expect("deleted");
    settle(&pool);
    assert_eq!(used(), 8 * MIB);

    // What a rollback displaced is held by its snapshot alone.
    volume.snapshot("base", Tags::new()).expect("taken");
    volume.write_at(0, &pattern(4, 0, 3 << 20)).expect("written");
    let displaced = volume.rollback("base", None).expect("rolled back");
    let displaced = volume.snapshot_named(&displaced).expect("found");
    let info = displaced.info().expect("info");
    assert_eq!((info.referenced_bytes, info.exclusive_bytes), (8 * MIB, 3 * MIB));
    displaced.delete().expect("deleted");
    settle(&pool);
    assert_eq!(used(), 8 * MIB);
    volume.delete(true).expect("deleted");
    settle(&pool);
    assert_eq!(used(), 0);
}
