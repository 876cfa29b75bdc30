//! A sender as small as one can be: each of its packs holds one block, which is a letter over and over. So senders of
//! the same letters meet at the same packs. Names, containers and the commit are the vault's own.

use std::collections::{BTreeMap, BTreeSet};

use firn_replicator::error::Result;
use firn_replicator::format::container::{Builder, Content, Finished, Header, Role};
use firn_replicator::format::digest::Digest;
use firn_replicator::format::entry::Committed;
use firn_replicator::format::extent::{self, Extent, Place};
use firn_replicator::format::frame::{LEVEL_DEFAULT, Sealer};
use firn_replicator::format::name::{self, Class, PackName};
use firn_replicator::format::pack_list::{self, PackRef};
use firn_replicator::format::point::{Point, RunRef, Sent, Source};
use firn_replicator::store::Key;
use firn_replicator::vault::Vault;
use firn_replicator::vault::catalog::Catalog;
use firn_replicator::vault::commit::Commit;

use crate::world::POOL;

/// How often a send begins anew before something is wrong.
const TRIES: usize = 100;

/// What is sent.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) volume: u64,
    pub(crate) name: String,
    /// Its blocks: letters.
    pub(crate) blocks: Vec<u8>,
    /// Send it on top of the volume's newest point, as what changed.
    pub(crate) on_parent: bool,
}

impl Snapshot {
    pub(crate) fn new(volume: u64, name: &str, blocks: &[u8]) -> Self {
        Self { volume, name: name.to_owned(), blocks: blocks.to_vec(), on_parent: false }
    }

    pub(crate) fn on_parent(self) -> Self {
        Self { on_parent: true, ..self }
    }
}

/// A point that was uploaded and is in no entry yet.
pub(crate) struct Uploaded {
    pub(crate) committed: Committed,
    /// What it reaches and its parent does not.
    pub(crate) objects: BTreeSet<Key>,
}

/// Sends a snapshot, as often as it takes.
pub(crate) fn send(vault: &Vault, snapshot: &Snapshot) -> Result<Digest> {
    for attempt in 0..TRIES {
        let uploaded = upload_again(vault, snapshot, attempt)?;
        let id = uploaded.committed.id;
        match vault.commit(&[uploaded.committed], None, &uploaded.objects)? {
            Commit::Done(_) | Commit::Present => return Ok(id),
            Commit::Deleted(_) | Commit::ParentGone(_) => {}
        }
    }
    panic!("a send that never ends");
}

/// Uploads everything but the entry.
pub(crate) fn upload(vault: &Vault, snapshot: &Snapshot) -> Result<Uploaded> {
    upload_again(vault, snapshot, 0)
}

/// As `upload`, for the time after `attempt` others. A point that was deleted needs another hash, and where the clock
/// stands still the attempt is all that differs.
fn upload_again(vault: &Vault, snapshot: &Snapshot, attempt: usize) -> Result<Uploaded> {
    let key = vault.data_key(POOL, snapshot.volume)?;
    let catalog = vault.refresh()?;
    let parent = catalog.points_of(POOL, snapshot.volume).last().filter(|_| snapshot.on_parent).cloned();
    let parent = parent.map(|live| live.committed.id);
    let older = match parent {
        Some(id) => match vault.read_point(id) {
            Ok(point) => point.runs,
            // It was reclaimed under us: begin anew with what the log says now.
            Err(_) if !vault.refresh()?.points().contains_key(&id) => {
                return upload_again(vault, snapshot, attempt);
            }
            Err(error) => return Err(error),
        },
        None => Vec::new(),
    };
    let header = |role| Header { role, vault: vault.settings().vault, key };
    let mut sealer = Sealer::new(vault.frame_keys(key)?, LEVEL_DEFAULT)?;
    let mut objects = BTreeSet::new();
    let mut packs = Vec::new();
    for letter in &snapshot.blocks {
        let content = [*letter; 4096];
        let (bytes, finished) =
            container(&mut sealer, &header(Role::Pack), &[(Content::Blocks, content.to_vec())])?;
        let name = |generation| PackName { class: class(), period: 742, id: finished.id, generation };
        let generation = publish(vault, &catalog, &bytes, |generation| name(generation).key())?;
        objects.insert(name(generation).key());
        packs.push(PackRef { name: name(generation), shape: finished.shape, blocks: 1, live_blocks: 1 });
    }
    let run = run(vault, &catalog, &mut sealer, &header(Role::Run), &packs)?;
    objects.insert(run.key());
    let runs: Vec<RunRef> = [run].into_iter().chain(older).take(8).collect();
    let committed = point(vault, snapshot, attempt, parent, key, runs)?;
    Ok(Uploaded { committed, objects })
}

