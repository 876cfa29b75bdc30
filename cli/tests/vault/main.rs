//! Vaults through the real program: sending, restoring, keys, retention, proof, damage.

#[macro_use]
#[path = "../shell/mod.rs"]
mod shell;

mod blocked;
mod damage;
mod groups;
mod journey;
mod keys;
mod killed;
mod machines;
mod media;
mod reclaimed;
mod retention;
mod s3;
mod stolen;
mod volume;
