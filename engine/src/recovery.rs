//! Opening and closing a pool: superblocks, what a dead process left, the journal's replay.
//!
//! 1. Opening changes nothing that a second attempt would need: a crash at any point of it leaves a pool that opens.
//! 2. What a dead process had acknowledged is finished first: its staged data and journal blocks go to the device
//!    and are synced (I8). After a power cut there is no such thing.
//! 3. The journal's records are believed up to what was durable without a look; beyond that, a write counts only
//!    when its data is there with its checksum, and the first that is not ends the journal (I2).
//! 4. Before anything new is accepted, what was recovered is synced and a journal block says where it ended, so
//!    that no record that was cut can come back.

mod blocking;
mod load;
mod superblocks;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use load::load_catalog;
pub use superblocks::read_superblock;

use crate::catalog::Catalog;
use crate::core::CoreParts;
use crate::device::Device;
use crate::error::{Error, Kind, Result};
use crate::format::journal::{Header, Record, seal};
use crate::format::superblock::{CleanEnd, JOURNAL_START, Superblock};
use crate::journal::replay::{Chain, read_chain};
use crate::journal::tail::{Tail, TailOwner, TailShape};
use crate::journal::{Journal, Position, Ring};
use crate::map::store::{CheckpointState, MapStore};
use crate::sys::{BufferPool, Memory};
use crate::units::{BLOCK_LEN, Epoch, LayerId, Lsn, PoolId};
use blocking::Blocking;

/// Fewest journal blocks: enough for a few checkpoints' worth of a small pool.
pub const JOURNAL_BLOCKS_MIN: u64 = 64;

/// How a new pool is laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolShape {
    /// Blocks in the journal's ring.
    pub journal_blocks: u64,
    /// Blocks in an allocation region, a multiple of 64.
    pub region_blocks: u32,
}

impl Default for PoolShape {
    fn default() -> Self {
        Self { journal_blocks: (256 << 20) / BLOCK_LEN as u64, region_blocks: (64 << 20) / 4096 }
    }
}

/// Where the tail is, and what another process left there.
pub struct TailPlace {
    /// The memory of the file that another process left.
    pub left: Option<Arc<Memory>>,
    /// The running kernel's boot id.
    pub boot_id: [u8; 16],
    /// The shape of the new tail.
    pub shape: TailShape,
    /// Buffers for the core.
    pub buffers: BufferPool,
}

/// What opening found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryReport {
    /// The pool had been closed cleanly.
    pub clean: bool,
    /// Records replayed from the journal.
    pub records: u64,
    /// Records cut from its end, because they were not wholly written before the crash. None was durable.
    pub cut_records: u64,
    /// Blocks of data and journal finished for a process that died.
    pub tail_blocks: u64,
    /// Blocks of data read to see whether they were written.
    pub verified_blocks: u64,
    /// One of the two superblocks was damaged and was written again.
    pub repaired_superblock: bool,
    /// Damage found on the way that nothing was lost by.
    pub notes: Vec<String>,
}

/// An open pool's parts.
pub struct Opened {
    /// For the core.
    pub parts: CoreParts,
    /// As it is on the device now.
    pub superblock: Superblock,
    /// What was found and done.
    pub report: RecoveryReport,
}

/// Lays out a new pool. Durable on return.
///
/// # Errors
/// [`Kind::Invalid`] when the device is too small; what the device or RocksDB said.
pub fn create(
    device: &mut dyn Device,
    store: &MapStore,
    pool_id: PoolId,
    shape: &PoolShape,
    created_ms: u64,
) -> Result<Superblock> {
    let pool_blocks = device.bytes() / BLOCK_LEN as u64;
    let data_start = JOURNAL_START + shape.journal_blocks;
    if shape.journal_blocks < JOURNAL_BLOCKS_MIN || pool_blocks < data_start + 256 {
        let detail = format!(
            "{pool_blocks} blocks of 4096 bytes hold no journal of {} blocks and 1 MiB of data",
            shape.journal_blocks
        );
        return Err(
            Error::new(Kind::Invalid, "create pool", detail).hint("give it more room or a smaller journal")
        );
    }
    let superblock = Superblock {
        pool_id,
        sequence: 1,
        incarnation: 0,
        created_ms,
        journal_start: JOURNAL_START,
        journal_blocks: shape.journal_blocks,
        data_start,
        pool_blocks,
        region_blocks: shape.region_blocks,
        clean: Some(CleanEnd { next_lsn: 1, next_sequence: 0 }),
    };
    let state = CheckpointState {
        pool_id: pool_id.to_string(),
        incarnation: 0,
        next_lsn: Lsn(1),
        next_sequence: 0,
        previous: 0,
        epoch: Epoch(1),
        next_id: 1,
        next_layer: LayerId(1),
    };
    store.commit(store.batch(), &state)?;
    superblocks::write(&mut Blocking::new(device), &superblock)?;
    Ok(superblock)
}

