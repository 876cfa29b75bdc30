//! The log: whole, in order, by those who may sign; and what is said when it is not.

use std::fs;
use std::sync::Arc;

use firn_replicator::error::{Error, Kind};
use firn_replicator::format::digest::Digest;
use firn_replicator::format::entry::{Action, Entry, Pruned, Signed};
use firn_replicator::format::name;
use firn_replicator::store::faults::{Fault, FaultyStore};
use firn_replicator::store::{Key, MemoryStore, Store};
use firn_replicator::vault::{OpenOptions, Vault, identity};

use crate::sender::{Snapshot, send};
use crate::world::{
    START_MS, init_options, killed_everywhere, open, open_options, refusal, signing, store, vault, who,
};

/// A vault with three points, in entries 2 to 4.
fn with_points() -> (Arc<MemoryStore>, Vault, Vec<Digest>) {
    let store = store();
    let vault = vault(&store, None);
    let send = |name: &str, blocks: &[u8]| send(&vault, &Snapshot::new(1, name, blocks)).unwrap();
    let ids = vec![send("one", b"ab"), send("two", b"bc"), send("three", b"cd")];
    (store, vault, ids)
}

fn says(error: &Error, kind: Kind, words: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

/// Puts an entry after the last one, past everything that a vault would say to it.
pub(crate) fn forge(store: &MemoryStore, vault: &Vault, signer: u8, action: Action) {
    forge_of(1, store, vault, signer, action);
}

/// The same, of any version.
fn forge_of(format: u16, store: &MemoryStore, vault: &Vault, signer: u8, action: Action) {
    let head = vault.refresh().unwrap().head();
    let entry = Entry {
        format,
        vault: vault.settings().vault,
        number: head.number + 1,
        previous: head.hash,
        time_ms: head.time_ms,
        who: who(),
        action,
    };
    store.put(&name::entry(entry.number), &entry.encode(&signing(signer)).unwrap()).unwrap();
}

#[test]
fn a_vault_is_made_once_and_opened_again() {
    let (store, vault, ids) = with_points();
    let again = open(store.clone()).unwrap();
    assert_eq!(again.catalog(), vault.catalog());
    assert_eq!(again.catalog().points().len(), ids.len());
    let twice = Vault::init(store.clone(), init_options(store.as_ref(), None));
    says(&refusal(twice), Kind::Conflict, "holds a vault already");
    says(&refusal(open(Arc::new(MemoryStore::new(0)))), Kind::NotFound, "holds no vault");
}

#[test]
fn an_init_that_was_killed_is_completed_by_the_next() {
    let empty = MemoryStore::new(START_MS);
    let init = |store: Arc<dyn Store>| {
        let options = init_options(store.as_ref(), None);
        Vault::init(store, options).map(|_| ())
    };
    killed_everywhere(&empty, init, |left, index, fault| {
        let made = open(left.clone()).is_ok();
        let next = init(left.clone());
        assert_eq!(made, next.is_err_and(|error| error.kind() == Kind::Conflict), "{fault:?} at {index}");
        let vault = open(left.clone()).unwrap();
        assert_eq!(vault.catalog().head().number, 1, "{fault:?} at {index}");
    });
}

#[test]
fn a_gap_is_damage() {
    for missing in 1..=3 {
        let (store, vault, _) = with_points();
        store.tamper(&name::entry(missing), None);
        says(&refusal(open(store.clone())), Kind::Damaged, &format!("entry {missing}"));
        let report = vault.check().unwrap();
        assert_eq!((report.entries, report.findings[0].object.clone()), (missing - 1, name::entry(missing)));
    }
}

#[test]
fn a_changed_byte_anywhere_in_an_entry_is_damage() {
    let (store, _, _) = with_points();
    let key = name::entry(3);
    let bytes = store.get(&key).unwrap();
    for at in (0..bytes.len()).step_by(7) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        store.tamper(&key, Some(changed));
        says(&refusal(open(store.clone())), Kind::Damaged, "entry 3");
    }
    store.tamper(&key, Some(bytes));
    assert!(open(store).is_ok());
}

