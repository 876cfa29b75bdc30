//! Every structure of a golden vault, read and written again: the bytes are the same.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::SigningKey;
use firn_replicator::format::container::{
    Builder, Codec, Content, HEADER_BYTES, Header, Role, TRAILER_BYTES, Table, shape_of,
};
use firn_replicator::format::digest::{Digest, KeyId};
use firn_replicator::format::entry::{Action, Signed};
use firn_replicator::format::frame::{FrameKeys, Opener};
use firn_replicator::format::name::{self, PackName};
use firn_replicator::format::point::Point;
use firn_replicator::format::secret::Secret;
use firn_replicator::format::settings::Settings;
use firn_replicator::format::slot::{Slot, Wrapping};
use firn_replicator::format::{extent, pack_list};
use firn_replicator::store::Key;

use crate::script::{KEY_FILE, Objects, PASSPHRASE, signer};

/// What was found, so that a golden vault can't lose a structure without a word.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) actions: BTreeSet<String>,
    pub(crate) frames: BTreeSet<String>,
    pub(crate) runs_in_points: BTreeSet<usize>,
    pub(crate) holes: usize,
    pub(crate) extents: usize,
    pub(crate) packs: usize,
    pub(crate) later_generations: usize,
    pub(crate) sealed_for_ever: usize,
}

/// A golden vault, taken apart.
pub(crate) struct Vault<'a> {
    objects: &'a Objects,
    settings: Settings,
    log: Vec<Signed>,
    keys: BTreeMap<KeyId, FrameKeys>,
}

fn json(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).expect("JSON")
}

/// Reads a vault's settings and log, and opens its keys by passphrase and by key file.
pub(crate) fn open<'a>(objects: &'a Objects, seen: &mut Seen) -> Vault<'a> {
    let bytes = &objects[&name::settings()];
    let settings = Settings::decode(bytes).expect("settings");
    assert_eq!(settings.encode(), *bytes);
    let log = log(objects, seen);
    let named: BTreeMap<KeyId, Digest> = log
        .iter()
        .filter_map(|signed| match signed.entry.action {
            Action::AddSlot { id, object, .. } | Action::AddKey { id, object, .. } => Some((id, object)),
            _ => None,
        })
        .collect();
    let stored = named.iter().filter_map(|(id, object)| Some((object, objects.get(&name::slot(*id))?)));
    let slots: Vec<Slot> = stored
        .map(|(object, bytes)| {
            let slot = Slot::decode(*object, bytes).expect("a key");
            assert_eq!((slot.vault, slot.encode()), (settings.vault, bytes.clone()));
            slot
        })
        .collect();
    let keys = open_keys(&settings, &slots);
    Vault { objects, settings, log, keys }
}

fn log(objects: &Objects, seen: &mut Seen) -> Vec<Signed> {
    let mut previous = Digest::default();
    let mut log = Vec::new();
    for (key, bytes) in objects.iter().filter(|(key, _)| key.as_str().starts_with(name::LOG)) {
        let signed = Signed::decode(bytes).expect("an entry");
        assert_eq!(name::entry(signed.entry.number), *key);
        assert_eq!((signed.entry.number, signed.entry.previous), (log.len() as u64 + 1, previous));
        let signers: Vec<SigningKey> = [1, 2].map(signer).into();
        let known = signers.iter().find(|key| key.verifying_key().to_bytes() == signed.signer.0);
        assert_eq!(signed.entry.encode(known.expect("a golden signer")).expect("small"), *bytes);
        let line = bytes.split(|byte| *byte == b'\n').next().expect("a line");
        seen.actions.insert(json(line)["action"].as_str().expect("a name").to_owned());
        previous = signed.hash;
        log.push(signed);
    }
    log
}

fn open_keys(settings: &Settings, slots: &[Slot]) -> BTreeMap<KeyId, FrameKeys> {
    let mut keys = BTreeMap::from([(KeyId::default(), FrameKeys::plain(settings.vault))]);
    let masters: Vec<Secret> = slots
        .iter()
        .filter_map(|slot| {
            match &slot.wrapping {
                Wrapping::Passphrase { .. } => slot.wrapping.of_passphrase(PASSPHRASE).ok(),
                Wrapping::KeyFile => Some(Wrapping::of_key_file(&Secret::new(KEY_FILE))),
                Wrapping::MasterKey { .. } => return None,
            }
            .map(|with| slot.unwrap(&with).expect("a slot").expect("it opens"))
        })
        .collect();
    assert!(masters.windows(2).all(|pair| pair[0].bytes() == pair[1].bytes()), "one master key");
    for slot in slots.iter().filter(|slot| matches!(slot.wrapping, Wrapping::MasterKey { .. })) {
        let data_key = slot.unwrap(&masters[0]).expect("a data key").expect("it opens");
        keys.insert(slot.id, FrameKeys::encrypted(&data_key));
    }
    keys
}

