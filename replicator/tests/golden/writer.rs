//! Writes vaults with nothing but the formats: what `docs/format.md` says a writer does, as simply as it can be done.
//! Packs and frames of the map are far smaller than firn's own, so that a small vault has several of each.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::SigningKey;
use firn_replicator::format::VERSION;
use firn_replicator::format::container::{Builder, Content, Finished, Header, Role};
use firn_replicator::format::digest::{Digest, KeyId, PoolId, VaultId};
use firn_replicator::format::entry::{Action, Committed, Entry, Forwarded, Who};
use firn_replicator::format::extent::{self, Extent};
use firn_replicator::format::frame::{FrameKeys, LEVEL_DEFAULT, Sealer};
use firn_replicator::format::name::{self, Class, PackName};
use firn_replicator::format::pack_list::{self, PackRef};
use firn_replicator::format::point::{Point, RunRef, Sent, Source};
use firn_replicator::format::secret::Secret;
use firn_replicator::store::{Key, Retention};

use crate::content::{BLOCK, HOLE, block};

/// The pool that all points come from.
pub(crate) const POOL: PoolId = PoolId(*b"golden pool v1 \x01");
/// When the first entry was written, in ms since 1970.
pub(crate) const BEGIN_MS: u64 = 1_700_000_000_000;
/// Blocks in a pack.
const PACK_BLOCKS: usize = 36;
/// Extents in a frame.
const FRAME_EXTENTS: usize = 8;
/// Packs in a frame of a pack list.
const FRAME_PACKS: usize = 2;

/// Where a block lies: a pack by its index among all that were written, and the position in it. Nothing: a hole.
type Lies = Option<(usize, u32)>;

/// A volume as its newest point has it.
struct Volume {
    name: &'static str,
    key: KeyId,
    blocks: u64,
    epoch: u32,
    parent: Option<Digest>,
    /// Newest first.
    runs: Vec<Run>,
}

#[derive(Clone)]
struct Run {
    map: BTreeMap<u64, Lies>,
    reference: RunRef,
}

/// What became of blocks: a range, and the letter that fills it.
pub(crate) type Change = (std::ops::Range<u64>, u8);

/// A vault that is being written.
pub(crate) struct Writer {
    /// Everything in it.
    pub(crate) objects: BTreeMap<Key, Vec<u8>>,
    /// Its identity.
    pub(crate) vault: VaultId,
    /// Who signs the next entries.
    pub(crate) signer: SigningKey,
    /// How points are locked from now on.
    pub(crate) locked: Option<Retention>,
    keys: BTreeMap<KeyId, FrameKeys>,
    volumes: BTreeMap<u64, Volume>,
    packs: Vec<PackRef>,
    deleted: BTreeSet<Key>,
    entries: u64,
    previous: Digest,
}

impl Writer {
    pub(crate) fn new(vault: VaultId, signer: SigningKey) -> Self {
        Self {
            objects: BTreeMap::new(),
            vault,
            signer,
            locked: None,
            keys: BTreeMap::from([(KeyId::default(), FrameKeys::plain(vault))]),
            volumes: BTreeMap::new(),
            packs: Vec::new(),
            deleted: BTreeSet::new(),
            entries: 0,
            previous: Digest::default(),
        }
    }

    /// The store's time now: a second for each entry.
    pub(crate) fn time_ms(&self) -> u64 {
        BEGIN_MS + 1000 * self.entries
    }

    pub(crate) fn put(&mut self, key: Key, bytes: Vec<u8>) {
        assert_eq!(self.objects.insert(key, bytes), None, "objects are written once");
    }

    /// Appends to the log.
    pub(crate) fn log(&mut self, action: Action) {
        self.entries += 1;
        if let Action::Delete { objects } = &action {
            self.deleted.extend(objects.iter().cloned());
        }
        let who = Who { user: "root".into(), host: "db-1".into(), program: "firn 0.1.0".into() };
        let entry = Entry {
            format: action.format(),
            vault: self.vault,
            number: self.entries,
            previous: self.previous,
            time_ms: self.time_ms(),
            who,
            action,
        };
        let bytes = entry.encode(&self.signer).expect("small");
        self.previous = Digest::of(&bytes);
        self.put(name::entry(self.entries), bytes);
    }

    /// Frames under `id` are encrypted with what is derived from `data_key`.
    pub(crate) fn use_key(&mut self, id: KeyId, data_key: &Secret) {
        self.keys.insert(id, FrameKeys::encrypted(data_key));
    }

    /// Begins a volume.
    pub(crate) fn volume(&mut self, id: u64, name: &'static str, blocks: u64, key: KeyId) {
        let volume = Volume { name, key, blocks, epoch: 0, parent: None, runs: Vec::new() };
        assert!(self.volumes.insert(id, volume).is_none(), "a volume begins once");
    }

    /// Lets a volume begin again, with a baseline.
    pub(crate) fn volume_anew(&mut self, id: u64) {
        let volume = self.volumes.get_mut(&id).expect("a volume");
        (volume.parent, volume.runs) = (None, Vec::new());
    }

