//! S3 as a store, on a real service (Ceph's radosgw, by `tests/s3-server`).

#![expect(clippy::unwrap_used, reason = "what only serves the tests ends them, too")]

mod contract;
mod errors;
mod faults;
mod hidden;
mod lenient;
#[allow(dead_code, reason = "the tests of vaults use more of it")]
#[path = "../vault/model.rs"]
mod model;
mod probe;
mod proxy;
mod service;