fn class() -> Class {
    Class::new("none").unwrap()
}

fn run(
    vault: &Vault,
    catalog: &Catalog,
    sealer: &mut Sealer,
    header: &Header,
    packs: &[PackRef],
) -> Result<RunRef> {
    let (mut extents, mut list) = (Vec::new(), Vec::new());
    for (index, pack) in (0..).zip(packs) {
        let place = Some(Place { pack: index, position: 0 });
        extent::encode(&Extent { first: u64::from(index), blocks: 1, place }, &mut extents);
        pack_list::encode(pack, &mut list);
    }
    let (bytes, finished) =
        container(sealer, header, &[(Content::Extents, extents), (Content::Packs, list)])?;
    let generation = publish(vault, catalog, &bytes, |generation| name::run(finished.id, generation))?;
    Ok(RunRef { id: finished.id, generation, shape: finished.shape, extents: packs.len() as u64 })
}

fn container(
    sealer: &mut Sealer,
    header: &Header,
    frames: &[(Content, Vec<u8>)],
) -> Result<(Vec<u8>, Finished)> {
    let mut builder = Builder::new(header);
    let mut bytes = builder.header().to_vec();
    for (kind, content) in frames {
        let start = bytes.len();
        let row = sealer.seal(*kind, 0, content, &mut bytes)?;
        builder.add(&row);
        builder.hash(&bytes[start..]);
    }
    let (tail, finished) = builder.finish();
    bytes.extend(tail);
    Ok((bytes, finished))
}

/// Uploads bytes unless they are there, under a name that was never deleted.
fn publish(vault: &Vault, catalog: &Catalog, bytes: &[u8], name: impl Fn(u32) -> Key) -> Result<u32> {
    let generation = catalog.free_generation(&name);
    let key = name(generation);
    if vault.store().head(&key)?.is_none() {
        vault.store().put_if_absent(&key, bytes)?;
    }
    Ok(generation)
}

fn point(
    vault: &Vault,
    snapshot: &Snapshot,
    attempt: usize,
    parent: Option<Digest>,
    key: firn_replicator::format::digest::KeyId,
    runs: Vec<RunRef>,
) -> Result<Committed> {
    let time_ms = vault.store().clock_ms()?;
    let bytes = snapshot.blocks.len() as u64 * 4096;
    let point = Point {
        firn: "point".into(),
        format: 1,
        vault: vault.settings().vault,
        source: Source {
            pool: POOL,
            volume: snapshot.volume,
            name: format!("vol{}", snapshot.volume),
            snapshot: snapshot.name.clone(),
            layer: 0,
            epoch: 1,
            created_ms: time_ms,
        },
        bytes,
        time_ms,
        parent,
        key,
        runs,
        retain_until_ms: None,
        application: BTreeMap::new(),
        tags: BTreeMap::from([("attempt".to_owned(), attempt.to_string())]),
        sent: Sent { changed_bytes: bytes, content_bytes: bytes, stored_bytes: bytes },
    };
    let encoded = point.encode();
    let id = Digest::of(&encoded);
    vault.store().put_if_absent(&name::point(id), &encoded)?;
    Ok(Committed {
        id,
        pool: POOL,
        volume: snapshot.volume,
        name: point.source.name,
        snapshot: point.source.snapshot,
        created_ms: time_ms,
        bytes,
        changed_bytes: bytes,
        stored_bytes: bytes,
        parent,
        key,
        retain_until_ms: None,
        locked: None,
    })
}
