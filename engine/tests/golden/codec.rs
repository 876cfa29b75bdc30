//! Every structure of the golden files, read and written again: the bytes are the same.

use firn_engine::catalog::{Group, Layer, ObjectKey, Operation, Snapshot, Volume};
use firn_engine::format::journal::{HEADER_LEN, Record, open, records, seal};
use firn_engine::format::superblock::{COPIES, Superblock};
use firn_engine::format::{dead, head, keys, undo};
use firn_engine::map::store::{CheckpointState, Family};
use firn_engine::units::{BLOCK_LEN, LayerId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::files::at;

/// What was found, so that a golden pool can't lose a structure without a word.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) journal_blocks: usize,
    pub(crate) beacons: usize,
    pub(crate) writes: usize,
    pub(crate) groups_of_records: usize,
    pub(crate) unmaps: usize,
    pub(crate) operations: std::collections::BTreeSet<String>,
    pub(crate) keyframes: usize,
}

/// Both superblocks; returns the first.
pub(crate) fn superblocks(image: &[u8]) -> Superblock {
    for copy in COPIES {
        let bytes = &image[at(copy)..][..BLOCK_LEN];
        assert_eq!(Superblock::decode(bytes).expect("a superblock").encode(), bytes, "superblock {copy}");
    }
    Superblock::decode(&image[..BLOCK_LEN]).expect("a superblock")
}

/// Every block of the ring that was ever written.
pub(crate) fn journal(image: &[u8], superblock: &Superblock, seen: &mut Seen) {
    for block in superblock.journal_start..superblock.journal_start + superblock.journal_blocks {
        let bytes = &image[at(block)..][..BLOCK_LEN];
        if bytes.iter().all(|&byte| byte == 0) {
            continue;
        }
        let (header, sum) = open(bytes).expect("a journal block");
        assert_eq!(block - superblock.journal_start, header.sequence % superblock.journal_blocks);
        let found = records(bytes, header.count, header.bytes).expect("records");
        let mut area = Vec::new();
        found.iter().for_each(|record| record.encode(&mut area));
        let mut again = vec![0; BLOCK_LEN];
        again[HEADER_LEN..HEADER_LEN + area.len()].copy_from_slice(&area);
        assert_eq!(seal(&mut again, &header), sum);
        assert_eq!(again, bytes, "journal block {}", header.sequence);
        seen.journal_blocks += 1;
        seen.beacons += usize::from(found.is_empty());
        found.iter().for_each(|record| count(record, seen));
    }
}

fn count(record: &Record, seen: &mut Seen) {
    seen.groups_of_records += usize::from(record.continues());
    match record {
        Record::Write { .. } => seen.writes += 1,
        Record::Unmap { .. } => seen.unmaps += 1,
        Record::Catalog(json) => {
            let operation = Operation::decode(json).expect("an operation");
            assert_eq!(operation.encode().expect("it fits"), *json);
            let value: serde_json::Value = serde_json::from_slice(json).expect("JSON");
            seen.operations.insert(value["op"].as_str().expect("a name").to_owned());
        }
    }
}

/// Every key and value of the store.
pub(crate) fn store(entries: &[(Family, Vec<u8>, Vec<u8>)], seen: &mut Seen) {
    for (family, key, value) in entries {
        let (key_again, value_again) = match family {
            Family::Head => {
                let (layer, page) = keys::read_head(key).expect("a head key");
                (keys::head(layer, page).to_vec(), head::encode(&head::decode(value).expect("a head page")))
            }
            Family::History => {
                let (layer, page, end) = keys::read_history(key).expect("a history key");
                let record = undo::decode(value).expect("an undo record");
                seen.keyframes += usize::from(record.keyframe);
                (keys::history(layer, page, end).to_vec(), undo::encode(&record))
            }
            Family::Changed => {
                let (layer, end, page) = keys::read_changed(key).expect("a changed key");
                let masks = undo::decode_changed(value).expect("masks");
                (keys::changed(layer, end, page).to_vec(), undo::encode_changed(&masks))
            }
            Family::Dead => {
                let (layer, end, birth, page) = keys::read_dead(key).expect("a dead key");
                (
                    keys::dead(layer, end, birth, page).to_vec(),
                    dead::encode(&dead::decode(value).expect("runs")),
                )
            }
            Family::Space => {
                assert_eq!(value.len(), dead::CHUNK_BYTES);
                (keys::space(keys::read_space(key).expect("a space key")).to_vec(), value.clone())
            }
            Family::Catalog => catalog(key, value),
        };
        assert_eq!((&key_again, &value_again), (key, value), "{family:?}");
    }
}

fn catalog(key: &[u8], value: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let value_again = match key[0] {
        b'!' => {
            assert_eq!(key, b"!checkpoint");
            return (key.to_vec(), json::<CheckpointState>(value));
        }
        // Counts of blocks: a layer's, a snapshot's.
        b'u' | b'r' => {
            assert_eq!((key.len(), value.len()), (if key[0] == b'u' { 5 } else { 9 }, 8));
            return (key.to_vec(), value.to_vec());
        }
        b'v' => json::<Volume>(value),
        b'l' => json::<Layer>(value),
        b's' => json::<Snapshot>(value),
        b'g' => json::<Group>(value),
        other => panic!("a catalog key {:?}", char::from(other)),
    };
    let object = ObjectKey::decode(key).expect("a catalog key");
    if let ObjectKey::Layer(layer) = object {
        assert_ne!(layer, LayerId(0));
    }
    (object.encode(), value_again)
}

fn json<T: Serialize + DeserializeOwned>(value: &[u8]) -> Vec<u8> {
    serde_json::to_vec(&serde_json::from_slice::<T>(value).expect("an object")).expect("plain data")
}
