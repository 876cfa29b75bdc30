//! Changes of the catalog: one journal record each, durable before they are answered.

use super::flush::Waiter;
use super::request::Plan;
use super::{Core, Owner};
use crate::catalog::{Operation, SnapshotKey};
use crate::error::{Error, Kind, Result};
use crate::format::journal::{RECORDS_LEN, Record};
use crate::units::{BLOCK_BYTES, BlockIndex};

impl Core {
    pub(super) fn submit_change(&mut self, owner: Owner, plan: Plan) {
        if !self.journal.has_room(RECORDS_LEN, &self.tail)
            && self.failed.is_none()
            && self.checkpoints.failure().is_none()
        {
            return self.parked_changes.push_back((owner, plan));
        }
        match self.change(plan) {
            Ok(operation) => self.flush_for(Waiter::Change(owner, Box::new(operation))),
            Err(error) => self.complete(owner, Err(error)),
        }
    }

    pub(super) fn retry_changes(&mut self) {
        for (owner, plan) in std::mem::take(&mut self.parked_changes) {
            self.submit_change(owner, plan);
        }
    }

    fn change(&mut self, plan: Plan) -> Result<Operation> {
        self.writable()?;
        let operation = plan(&self.catalog, self.wall_ms)?;
        self.catalog.check(&operation)?;
        self.check_pins(&operation)?;
        let record = Record::Catalog(operation.encode()?);
        if !self.journal.has_room(record.encoded_len(), &self.tail) {
            return Err(Error::new(
                Kind::OutOfSpace,
                "change catalog",
                "the journal is full and no checkpoint can be made",
            )
            .hint("free space on the file system of the metadata directory"));
        }
        let epoch = self.catalog.epoch();
        let lsn = self.journal.append(&[record], epoch, self.durable, &self.tail);
        self.take_effect(&operation);
        self.note(lsn, None, 0..0, Some(&operation));
        self.statistics.changes += 1;
        Ok(operation)
    }

    /// Lets an operation take effect on the catalog and, where a volume shrinks, on the map.
    fn take_effect(&mut self, operation: &Operation) {
        if let Some((layer, first, blocks)) = cut_off(&self.catalog, operation) {
            self.active.unmap(layer, first, blocks, self.catalog.epoch());
            self.cuts += 1;
        }
        self.catalog.apply(operation);
        self.checkpoints.note_change();
    }

    fn check_pins(&self, operation: &Operation) -> Result<()> {
        let used = |key: &SnapshotKey| self.pins.contains_key(key);
        let used = match operation {
            Operation::SnapshotDelete { key } => used(key),
            Operation::VolumeDelete { id } => {
                self.catalog.snapshots_of(*id).iter().any(|snapshot| used(&snapshot.key))
            }
            _ => false,
        };
        match used {
            true => {
                Err(Error::new(Kind::Conflict, "delete snapshot", "a transfer or an export is reading it")
                    .hint("wait until it is over, or stop it"))
            }
            false => Ok(()),
        }
    }
}

/// What a shrinking volume loses: the layer, the first block beyond the new end, and how many.
pub(crate) fn cut_off(
    catalog: &crate::catalog::Catalog,
    operation: &Operation,
) -> Option<(crate::units::LayerId, BlockIndex, u64)> {
    let Operation::VolumeResize { id, bytes } = operation else { return None };
    let volume = catalog.volume(*id).ok().filter(|volume| *bytes < volume.bytes)?;
    let first = bytes / BLOCK_BYTES;
    Some((volume.layer, BlockIndex(first), volume.bytes / BLOCK_BYTES - first))
}
