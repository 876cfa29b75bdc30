//! Volumes and snapshots as block devices for other programs.

pub mod nbd;
