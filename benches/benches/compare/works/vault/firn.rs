//! firn as one of those that keep an image: a vault in a directory.

use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use firn_engine::catalog::Tags;
use firn_engine::pool::Pool;
use firn_engine::volume::Volume;
use firn_replicator::format::digest::Digest;
use firn_replicator::format::entry::Who;
use firn_replicator::format::settings::Cipher;
use firn_replicator::store::{DirectoryStore, Store};
use firn_replicator::vault::Vault;
use firn_replicator::vault::identity::signing_key;
use firn_replicator::vault::init::InitOptions;
use firn_replicator::vault::send::{SendOptions, SentPoint};
use firn_replicator::vault::sink::FileSink;
use firn_replicator::vault::source::SnapshotSource;

use super::peers::Peer;

/// Makes a vault without encryption in `store`; `signing` is where the key that signs is kept.
pub(super) fn init(store: Arc<dyn Store>, signing: &Path) -> Result<Vault> {
    let options = InitOptions {
        probed: store.capabilities(),
        cipher: Cipher::None,
        lock: None,
        signing: signing_key(signing)?,
        unlock: None,
        who: Who::default(),
        cache: None,
    };
    Ok(Vault::init(store, options)?)
}

/// Takes a snapshot and sends it.
pub(super) fn send(vault: &Vault, pool: &Pool, volume: &Volume, snapshot: &str) -> Result<SentPoint> {
    volume.snapshot(snapshot, Tags::new())?;
    let source = SnapshotSource::open(pool, volume, snapshot)?;
    let report = vault.send(&[&source], &SendOptions::default(), &())?;
    report.points.into_iter().next().context("a send gave no point")
}

/// Restores a point to a new file.
pub(super) fn restore(vault: &Vault, point: Digest, path: &Path) -> Result<()> {
    let reader = vault.open_point(point)?;
    let file = File::create_new(path).with_context(|| path.display().to_string())?;
    file.set_len(reader.point().bytes)?;
    let _ = reader.restore(&FileSink::new(file, true), &())?.whole()?;
    Ok(())
}

/// firn.
pub(super) struct Firn {
    pool: Arc<Pool>,
    volume: Volume,
    folder: PathBuf,
    store: PathBuf,
    vault: RefCell<Option<(Vault, Option<Digest>)>>,
}

impl Firn {
    /// Keeps `volume` below `folder`.
    pub(super) fn new(pool: Arc<Pool>, volume: Volume, folder: &Path) -> Result<Self> {
        let folder = folder.join("firn");
        std::fs::create_dir_all(&folder)?;
        Ok(Self { pool, volume, store: folder.join("store"), folder, vault: RefCell::new(None) })
    }
}

impl Peer for Firn {
    fn name(&self) -> &'static str {
        "firn"
    }

    fn create(&self) -> Result<()> {
        let vault = init(Arc::new(DirectoryStore::open(&self.store)?), &self.folder.join("signing"))?;
        *self.vault.borrow_mut() = Some((vault, None));
        Ok(())
    }

    fn keep(&self, number: usize) -> Result<()> {
        let mut kept = self.vault.borrow_mut();
        let (vault, newest) = kept.as_mut().context("no vault was made")?;
        let snapshot = format!("{}-{number}", vault.settings().vault);
        *newest = Some(send(vault, &self.pool, &self.volume, &snapshot)?.id);
        Ok(())
    }

    fn restore(&self) -> Result<PathBuf> {
        let kept = self.vault.borrow();
        let (vault, newest) = kept.as_ref().context("no vault was made")?;
        let path = self.folder.join("restored");
        restore(vault, newest.context("nothing was kept")?, &path)?;
        Ok(path)
    }

    fn store(&self) -> &Path {
        &self.store
    }
}
