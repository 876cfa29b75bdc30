//! The NBD server with real clients (libnbd, qemu, fio) and with hostile ones, on pools in real files.
//!
//! The Debian packages fio, libnbd-bin, python3-libnbd and qemu-utils hold the clients; `make test` installs them.

mod client;
mod connections;
mod extended;
mod fence;
mod hostile;
mod peers;
mod place;
mod random;
mod scripts;
mod status;
mod tls;
