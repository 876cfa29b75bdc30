use std::sync::mpsc::channel;

use super::*;
use crate::map::store::{CheckpointState, Family};
use crate::units::{Epoch, LayerId, Lsn};

fn state(checkpoint: u64) -> CheckpointState {
    CheckpointState {
        pool_id: String::new(),
        incarnation: 1,
        next_lsn: Lsn(1),
        next_sequence: checkpoint,
        previous: 0,
        epoch: Epoch(1),
        next_id: 1,
        next_layer: LayerId(1),
    }
}

/// A home whose store holds checkpoint 1, with key `k`.
fn home(directory: &tempfile::TempDir) -> StoreHome {
    let path = directory.path().join("meta");
    let options = StoreOptions::default();
    let store = MapStore::open(&path, true, &options).unwrap();
    let mut batch = store.batch();
    batch.put(Family::Head, b"k", b"1");
    store.commit(batch, &state(1)).unwrap();
    StoreHome::new(store, &path, options)
}

fn fail(home: &StoreHome) {
    home.look(|store| {
        store.give_up();
        Ok(())
    })
    .unwrap();
}

fn stored(home: &StoreHome) -> CheckpointState {
    home.look(MapStore::state).unwrap()
}

#[test]
fn a_failed_store_takes_nothing_until_it_is_opened_anew() {
    let directory = tempfile::tempdir().unwrap();
    let home = home(&directory);
    home.mend().unwrap();
    assert_eq!(home.reopened(), 0, "a sound store stays open");
    fail(&home);
    let write = || home.look(|store| store.commit(store.batch(), &state(2)));
    assert_eq!(write().unwrap_err().kind(), Kind::Unavailable);
    home.mend().unwrap();
    write().unwrap();
    assert_eq!((home.reopened(), stored(&home)), (1, state(2)));
}

#[test]
fn only_what_was_flushed_is_there_after_an_opening_anew() {
    let directory = tempfile::tempdir().unwrap();
    let home = home(&directory);
    home.look(|store| store.write(store.batch(), &state(2))).unwrap();
    assert_eq!(stored(&home), state(2), "later views see what was written");
    fail(&home);
    home.mend().unwrap();
    assert_eq!(stored(&home), state(1), "closing flushes nothing");
    home.look(|store| store.commit(store.batch(), &state(3))).unwrap();
    fail(&home);
    home.mend().unwrap();
    assert_eq!(stored(&home), state(3));
}

#[test]
fn a_walk_lets_go_and_goes_on_in_the_new_store() {
    let directory = tempfile::tempdir().unwrap();
    let home = home(&directory);
    let (begun, begins) = channel();
    std::thread::scope(|scope| {
        let walker = scope.spawn(|| {
            let mut views = 0;
            home.walk(|view| {
                views += 1;
                assert_eq!(view.get(Family::Head, b"k")?.as_deref(), Some(b"1".as_slice()));
                if views > 1 {
                    return Ok(views);
                }
                loop {
                    // Looks are let through while walks are asked to let go: a walk may wait for the core, which looks.
                    assert_eq!(stored(&home), state(1));
                    view.get(Family::Head, b"k")?;
                    begun.send(()).unwrap();
                }
            })
        });
        begins.recv().unwrap();
        fail(&home);
        home.mend().unwrap();
        assert_eq!(walker.join().unwrap().unwrap(), 2);
    });
    assert_eq!(home.reopened(), 1);
}

#[test]
fn an_error_of_the_walk_itself_ends_it() {
    let directory = tempfile::tempdir().unwrap();
    let home = home(&directory);
    let mut calls = 0;
    let walked: Result<()> = home.walk(|_| {
        calls += 1;
        Err(Error::new(Kind::Retry, "visit", "no more"))
    });
    assert_eq!((walked.unwrap_err().kind(), calls), (Kind::Retry, 1));
}

#[test]
fn reads_go_on_while_it_can_not_be_opened_for_writing() {
    let directory = tempfile::tempdir().unwrap();
    let home = home(&directory);
    fail(&home);
    // RocksDB keeps its lock in this file; one that is a directory can't be locked.
    let lock = directory.path().join("meta/LOCK");
    std::fs::remove_file(&lock).unwrap();
    std::fs::create_dir(&lock).unwrap();
    home.mend().unwrap_err();
    assert_eq!(stored(&home), state(1), "opened for reading");
    home.look(|store| store.commit(store.batch(), &state(2))).unwrap_err();
    std::fs::remove_dir(&lock).unwrap();
    home.mend().unwrap();
    home.look(|store| store.commit(store.batch(), &state(2))).unwrap();
    assert_eq!(stored(&home), state(2));
}

#[test]
fn a_closed_home_refuses_and_ends_walks() {
    let directory = tempfile::tempdir().unwrap();
    let home = home(&directory);
    let ended: Result<()> = home.walk(|view| {
        home.close();
        view.get(Family::Head, b"k").map(drop)
    });
    assert_eq!(ended.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(home.look(MapStore::state).unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(home.mend().unwrap_err().kind(), Kind::Unavailable);
    let path = directory.path().join("meta");
    assert_eq!(MapStore::open(&path, false, &StoreOptions::default()).unwrap().state().unwrap(), state(1));
}