    /// Makes a volume larger or smaller. No run may reach beyond it, so a smaller one has its map written anew.
    pub(crate) fn resize(&mut self, id: u64, blocks: u64) {
        let volume = self.volumes.get_mut(&id).expect("a volume");
        volume.blocks = blocks;
        if !volume.runs.iter().any(|run| run.map.keys().next_back().is_some_and(|last| *last >= blocks)) {
            return;
        }
        let key = volume.key;
        let mut merged = BTreeMap::new();
        volume.runs.drain(..).rev().for_each(|run| merged.extend(run.map));
        merged.retain(|index, lies| *index < blocks && lies.is_some());
        let run = self.run(key, merged);
        self.volumes.get_mut(&id).expect("a volume").runs = vec![run];
    }

    /// Writes a point of a volume in which `changes` were made since the one before.
    pub(crate) fn send(&mut self, id: u64, snapshot: &str, changes: &[Change]) -> Committed {
        let before: u64 = self.objects.values().map(|bytes| bytes.len() as u64).sum();
        let mut letters = BTreeMap::new();
        for (range, letter) in changes {
            letters.extend(range.clone().map(|index| (index, *letter)));
        }
        let data: Vec<_> =
            letters.iter().filter(|(_, letter)| **letter != HOLE).map(|(i, l)| (*i, *l)).collect();
        let key = self.volumes[&id].key;
        let mut map: BTreeMap<u64, Lies> = letters.keys().map(|index| (*index, None)).collect();
        for part in data.chunks(PACK_BLOCKS) {
            map.extend(self.pack(key, part));
        }
        self.add_run(id, map);
        let after: u64 = self.objects.values().map(|bytes| bytes.len() as u64).sum();
        let changed_bytes = (data.len() * BLOCK) as u64;
        let sent = Sent { changed_bytes, content_bytes: changed_bytes, stored_bytes: after - before };
        self.point(id, snapshot, sent)
    }

    fn point(&mut self, id: u64, snapshot: &str, sent: Sent) -> Committed {
        let time_ms = self.time_ms();
        let volume = self.volumes.get_mut(&id).expect("a volume");
        volume.epoch += 1;
        let source = Source {
            pool: POOL,
            volume: id,
            name: volume.name.to_owned(),
            snapshot: snapshot.to_owned(),
            layer: u32::try_from(id).expect("small"),
            epoch: volume.epoch,
            created_ms: time_ms - 500,
        };
        let point = Point {
            firn: "point".to_owned(),
            format: VERSION,
            vault: self.vault,
            source: source.clone(),
            bytes: volume.blocks * BLOCK as u64,
            time_ms,
            parent: volume.parent,
            key: volume.key,
            runs: volume.runs.iter().map(|run| run.reference.clone()).collect(),
            retain_until_ms: self.locked.map(|locked| locked.until_ms),
            application: BTreeMap::from([("postgresql.lsn".into(), format!("0/{time_ms:X}"))]),
            tags: BTreeMap::from([("env".into(), "production".into())]),
            sent,
        };
        let bytes = point.encode();
        let committed = Committed {
            id: Digest::of(&bytes),
            pool: POOL,
            volume: id,
            name: source.name,
            snapshot: source.snapshot,
            created_ms: source.created_ms,
            bytes: point.bytes,
            changed_bytes: sent.changed_bytes,
            stored_bytes: sent.stored_bytes,
            parent: point.parent,
            key: point.key,
            retain_until_ms: point.retain_until_ms,
            locked: self.locked,
        };
        volume.parent = Some(committed.id);
        self.put(name::point(committed.id), bytes);
        committed
    }

    /// A point that holds the same as `from` in packs of its own, with the blocks that are `live` there, all of them;
    /// the volume goes on from it.
    pub(crate) fn forward(&mut self, id: u64, from: &Committed, live: &[Change]) -> Forwarded {
        let bytes = &self.objects[&name::point(from.id)];
        let point = Point::decode(from.id, bytes).expect("a point");
        let letters: Vec<(u64, u8)> =
            live.iter().flat_map(|(range, letter)| range.clone().map(|index| (index, *letter))).collect();
        let mut map = BTreeMap::new();
        for part in letters.chunks(PACK_BLOCKS) {
            map.extend(self.pack(point.key, part));
        }
        let run = self.run(point.key, map);
        let point = Point { runs: vec![run.reference.clone()], ..point };
        let bytes = point.encode();
        let to = Committed { id: Digest::of(&bytes), ..from.clone() };
        self.put(name::point(to.id), bytes);
        let volume = self.volumes.get_mut(&id).expect("a volume");
        (volume.parent, volume.runs) = (Some(to.id), vec![run]);
        Forwarded { from: from.id, to }
    }