#[test]
fn an_entry_that_was_replaced_does_not_fit_the_next() {
    let (store, vault, ids) = with_points();
    let bytes = store.get(&name::entry(3)).unwrap();
    let Signed { entry, .. } = Signed::decode(&bytes).unwrap();
    // By somebody who may sign: only the chain tells.
    let other = Entry {
        action: Action::Prune { points: vec![Pruned { id: ids[0], reason: "to hide it".into() }] },
        ..entry
    };
    store.tamper(&name::entry(3), Some(other.encode(&signing(1)).unwrap()));
    says(&refusal(open(store.clone())), Kind::Damaged, "entry 4 follows another entry 3");
    let report = vault.check().unwrap();
    assert_eq!(report.findings[0].object, name::entry(4));

    // Another entry's bytes in its place.
    store.tamper(&name::entry(3), Some(store.get(&name::entry(2)).unwrap()));
    says(&refusal(open(store)), Kind::Damaged, "where entry 3 belongs lies entry 2");
}

#[test]
fn a_stranger_s_entry_is_damage_and_a_stranger_writes_none() {
    let (store, vault, ids) = with_points();
    let stranger = OpenOptions { signing: Some(signing(2)), ..open_options() };
    let stranger = Vault::open(store.clone(), stranger).unwrap();
    says(&stranger.hold(ids[0], "mine").unwrap_err(), Kind::Invalid, "may not sign in this vault");
    let unsigned = Vault::open(store.clone(), OpenOptions::default()).unwrap();
    says(&unsigned.remove_points(&ids[..1], "x").unwrap_err(), Kind::Invalid, "no signing key");

    forge(&store, &vault, 2, Action::Prune { points: vec![Pruned { id: ids[0], reason: "x".into() }] });
    let signer = identity::signer(&signing(2)).to_string();
    let error = refusal(open(store.clone()));
    says(&error, Kind::Damaged, &signer);
    says(&error, Kind::Damaged, "who may not sign");
    assert_eq!(vault.check().unwrap().findings[0].object, name::entry(5));
}

/// Anybody who may write to the store can put an entry there that says it is of a newer version, and signs it with a key
/// of their own. Whoever read it asked for a newer firn.
#[test]
fn a_newer_version_is_believed_only_of_those_who_may_sign() {
    for (signer, kind, words) in
        [(1, Kind::Invalid, "it has format version 3"), (2, Kind::Damaged, "who may not sign")]
    {
        let (store, vault, ids) = with_points();
        let action = Action::Prune { points: vec![Pruned { id: ids[0], reason: "x".into() }] };
        forge_of(3, &store, &vault, signer, action);
        says(&refusal(open(store)), kind, words);
        assert_eq!(vault.check().unwrap().findings[0].object, name::entry(5));
    }
}

#[test]
fn signers_come_and_go_and_what_they_signed_stays() {
    let (store, vault, ids) = with_points();
    let second = identity::signer(&signing(2));
    vault
        .append(&mut |_, _| Ok(Some(Action::AddSigner { signer: second, name: "db2".into() })))
        .unwrap()
        .unwrap();
    let theirs =
        Vault::open(store.clone(), OpenOptions { signing: Some(signing(2)), ..open_options() }).unwrap();
    theirs.remove_points(&ids[..1], "too old").unwrap();
    let gone = theirs.append(&mut |_, _| Ok(Some(Action::RemoveSigner { signer: second }))).unwrap();
    assert!(gone.is_some());
    assert_eq!(theirs.remove_points(&ids[1..2], "too old").unwrap_err().kind(), Kind::Invalid);
    let again = open(store).unwrap();
    assert_eq!(again.catalog().points().len(), 2);
    let founder = identity::signer(&signing(1));
    let last = again.append(&mut |_, _| Ok(Some(Action::RemoveSigner { signer: founder })));
    says(&last.unwrap_err(), Kind::Conflict, "nobody could sign");
}

#[test]
fn another_vault_s_settings_are_noticed() {
    let (store, _, _) = with_points();
    let other = crate::world::store();
    let _made = vault(&other, None);
    store.tamper(&name::settings(), Some(other.get(&name::settings()).unwrap()));
    assert_eq!(refusal(open(store)).kind(), Kind::Damaged);
}

