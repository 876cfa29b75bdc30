//! Tables of containers that were read and verified, kept within a budget: the one that was not used for longest goes.

use std::collections::BTreeMap;
use std::mem::size_of;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::container::{Expected, read_table};
use crate::error::Result;
use crate::format::container::{Row, Shape, Table};
use crate::store::{Key, Store};

/// Tables in memory; used by several threads at once.
pub(crate) struct Tables {
    state: Mutex<State>,
    bytes_max: usize,
}

#[derive(Default)]
struct State {
    tables: BTreeMap<Key, Kept>,
    bytes: usize,
    uses: u64,
}

struct Kept {
    table: Arc<Table>,
    used: u64,
}

impl Tables {
    /// Keeps at most `bytes_max` bytes of them, and always the last one.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { state: Mutex::default(), bytes_max }
    }

    /// The table of container `key`. Two threads that miss it at once both read it.
    ///
    /// # Errors
    /// As [`read_table`].
    pub(crate) fn get(
        &self,
        store: &dyn Store,
        key: &Key,
        shape: &Shape,
        expected: Expected,
    ) -> Result<Arc<Table>> {
        if let Some(table) = self.state().find(key) {
            return Ok(table);
        }
        let table = Arc::new(read_table(store, key, shape, expected)?);
        self.state().keep(key, &table, self.bytes_max);
        Ok(table)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&mut self, key: &Key) -> Option<Arc<Table>> {
        self.uses += 1;
        let kept = self.tables.get_mut(key)?;
        kept.used = self.uses;
        Some(kept.table.clone())
    }

    fn keep(&mut self, key: &Key, table: &Arc<Table>, bytes_max: usize) {
        let kept = Kept { table: table.clone(), used: self.uses };
        self.bytes += bytes_of(table);
        if let Some(replaced) = self.tables.insert(key.clone(), kept) {
            self.bytes -= bytes_of(&replaced.table);
        }
        while self.bytes > bytes_max && self.tables.len() > 1 {
            let oldest =
                self.tables.iter().filter(|(other, _)| *other != key).min_by_key(|(_, kept)| kept.used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { return };
            if let Some(gone) = self.tables.remove(&oldest) {
                self.bytes -= bytes_of(&gone.table);
            }
        }
    }
}

fn bytes_of(table: &Table) -> usize {
    table.rows().len() * (size_of::<Row>() + size_of::<u64>())
}
