//! Damage that is met on the way: it ends the work, or it is noted and everything else goes on.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::format::digest::Digest;
use crate::store::Key;

/// Ranges that are named one by one; further ones are only counted.
const RANGES_MAX: usize = 1000;

/// An object that is missing or not what was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// The object.
    pub object: Key,
    /// What is wrong with it, the first thing that was met.
    pub detail: String,
    /// The live points that need it, as far as that can be known.
    pub points: Vec<Digest>,
}

/// What becomes of damage.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Judge<'a> {
    /// It ends the work.
    Refuse,
    /// It is noted.
    Note(&'a Notes),
}

impl Judge<'_> {
    /// Lets damage of `object` pass.
    ///
    /// # Errors
    /// Any other error, and damage where none may pass.
    pub(crate) fn pass(&self, object: &Key, error: Error) -> Result<()> {
        match self {
            Judge::Note(notes) if error.kind() == Kind::Damaged => {
                notes.state().objects.entry(object.clone()).or_insert_with(|| error.to_string());
                Ok(())
            }
            _ => Err(error),
        }
    }
}

/// Damage that was noted, by several threads.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<Key, String>,
    /// Blocks that could not be had: where ranges start, and where they end.
    lost: BTreeMap<u64, u64>,
    lost_blocks: u64,
}

impl Notes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that these blocks can't be had.
    pub(crate) fn lose(&self, blocks: Range<u64>) {
        let mut state = self.state();
        state.lost_blocks += blocks.end - blocks.start;
        let (mut first, mut end) = (blocks.start, blocks.end);
        if let Some((before, ended)) = state.lost.range(..first).next_back().map(|(a, b)| (*a, *b))
            && ended == first
        {
            first = before;
        }
        if let Some(after) = state.lost.remove(&end) {
            end = after;
        }
        if state.lost.len() < RANGES_MAX || state.lost.contains_key(&first) {
            state.lost.insert(first, end);
        }
    }

    /// The damaged objects and what is wrong with each.
    pub(crate) fn objects(&self) -> BTreeMap<Key, String> {
        self.state().objects.clone()
    }

    /// Blocks that could not be had, and how many in all.
    pub(crate) fn lost(&self) -> (Vec<Range<u64>>, u64) {
        let state = self.state();
        (state.lost.iter().map(|(first, end)| *first..*end).collect(), state.lost_blocks)
    }
}
