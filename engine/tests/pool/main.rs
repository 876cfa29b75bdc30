//! Pools on real files: what a caller sees of pools, volumes, snapshots, groups and clones, on both devices.
//!
//! The files lie on the disk that the build lies on, because tmpfs has no direct I/O.

mod ahead;
mod clients;
mod clones;
mod lifecycle;
mod place;
mod room;
mod snapshots;
mod volumes;