#[test]
fn a_log_that_went_back_is_noticed_by_whoever_read_it() {
    let (store, reader, ids) = with_points();
    let older = store.copy();
    let directory = tempfile::tempdir().unwrap();
    let with_cache = || OpenOptions { cache: Some(directory.path().to_owned()), ..open_options() };
    send(&reader, &Snapshot::new(1, "four", b"e")).unwrap();
    assert_eq!(Vault::open(store.clone(), with_cache()).unwrap().catalog().points().len(), ids.len() + 1);

    // Somebody puts yesterday's copy in its place: with a cache it is noticed, and without one nobody can know.
    let error = refusal(Vault::open(Arc::new(older.copy()), with_cache()));
    says(&error, Kind::Damaged, "the log went back: entry 5");
    assert!(open(Arc::new(older.copy())).is_ok());
    store.tamper(&name::entry(5), None);
    says(&reader.refresh().unwrap_err(), Kind::Damaged, "the log went back");

    // And when it grew again, with other entries.
    let older = Arc::new(older);
    let writer = open(older.clone()).unwrap();
    send(&writer, &Snapshot::new(1, "other", b"f")).unwrap();
    let error = refusal(Vault::open(older, with_cache()));
    says(&error, Kind::Damaged, "another entry is in its place");

    // Another vault where this one was.
    let another = crate::world::store();
    let _made = vault(&another, None);
    assert_eq!(refusal(Vault::open(another, with_cache())).kind(), Kind::Damaged);
}

#[test]
fn a_cache_spares_reading_the_log_again() {
    let (store, writer, _) = with_points();
    let directory = tempfile::tempdir().unwrap();
    let with_cache = || OpenOptions { cache: Some(directory.path().to_owned()), ..open_options() };
    let entries_read = || {
        let faulty = Arc::new(FaultyStore::new(Box::leak(Box::new(store.copy()))));
        let vault = Vault::open(faulty.clone(), with_cache()).unwrap();
        assert_eq!(vault.catalog(), writer.catalog());
        let is_read = |request: &&firn_replicator::store::faults::Request| {
            request.operation == "get" && request.subject.starts_with(name::LOG)
        };
        faulty.requests().iter().filter(is_read).count()
    };
    assert_eq!(entries_read(), 4);
    assert_eq!(entries_read(), 1, "only its last entry is compared");
    send(&writer, &Snapshot::new(1, "four", b"e")).unwrap();
    assert_eq!(entries_read(), 2);

    // Whoever wrote the cache died in the middle of it.
    let file = fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 10]).unwrap();
    assert_eq!(entries_read(), 2);
    assert_eq!(fs::read(&file).unwrap(), bytes);

    // A broken one is not believed.
    let mut broken = bytes;
    broken[100] ^= 1;
    fs::write(&file, &broken).unwrap();
    let error = refusal(Vault::open(store.clone(), with_cache()));
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(error.next_step().unwrap().contains("remove"), "{error}");
}

#[test]
fn two_processes_share_a_cache() {
    let (store, _, _) = with_points();
    let directory = tempfile::tempdir().unwrap();
    let with_cache = || OpenOptions { cache: Some(directory.path().to_owned()), ..open_options() };
    let one = Vault::open(store.clone(), with_cache()).unwrap();
    let other = Vault::open(store.clone(), with_cache()).unwrap();
    for turn in 0..6 {
        let writer = if turn % 2 == 0 { &one } else { &other };
        send(writer, &Snapshot::new(2, &format!("s{turn}"), &[turn])).unwrap();
    }
    let third = Vault::open(store, with_cache()).unwrap();
    assert_eq!(third.catalog().points().len(), 9);
}

#[test]
fn a_lost_reply_writes_one_entry_and_says_so() {
    let (store, _, ids) = with_points();
    let before = store.copy();
    let held = |store: Arc<dyn Store>| open(store)?.hold(ids[0], "audit");
    let whole = Arc::new(FaultyStore::new(Box::leak(Box::new(before.copy()))));
    held(whole.clone()).unwrap();
    let entry = whole.requests().iter().position(|request| {
        request.operation == "put_if_absent" && request.subject == name::entry(5).as_str()
    });
    let left: &'static MemoryStore = Box::leak(Box::new(before.copy()));
    held(Arc::new(FaultyStore::failing(left, entry.unwrap(), Fault::LoseReply))).unwrap();
    let catalog = open(Arc::new(left.copy())).unwrap().catalog();
    assert_eq!((catalog.head().number, catalog.points()[&ids[0]].holds.len()), (5, 1));
}