impl Vault<'_> {
    /// Every point, run and pack.
    pub(crate) fn check_objects(&self, seen: &mut Seen) {
        let mut points = 0;
        for (key, bytes) in self.objects {
            if key.as_str().starts_with(name::POINTS) {
                let point = Point::decode(name::hash_in(key).expect("a hash"), bytes).expect("a point");
                assert_eq!((point.vault, point.encode()), (self.settings.vault, bytes.clone()));
                seen.runs_in_points.insert(point.runs.len());
                points += 1;
            } else if key.as_str().starts_with(name::RUNS) || key.as_str().starts_with(name::PACKS) {
                self.container(key, bytes, seen);
            }
        }
        let is_commit = |signed: &&Signed| matches!(signed.entry.action, Action::Commit { .. });
        assert!(points > self.log.iter().filter(is_commit).count() / 2, "points are where the log says");
    }

    fn container(&self, key: &Key, bytes: &[u8], seen: &mut Seen) {
        let trailer = bytes.last_chunk::<TRAILER_BYTES>().expect("a trailer");
        let header = bytes.first_chunk::<HEADER_BYTES>().expect("a header");
        let shape = shape_of(bytes.len() as u64, trailer).expect("a shape");
        let (start, length) = shape.table().expect("a table");
        let start = usize::try_from(start).expect("small");
        let table = Table::decode(&shape, header, &bytes[start..start + length]).expect("a table");
        let role = if key.as_str().starts_with(name::PACKS) { Role::Pack } else { Role::Run };
        assert_eq!((table.header.role, table.header.vault), (role, self.settings.vault));

        let mut again = Builder::new(&Header { ..table.header });
        assert_eq!(again.header(), header);
        let mut contents = Vec::new();
        let mut opener =
            self.keys.get(&table.header.key).map(|keys| Opener::new(keys.clone()).expect("zstd"));
        for (index, row) in table.rows().iter().enumerate() {
            let at = usize::try_from(table.offset(index)).expect("small");
            let stored = &bytes[at..at + row.stored_bytes as usize];
            again.add(row);
            again.hash(stored);
            seen.frames.insert(format!("{:?} {:?}", row.content, row.codec));
            match &mut opener {
                Some(opener) => contents.push((*row, opener.open(row, stored).expect("a frame"))),
                None => seen.sealed_for_ever += 1,
            }
        }
        let (tail, finished) = again.finish();
        assert_eq!((tail.as_slice(), finished.shape), (&bytes[start..], shape));
        assert_eq!(name::hash_in(key), Some(finished.id));
        seen.later_generations += usize::from(key.as_str().ends_with(".1"));
        assert!(role == Role::Run || PackName::of(key).is_some_and(|name| name.key() == *key));
        maps(&contents, seen);
    }
}

/// What the frames of a run hold.
fn maps(frames: &[(firn_replicator::format::container::Row, Vec<u8>)], seen: &mut Seen) {
    let mut after = 0;
    for (row, content) in frames {
        let mut again = Vec::new();
        match row.content {
            Content::Extents => {
                let rows = extent::decode(content, after, 400).expect("extents");
                rows.iter().for_each(|row| extent::encode(row, &mut again));
                assert_eq!(rows[0].first, row.first);
                after = rows.last().expect("some").end();
                seen.extents += rows.len();
                seen.holes += rows.iter().filter(|row| row.place.is_none()).count();
            }
            Content::Packs => {
                let packs = pack_list::decode(content).expect("packs");
                packs.iter().for_each(|pack| pack_list::encode(pack, &mut again));
                seen.packs += packs.len();
            }
            Content::Blocks => again.clone_from(content),
        }
        assert_eq!(again, *content);
        assert!(row.codec == Codec::Plain || (row.stored_bytes as usize) < content.len() + 32);
    }
}
