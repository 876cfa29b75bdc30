//! The log in the store: read on from where a catalog stands, and written at its end.
//!
//! 1. What was read once must still be there: a log that ends before, or whose entry has another hash, went back.
//! 2. Numbers have no gaps. So the end is found by listing, never by an entry that is missing.
//! 3. Names in `log/` that no entry can have are passed by, however many there are.
//! 4. An entry is created only if absent. Whether it is ours is decided by its hash, whatever the store replied: a
//!    reply may be lost, and a request may be made twice by what lies below.

use std::thread;

use super::bounded;
use super::catalog::{Catalog, Head};
use crate::error::{Error, Kind, Result};
use crate::format::digest::Digest;
use crate::format::entry::{ENTRY_BYTES_MAX, Signed};
use crate::format::name;
use crate::store::{Key, LIST_MAX, ObjectInfo, Put, Retention, Store};

/// Entries that are read at once, which bounds what they take in memory.
const BATCH: usize = 16;
/// Threads that read a batch.
const READERS: usize = 4;

/// Who looks at entries as they are taken up: their number and bytes.
pub(super) type Seen<'a> = &'a mut dyn FnMut(u64, &[u8]);

/// Takes up every entry after the catalog's head.
///
/// # Errors
/// [`Kind::Damaged`] when the log went back, has a gap, or does not follow; what the store said.
pub(super) fn read_on(store: &dyn Store, catalog: &mut Catalog, seen: Seen<'_>) -> Result<()> {
    let head = catalog.head();
    let mut is_head_due = head.number > 0;
    // From the head itself, so that the list shows whether it is still there.
    let mut after = head.number.checked_sub(1).filter(|before| *before > 0).map(name::entry);
    loop {
        let page = store.list(name::LOG, after.as_ref())?;
        let mut entries: Vec<&ObjectInfo> =
            page.iter().filter(|info| name::entry_number(&info.key).is_some()).collect();
        if is_head_due && let Some(first) = entries.first() {
            if first.key != name::entry(head.number) {
                return Err(went_back(head, "it is no longer there"));
            }
            entries.remove(0);
            is_head_due = false;
        }
        take_up(store, catalog, &entries, seen)?;
        match page.last() {
            Some(last) if page.len() == LIST_MAX => after = Some(last.key.clone()),
            _ if is_head_due => return Err(went_back(head, "it is no longer there")),
            _ => return Ok(()),
        }
    }
}

/// Takes up the entries of a page, which begins after the catalog's head.
fn take_up(store: &dyn Store, catalog: &mut Catalog, entries: &[&ObjectInfo], seen: Seen<'_>) -> Result<()> {
    let next = catalog.head().number + 1;
    let whole = (next..).zip(entries).take_while(|(number, info)| info.key == name::entry(*number)).count();
    for batch in entries[..whole].chunks(BATCH) {
        for (number, bytes) in (catalog.head().number + 1..).zip(fetch(store, batch)?) {
            let signer = Signed::signer_of(&bytes).map_err(|error| named(number, error))?;
            catalog.check_signer(signer)?;
            catalog.apply(&decode(number, &bytes)?)?;
            seen(number, &bytes);
        }
    }
    match entries.get(whole) {
        Some(beyond) => Err(gap(catalog.head().number + 1, &beyond.key)),
        None => Ok(()),
    }
}

fn gap(number: u64, beyond: &Key) -> Error {
    let detail = format!("entry {number} ({}) is missing, {beyond} is there", name::entry(number));
    Error::new(Kind::Damaged, "follow log", detail)
        .hint("bring the entry back from another copy of the vault")
}

/// The error of a log whose entry `head` is not what was read before.
pub(super) fn went_back(head: Head, how: &str) -> Error {
    let detail = format!(
        "the log went back: entry {} with hash {} was read before, and {how}",
        head.number,
        head.hash.short()
    );
    Error::new(Kind::Damaged, "follow log", detail).hint(
        "somebody put an older or another vault in its place; find the right one before anything is written",
    )
}

/// Whether the store still has the catalog's head as it was read.
///
/// # Errors
/// [`Kind::Damaged`] when it does not; what the store said.
pub(super) fn check_head(store: &dyn Store, head: Head) -> Result<()> {
    if head.number == 0 {
        return Ok(());
    }
    match bounded::get(store, &name::entry(head.number), ENTRY_BYTES_MAX) {
        Ok(bytes) if Digest::of(&bytes) == head.hash => Ok(()),
        Ok(_) => Err(went_back(head, "another entry is in its place")),
        Err(error) if error.kind() == Kind::NotFound => Err(went_back(head, "it is no longer there")),
        Err(error) => Err(error),
    }
}

/// Reads an entry's bytes.
///
/// # Errors
/// [`Kind::Damaged`], naming the entry; [`Kind::Invalid`] for one of a newer version.
pub(super) fn decode(number: u64, bytes: &[u8]) -> Result<Signed> {
    Signed::decode(bytes).map_err(|error| named(number, error))
}

/// Reads the bytes of an entry whose signature was verified before, or is ours.
///
/// # Errors
/// As [`decode`].
pub(super) fn decode_again(number: u64, bytes: &[u8]) -> Result<Signed> {
    Signed::decode_again(bytes).map_err(|error| named(number, error))
}

fn named(number: u64, error: Error) -> Error {
    let detail = format!("entry {number} ({})", name::entry(number));
    Error::new(error.kind(), "read log", detail).source(error)
}

fn fetch(store: &dyn Store, entries: &[&ObjectInfo]) -> Result<Vec<Vec<u8>>> {
    let get = |info: &&ObjectInfo| {
        bounded::check(&info.key, info.bytes, ENTRY_BYTES_MAX)?;
        store.get(&info.key)
    };
    if entries.len() < BATCH {
        return entries.iter().map(get).collect();
    }
    let share = entries.len().div_ceil(READERS);
    thread::scope(|scope| {
        let parts: Vec<_> = entries
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().map(get).collect::<Result<Vec<_>>>()))
            .collect();
        let mut bodies = Vec::with_capacity(entries.len());
        for part in parts {
            let part = part.join().map_err(|_| Error::new(Kind::Bug, "read log", "a reader panicked"))?;
            bodies.extend(part?);
        }
        Ok(bodies)
    })
}

/// Writes entry `number`, locked from its first moment if it is to be, unless there is one. Whether it is there now, or
/// another one.
///
/// # Errors
/// What the store said, when it can't be known whether the entry is there.
pub(super) fn put(store: &dyn Store, number: u64, bytes: &[u8], locked: Option<Retention>) -> Result<bool> {
    let key = name::entry(number);
    let put = match locked {
        Some(retention) => store.put_if_absent_locked(&key, bytes, retention),
        None => store.put_if_absent(&key, bytes),
    };
    let failure = match put {
        Ok(Put::Created) => return Ok(true),
        Ok(Put::Exists) => None,
        Err(error) => Some(error),
    };
    match (bounded::get(store, &key, ENTRY_BYTES_MAX), failure) {
        (Ok(present), _) => Ok(present == bytes),
        (Err(_), Some(error)) => Err(error),
        (Err(error), None) => Err(error),
    }
}
