//! PostgreSQL on attached volumes, through the whole stack: file system, loop device, FUSE, NBD, daemon, engine.

#[path = "../shell/mod.rs"]
mod shell;

mod bank;
mod cluster;
mod ledger;
mod pgbench;
mod session;
