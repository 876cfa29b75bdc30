//! Policy: how long recovery points live, how what they reach is locked, and what may be deleted. Values in, values
//! out; no store and no clock.
//!
//! 1. Time is always the store's, in ms since 1970, and handed in. The calendar is UTC's; weeks are ISO 8601's.
//! 2. Whatever is not known, or contradicts itself, is kept.

pub mod calendar;
pub mod claim;
pub mod class;
mod expire;
pub mod keep;
pub mod lock;
pub mod reclaim;
pub mod verdict;

pub use keep::{Keep, Rule};
pub use verdict::{Candidate, Expired, Fate, Kept, Verdict};
