//! First versions that were found, so that reading parts of one object lists its versions once.
//!
//! A version that was the first and is still there is the first for ever. One that is gone is looked for anew.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;

/// Objects that are remembered at most; then all are forgotten.
const PINS_MAX: usize = 4096;

/// The first version of an object by the object's name.
#[derive(Debug, Default)]
pub(super) struct Pins(Mutex<FxHashMap<String, String>>);

impl Pins {
    pub(super) fn get(&self, object: &str) -> Option<String> {
        self.map().get(object).cloned()
    }

    pub(super) fn insert(&self, object: &str, version: &str) {
        let mut map = self.map();
        if map.len() >= PINS_MAX {
            map.clear();
        }
        map.insert(object.to_owned(), version.to_owned());
    }

    pub(super) fn remove(&self, object: &str) {
        self.map().remove(object);
    }

    fn map(&self) -> MutexGuard<'_, FxHashMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded() {
        let pins = Pins::default();
        for index in 0..=PINS_MAX {
            pins.insert(&format!("object {index}"), "version");
        }
        assert_eq!(pins.get("object 0"), None);
        assert_eq!(pins.get(&format!("object {PINS_MAX}")).as_deref(), Some("version"));
        pins.remove(&format!("object {PINS_MAX}"));
        assert_eq!(pins.get(&format!("object {PINS_MAX}")), None);
    }
}
