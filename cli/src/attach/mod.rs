//! Volumes as block devices of this machine: `firn attach` and `firn detach`.
//!
//! `firn attach` starts a process of its own for each device (`helper`), which is a client of the daemon's NBD socket
//! and shows the export to the kernel by one of the `transport`s. What is attached is written down in a directory
//! under the runtime directory (`entry`), which is how another firn finds it.
//!
//! 1. An entry's lock is held from before the entry is written until its helper ends: an entry whose lock is free
//!    belongs to nobody that lives. The kernel lets go of it when the helper dies, however it does.
//! 2. The helper outlives the daemon: while that is away the device waits (`engine::export::nbd::client`).
//! 3. A device is taken away only when nobody uses it, or by force, and then its helper is ended first: what is in
//!    the kernel's memory for it gets an error rather than waiting for ever.
//! 4. What is detached without force is on stable storage first, or the command says that it is not.

mod attaching;
mod detaching;
mod entry;
mod helper;
mod holders;
mod listing;
mod log;
mod mounting;
mod mounts;
mod starting;
mod tool;
mod transport;
mod waiting;

pub(crate) use attaching::attach;
pub(crate) use detaching::detach;
pub(crate) use helper::run as run_helper;
pub(crate) use listing::list;
