//! S3 as a store, on a real service (Ceph's radosgw, by `tests/s3-server`).

#![expect(clippy::unwrap_used, reason = "what only serves the tests ends them, too")]

mod contract;
mod errors;
mod faults;
mod lenient;
mod probe;
mod proxy;
mod service;
