//! File systems on attached volumes, under everything that programs do to them, with snapshots and rollbacks.

#[path = "../shell/mod.rs"]
mod shell;

mod files;
mod fio;
mod log;
mod torture;
