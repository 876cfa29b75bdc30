//! The log in the store: read on from where a catalog stands, and written at its end.
//!
//! 1. What was read once must still be there: a log that ends before, or whose entry has another hash, went back.
//! 2. Numbers have no gaps. So the end is found by listing, never by an entry that is missing.
//! 3. Names in `log/` that no entry can have are passed by, however many there are.
//! 4. An entry that something hides is read by its first version, wherever it stands (`hidden`).
//! 5. An entry is created only if absent. Whether it is ours is decided by its hash, whatever the store replied: a
//!    reply may be lost, and a request may be made twice by what lies below.

use std::thread;

use super::bounded;
use super::catalog::{Catalog, Head};
use super::hidden::uncovering;
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

/// Takes up every entry after the catalog's head, those too that marks of deletion hide from the list.
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
            match first.key == name::entry(head.number) {
                true => _ = entries.remove(0),
                false => check_hidden_head(store, head)?,
            }
            is_head_due = false;
        }
        take_up(store, catalog, &entries, seen)?;
        match page.last() {
            Some(last) if page.len() == LIST_MAX => after = Some(last.key.clone()),
            _ => break,
        }
    }
    if is_head_due {
        check_hidden_head(store, head)?;
    }
    while take_hidden(store, catalog, seen)? {}
    Ok(())
}

/// Takes up the entries of a page, which begins after the catalog's head.
fn take_up(store: &dyn Store, catalog: &mut Catalog, entries: &[&ObjectInfo], seen: Seen<'_>) -> Result<()> {
    let mut rest = entries;
    loop {
        let next = catalog.head().number + 1;
        let whole = (next..).zip(rest).take_while(|(number, info)| info.key == name::entry(*number)).count();
        for batch in rest[..whole].chunks(BATCH) {
            for bytes in fetch(store, batch)? {
                take_entry(store, catalog, bytes, seen)?;
            }
        }
        rest = &rest[whole..];
        let Some(beyond) = rest.first() else { return Ok(()) };
        if !take_hidden(store, catalog, seen)? {
            return Err(gap(catalog.head().number + 1, &beyond.key));
        }
    }
}

/// Takes up the next entry, of which `bytes` were read. Where they are not the next entry, and something hid it, the
/// first version is.
fn take_entry(store: &dyn Store, catalog: &mut Catalog, bytes: Vec<u8>, seen: Seen<'_>) -> Result<()> {
    let number = catalog.head().number + 1;
    let key = name::entry(number);
    let mut bytes = Some(bytes);
    let bytes = uncovering(store, &key, || {
        let bytes = bytes.take().map_or_else(|| bounded::get(store, &key, ENTRY_BYTES_MAX), Ok)?;
        let signer = Signed::signer_of(&bytes).map_err(|error| named(number, error))?;
        catalog.check_signer(signer)?;
        catalog.apply(&decode(number, &bytes)?)?;
        Ok(bytes)
    })?;
    seen(number, &bytes);
    Ok(())
}

/// Takes up the next entry if it is there under something that hides it. Whether it was.
fn take_hidden(store: &dyn Store, catalog: &mut Catalog, seen: Seen<'_>) -> Result<bool> {
    let key = name::entry(catalog.head().number + 1);
    if !store.uncover(&key)? {
        return Ok(false);
    }
    match bounded::get(store, &key, ENTRY_BYTES_MAX) {
        Err(error) if error.kind() == Kind::NotFound => Ok(false),
        bytes => take_entry(store, catalog, bytes?, seen).map(|()| true),
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
    let key = name::entry(head.number);
    let read = || match bounded::get(store, &key, ENTRY_BYTES_MAX) {
        Ok(bytes) if Digest::of(&bytes) == head.hash => Ok(()),
        Ok(_) => Err(went_back(head, "another entry is in its place")),
        Err(error) if error.kind() == Kind::NotFound => Err(went_back(head, "it is no longer there")),
        Err(error) => Err(error),
    };
    uncovering(store, &key, read)
}

/// Whether the catalog's head, which a list does not show, is hidden and as it was read.
fn check_hidden_head(store: &dyn Store, head: Head) -> Result<()> {
    let key = name::entry(head.number);
    match store.uncover(&key)? {
        true => check_head(store, head),
        false => Err(went_back(head, "it is no longer there")),
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
        let listed = bounded::check(&info.key, info.bytes, ENTRY_BYTES_MAX);
        let mut listed = Some(listed.and_then(|()| store.get(&info.key)));
        let read = || listed.take().unwrap_or_else(|| bounded::get(store, &info.key, ENTRY_BYTES_MAX));
        uncovering(store, &info.key, read)
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
        // Over a mark of deletion a store creates what was there before: then the first one counts.
        Ok(Put::Created) if !store.uncover(&key)? => return Ok(true),
        Ok(_) => None,
        Err(error) => {
            store.uncover(&key)?;
            Some(error)
        }
    };
    match (bounded::get(store, &key, ENTRY_BYTES_MAX), failure) {
        (Ok(present), _) => Ok(present == bytes),
        (Err(_), Some(error)) => Err(error),
        (Err(error), None) => Err(error),
    }
}