/// Opens a pool: recovers it when it was not closed cleanly. `new_tail` makes the shared memory of this open, after
/// everything of the old one is on the device.
///
/// # Errors
/// [`Kind::Damaged`] when something that was durable can't be read; [`Kind::Conflict`] when the metadata belongs to
/// another pool; what the device, RocksDB or `new_tail` said.
pub fn open(
    device: &mut dyn Device,
    store: &MapStore,
    tail: TailPlace,
    new_tail: impl FnOnce(usize) -> Result<Arc<Memory>>,
) -> Result<Opened> {
    let mut report = RecoveryReport::default();
    let mut device = Blocking::new(device);
    let superblock = superblocks::read(&mut device, &mut report)?;
    let state = store.state()?;
    check_pair(&superblock, &state, device.bytes())?;
    report.clean = superblock.clean.is_some();
    let ring = Ring { start: superblock.journal_start, blocks: superblock.journal_blocks };
    let left = match superblock.clean {
        None => finish_tail(&mut device, &superblock, ring, &tail, &mut report)?,
        Some(_) => None,
    };
    let start =
        Position { next_lsn: state.next_lsn, next_sequence: state.next_sequence, previous: state.previous };
    let mut chain = read_chain(ring, superblock.pool_id, start, |at, length| device.read(at, length))?;
    check_clean_end(&superblock, &chain)?;
    match left {
        // The device took all of it: what is not there now was not torn by a crash, and its reads will say so.
        Some(published) => check_published(published, &chain)?,
        None => cut_unwritten(&mut device, &superblock, &mut chain, &mut report)?,
    }

    let loaded = load::load(store, &superblock, &state, &chain, &mut report)?;
    let incarnation = superblock.incarnation.max(chain.incarnation).max(state.incarnation) + 1;
    let end = mark_end(&mut device, &superblock, ring, &chain, incarnation, loaded.catalog.epoch(), &state)?;
    let superblock = Superblock { sequence: superblock.sequence + 1, incarnation, clean: None, ..superblock };
    // The new tail takes the old one's place before the superblock names its incarnation: a death in between finds
    // no tail to believe, and needs none, because everything was synced.
    let memory = new_tail(tail.shape.bytes())?;
    let owner = TailOwner { pool_id: superblock.pool_id, boot_id: tail.boot_id, incarnation };
    let buffers = tail.buffers;
    let tail = Tail::create(memory, tail.shape, owner);
    superblocks::write(&mut device, &superblock)?;
    let journal = Journal::new(ring, superblock.pool_id, incarnation, end, state.next_sequence);
    let parts = CoreParts {
        pool_id: superblock.pool_id,
        incarnation,
        catalog: loaded.catalog,
        space: loaded.space,
        journal,
        tail,
        overlay: loaded.overlay,
        durable: end.next_lsn,
        buffers,
        checkpoint_epoch: state.epoch,
    };
    Ok(Opened { parts, superblock, report })
}

fn check_pair(superblock: &Superblock, state: &CheckpointState, device_bytes: u64) -> Result<()> {
    if state.pool_id != superblock.pool_id.to_string() {
        let detail = format!(
            "the device holds pool {}, the metadata belongs to {}",
            superblock.pool_id, state.pool_id
        );
        return Err(
            Error::new(Kind::Conflict, "open pool", detail).hint("give the metadata directory of this pool")
        );
    }
    if superblock.pool_blocks * BLOCK_LEN as u64 > device_bytes {
        let detail = format!(
            "the pool has {} bytes, the device only {device_bytes}: it was cut",
            superblock.pool_blocks * BLOCK_LEN as u64
        );
        return Err(Error::new(Kind::Damaged, "open pool", detail));
    }
    Ok(())
}

/// Writes what a dead process left in the tail where it belongs. Returns how far that process came; `None` when
/// it left nothing.
fn finish_tail(
    device: &mut Blocking<'_>,
    superblock: &Superblock,
    ring: Ring,
    place: &TailPlace,
    report: &mut RecoveryReport,
) -> Result<Option<Lsn>> {
    let owner = TailOwner {
        pool_id: superblock.pool_id,
        boot_id: place.boot_id,
        incarnation: superblock.incarnation,
    };
    let Some(tail) = place.left.clone().and_then(|memory| Tail::open(memory, owner)) else { return Ok(None) };
    let damaged = |detail: String| Error::new(Kind::Damaged, "recover from shared memory", detail);
    let journal = tail
        .left_journal()
        .map_err(|source| damaged("its journal is not readable".to_owned()).source(source))?;
    let data = tail.left_data();
    for &(slot, block) in &data {
        if block.0 < superblock.data_start || block.0 >= superblock.pool_blocks {
            return Err(damaged(format!("it names physical block {block}, which is not in the data area")));
        }
        device.write(block.offset(), tail.data(slot, 1))?;
    }
    for (sequence, bytes) in &journal {
        device.write_bytes(ring.offset(*sequence), bytes)?;
    }
    device.drain()?;
    device.sync()?;
    report.tail_blocks = (data.len() + journal.len()) as u64;
    Ok(Some(tail.left_next_lsn()))
}