#[test]
fn writers_at_the_same_time_all_get_their_entries() {
    const WRITERS: u64 = 4;
    const EACH: u64 = 8;
    let store = store();
    let _made = vault(&store, None);
    std::thread::scope(|scope| {
        for volume in 0..WRITERS {
            let store = store.clone();
            scope.spawn(move || {
                let vault = open(store).unwrap();
                for turn in 0..EACH {
                    send(&vault, &Snapshot::new(volume, &format!("s{turn}"), b"a")).unwrap();
                }
            });
        }
    });
    let vault = open(store).unwrap();
    assert_eq!(vault.catalog().head().number, 1 + WRITERS * EACH);
    assert_eq!(vault.catalog().points().len() as u64, WRITERS * EACH);
    assert_eq!(vault.check().unwrap().findings, []);
}

/// What contradicts the entries before it changes nothing, whoever signed it.
#[test]
fn a_void_entry_changes_nothing() {
    let (store, vault, ids) = with_points();
    vault.hold(ids[0], "audit").unwrap();
    let pruned = |id| Pruned { id, reason: "x".into() };
    forge(&store, &vault, 1, Action::Prune { points: vec![pruned(ids[1]), pruned(ids[0])] });
    forge(&store, &vault, 1, Action::Retain { points: vec![Digest::of(b"none")], until_ms: 5, locked: None });
    let catalog = vault.refresh().unwrap();
    assert_eq!(catalog.points().len(), 3, "all of it or nothing");
    let why: Vec<&str> = catalog.void().iter().map(|void| void.why.as_str()).collect();
    assert!(
        why[0].contains("must stay: it is held: audit") && why[1].contains("not in the vault"),
        "{why:?}"
    );
    let report = vault.check().unwrap();
    assert_eq!((report.findings.len(), report.notes.len()), (0, 2), "{report:?}");

    // A name in a void delete is dead all the same: somebody may have deleted the object.
    let object = name::point(ids[1]);
    forge(&store, &vault, 1, Action::Delete { objects: vec![object.clone()] });
    assert!(vault.refresh().unwrap().is_deleted(&object));
}

#[test]
fn time_never_goes_back_in_the_log() {
    let (store, vault, ids) = with_points();
    store.set_clock_ms(START_MS - 5_000_000_000);
    vault.hold(ids[0], "audit").unwrap();
    store.set_clock_ms(START_MS + 7);
    vault.hold(ids[0], "court").unwrap();
    let catalog = open(store).unwrap().catalog();
    let holds = &catalog.points()[&ids[0]].holds;
    assert_eq!((holds["audit"].time_ms, holds["court"].time_ms), (START_MS, START_MS + 7));
}

/// A thousand names like `log/-a000` once made a fresh catalog list the same page for ever, and one that had read the
/// log before say that it went back.
#[test]
fn names_that_are_no_entries_are_passed_by() {
    let (store, vault, _) = with_points();
    for number in 0..1200 {
        for junk in
            [format!("{}-a{number:04}", name::LOG), format!("{}0000000000000002-{number:04}", name::LOG)]
        {
            store.put(&Key::new(junk).unwrap(), b"junk").unwrap();
        }
    }
    assert_eq!(open(store.clone()).unwrap().catalog(), vault.catalog());
    send(&vault, &Snapshot::new(1, "four", b"e")).unwrap();
    assert_eq!(open(store).unwrap().catalog(), vault.refresh().unwrap());
}

/// Whoever may write to the store put an object of 100 GB where a reader reads before it verifies: its memory ran out.
#[test]
fn what_is_too_long_is_refused_before_it_is_read() {
    let (store, vault, ids) = with_points();
    let refused = |key: &Key, bytes: usize| {
        let copy: &'static MemoryStore = Box::leak(Box::new(store.copy()));
        copy.put(key, &vec![b'x'; bytes]).unwrap();
        let faulty = Arc::new(FaultyStore::new(copy));
        let error = match open(faulty.clone()) {
            Ok(vault) => vault.read_point(ids[0]).unwrap_err(),
            Err(error) => error,
        };
        says(&error, Kind::Damaged, &format!("{key} has {bytes} bytes"));
        let is_read = |request: &firn_replicator::store::faults::Request| {
            request.operation == "get" && request.subject == key.as_str()
        };
        assert!(!faulty.requests().iter().any(is_read), "{key} was read");
    };
    refused(&name::entry(5), (4 << 20) + 1);
    refused(&name::settings(), (64 << 10) + 1);
    refused(&name::point(ids[0]), (16 << 20) + 1);
    assert_eq!(vault.refresh().unwrap().head().number, 4);
}