    /// Puts a run in front of a volume's others, and merges the newest two while the older is less than twice as large.
    fn add_run(&mut self, id: u64, mut map: BTreeMap<u64, Lies>) {
        let volume = self.volumes.get_mut(&id).expect("a volume");
        let key = volume.key;
        let mut older = std::mem::take(&mut volume.runs);
        while let Some(next) = older.first()
            && extents(&next.map).len() < 2 * extents(&map).len()
        {
            let mut merged = older.remove(0).map;
            merged.extend(map);
            map = merged;
        }
        if older.is_empty() {
            map.retain(|_, lies| lies.is_some());
        }
        if !map.is_empty() {
            let run = self.run(key, map);
            older.insert(0, run);
        }
        self.volumes.get_mut(&id).expect("a volume").runs = older;
    }

    fn pack(&mut self, key: KeyId, blocks: &[(u64, u8)]) -> Vec<(u64, Lies)> {
        let frames = blocks.chunks(16).zip(0..).map(|(blocks, frame)| {
            let content = blocks.iter().flat_map(|(index, letter)| block(*letter, *index)).collect();
            (Content::Blocks, 16 * frame, content)
        });
        let (bytes, finished) = self.container(Role::Pack, key, frames.collect());
        let class = Class::new("standard").expect("a class");
        let mut name = PackName { class, period: 729, id: finished.id, generation: 0 };
        while self.deleted.contains(&name.key()) {
            name.generation += 1;
        }
        let count = u32::try_from(blocks.len()).expect("small");
        // The same blocks sent before give the same pack.
        self.objects.insert(name.key(), bytes);
        self.packs.push(PackRef { name, shape: finished.shape, blocks: count, live_blocks: 0 });
        let pack = self.packs.len() - 1;
        blocks.iter().zip(0..).map(|((index, _), position)| (*index, Some((pack, position)))).collect()
    }

    fn run(&mut self, key: KeyId, map: BTreeMap<u64, Lies>) -> Run {
        let mut used: Vec<usize> = Vec::new();
        let mut list: Vec<PackRef> = Vec::new();
        for (pack, _) in map.values().flatten() {
            let at = used.iter().position(|known| known == pack).unwrap_or_else(|| {
                used.push(*pack);
                list.push(PackRef { live_blocks: 0, ..self.packs[*pack].clone() });
                used.len() - 1
            });
            list[at].live_blocks += 1;
        }
        let mut rows = extents(&map);
        for place in rows.iter_mut().filter_map(|row| row.place.as_mut()) {
            let known = |pack: &usize| u32::try_from(*pack).expect("small") == place.pack;
            place.pack = u32::try_from(used.iter().position(known).expect("listed")).expect("small");
        }
        let mut frames: Vec<(Content, u64, Vec<u8>)> = Vec::new();
        for part in rows.chunks(FRAME_EXTENTS) {
            let mut content = Vec::new();
            part.iter().for_each(|row| extent::encode(row, &mut content));
            frames.push((Content::Extents, part[0].first, content));
        }
        for (part, first) in list.chunks(FRAME_PACKS).zip((0..).step_by(FRAME_PACKS)) {
            let mut content = Vec::new();
            part.iter().for_each(|pack| pack_list::encode(pack, &mut content));
            frames.push((Content::Packs, first, content));
        }
        let (bytes, Finished { id, shape }) = self.container(Role::Run, key, frames);
        let mut reference = RunRef { id, generation: 0, shape, extents: rows.len() as u64 };
        while self.deleted.contains(&reference.key()) {
            reference.generation += 1;
        }
        self.objects.insert(reference.key(), bytes);
        Run { map, reference }
    }

    fn container(&self, role: Role, key: KeyId, frames: Vec<(Content, u64, Vec<u8>)>) -> (Vec<u8>, Finished) {
        let mut builder = Builder::new(&Header { role, vault: self.vault, key });
        let mut sealer = Sealer::new(self.keys[&key].clone(), LEVEL_DEFAULT).expect("a level");
        let mut bytes = builder.header().to_vec();
        for (content, first, plain) in frames {
            let start = bytes.len();
            let row = sealer.seal(content, first, &plain, &mut bytes).expect("sealed");
            builder.add(&row);
            builder.hash(&bytes[start..]);
        }
        let (tail, finished) = builder.finish();
        bytes.extend(tail);
        (bytes, finished)
    }

    /// What a point's newest run and its packs are called.
    pub(crate) fn newest_objects(&self, id: u64) -> Vec<Key> {
        let run = &self.volumes[&id].runs[0];
        let packs: BTreeSet<usize> = run.map.values().flatten().map(|(pack, _)| *pack).collect();
        let packs = packs.into_iter().map(|pack| self.packs[pack].name.key());
        [run.reference.key()].into_iter().chain(packs).collect()
    }
}

/// A map as extents whose packs are indexes among all packs.
fn extents(map: &BTreeMap<u64, Lies>) -> Vec<Extent> {
    let mut rows: Vec<Extent> = Vec::new();
    for (first, lies) in map {
        let place = lies
            .map(|(pack, position)| extent::Place { pack: u32::try_from(pack).expect("small"), position });
        let one = Extent { first: *first, blocks: 1, place };
        match rows.last_mut().and_then(|last| last.joined(&one).map(|both| (last, both))) {
            Some((last, both)) => *last = both,
            None => rows.push(one),
        }
    }
    rows
}
