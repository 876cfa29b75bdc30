//! The vault's catalog: its log, keys, holds, dates, prune, reclaim and check, on a store in memory.

#![expect(clippy::unwrap_used, reason = "what a test asks of the vault must work, or the test ends there")]

mod actor;
mod beginning;
mod careless;
mod cells;
mod destroyed;
mod forged;
mod former;
mod forward;
mod foundation;
mod judge;
mod keys;
mod kill;
mod log;
mod points;
mod protect;
mod reclaim;
mod schedule;
mod sender;
mod shared;
mod thief;
mod turns;
mod unlocked;
mod world;
