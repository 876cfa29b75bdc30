//! Vaults from end to end: snapshots are sent, restored and verified, with stores that fail and objects that are damaged.

#![allow(clippy::unwrap_used, reason = "clippy takes only functions that are marked so for tests")]

mod again;
mod condemned;
mod cost;
mod damage;
mod forward;
mod groups;
mod hidden;
mod independent;
mod kill;
mod media;
mod model;
mod place;
mod pool;
mod random;
mod ranges;
mod stopped;