fn check_published(published: Lsn, chain: &Chain) -> Result<()> {
    if published <= chain.end.next_lsn {
        return Ok(());
    }
    let detail = format!(
        "the process before had come to record {published}, but the journal on the device ends at {}",
        chain.end.next_lsn
    );
    Err(Error::new(Kind::Damaged, "recover pool", detail).hint(
        "the device lost writes that it had completed; remove the shared-memory file to open what is left",
    ))
}

fn check_clean_end(superblock: &Superblock, chain: &Chain) -> Result<()> {
    let Some(end) = superblock.clean else { return Ok(()) };
    if end.next_lsn == chain.end.next_lsn.0 && end.next_sequence == chain.end.next_sequence {
        return Ok(());
    }
    Err(Error::new(
        Kind::Damaged,
        "open pool",
        format!(
            "the pool was closed with the journal at record {} (block {}), but it ends at record {} (block {})",
            end.next_lsn, end.next_sequence, chain.end.next_lsn, chain.end.next_sequence
        ),
    )
    .hint("the journal is damaged, or the metadata directory is from another time than the device"))
}

/// Ends the chain before the first group of records whose data is not there.
fn cut_unwritten(
    device: &mut Blocking<'_>,
    superblock: &Superblock,
    chain: &mut Chain,
    report: &mut RecoveryReport,
) -> Result<()> {
    let mut writes = Vec::new();
    for block in chain.blocks.iter().filter(|block| block.end() > chain.durable) {
        let mut group = block.header.first_lsn;
        for (lsn, record) in (block.header.first_lsn.0..).map(Lsn).zip(block.records()?) {
            let continues = record.continues();
            if let Record::Write { physical, checksums, .. } = record
                && lsn >= chain.durable
            {
                writes.push((group, physical, checksums));
            }
            if !continues {
                group = lsn.next();
            }
        }
    }
    let area = superblock.data_start..superblock.pool_blocks;
    let bad = device.first_unwritten(&writes, &area, &mut report.verified_blocks)?;
    let Some(lsn) = bad else { return Ok(()) };
    report.cut_records = chain.end.next_lsn.0 - lsn.0;
    chain.end.next_lsn = lsn;
    chain.blocks.iter_mut().for_each(|block| block.cut(lsn));
    Ok(())
}

/// Syncs what was recovered, then says in a journal block where it ended. When the pool was closed cleanly there is
/// nothing to say.
fn mark_end(
    device: &mut Blocking<'_>,
    superblock: &Superblock,
    ring: Ring,
    chain: &Chain,
    incarnation: u64,
    epoch: Epoch,
    state: &CheckpointState,
) -> Result<Position> {
    if superblock.clean.is_some() {
        return Ok(chain.end);
    }
    if chain.end.next_sequence - state.next_sequence + 1 >= ring.blocks {
        return Err(Error::new(
            Kind::Unavailable,
            "recover pool",
            "the journal is full: too many recoveries were interrupted before a checkpoint could be made",
        ));
    }
    device.sync()?;
    let header = Header {
        pool_id: superblock.pool_id,
        sequence: chain.end.next_sequence,
        incarnation,
        first_lsn: chain.end.next_lsn,
        durable_lsn: chain.end.next_lsn,
        epoch,
        count: 0,
        bytes: 0,
        previous: chain.end.previous,
    };
    let mut block = vec![0; BLOCK_LEN];
    let previous = seal(&mut block, &header);
    device.write_bytes(ring.offset(header.sequence), &block)?;
    device.drain()?;
    device.sync()?;
    Ok(Position { next_lsn: chain.end.next_lsn, next_sequence: header.sequence + 1, previous })
}

/// Marks the pool as closed cleanly, with the journal ending here; everything before is durable and checkpointed.
///
/// # Errors
/// What the device said; the pool then recovers at the next open.
pub fn close(
    device: &mut dyn Device,
    superblock: &Superblock,
    next_lsn: Lsn,
    next_sequence: u64,
) -> Result<()> {
    let clean = Some(CleanEnd { next_lsn: next_lsn.0, next_sequence });
    let superblock = Superblock { sequence: superblock.sequence + 1, clean, ..superblock.clone() };
    superblocks::write(&mut Blocking::new(device), &superblock)
}

/// Takes room that was added to the device.
///
/// # Errors
/// [`Kind::Invalid`] when it is not more than before; what the device said.
pub fn grow(device: &mut dyn Device, superblock: &Superblock, pool_blocks: u64) -> Result<Superblock> {
    if pool_blocks <= superblock.pool_blocks || pool_blocks * BLOCK_LEN as u64 > device.bytes() {
        let detail = format!("from {} to {pool_blocks} blocks of 4096 bytes", superblock.pool_blocks);
        return Err(Error::new(Kind::Invalid, "grow pool", detail)
            .hint("a pool only grows, to at most its device's size"));
    }
    let superblock = Superblock { sequence: superblock.sequence + 1, pool_blocks, ..superblock.clone() };
    superblocks::write(&mut Blocking::new(device), &superblock)?;
    Ok(superblock)
}

/// What the store and the journal say together.
pub(crate) struct Loaded {
    pub(crate) catalog: Catalog,
    pub(crate) space: crate::space::Space,
    pub(crate) overlay: crate::map::overlay::Overlay,
}
