//! Volumes as NBD exports: `volume`, and read-only `volume@snapshot`.

pub mod protocol;
