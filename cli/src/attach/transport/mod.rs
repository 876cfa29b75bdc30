//! The ways in which the kernel can be shown an export as a block device: one file each.
//!
//! There is FUSE with a loop device today, which every kernel has. The kernel's own NBD client and ublk take their
//! place in [`Kind::choose`] and in [`offer`], and what they need for taking a device away in [`release`].

mod file;
mod fuse_loop;
mod loop_device;

use std::path::Path;
use std::sync::Arc;

use firn_engine::error::{Error, Kind as ErrorKind};
use firn_engine::export::nbd::client::Client;

use super::entry::Entry;

/// A way to show an export to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A FUSE file system with one file, and a loop device on that file.
    FuseLoop,
}

impl Kind {
    /// The best that this kernel has.
    pub(super) fn choose() -> Result<Self, Error> {
        match Path::new("/dev/fuse").exists() && Path::new("/dev/loop-control").exists() {
            true => Ok(Self::FuseLoop),
            false => {
                Err(Error::new(ErrorKind::Unavailable, "attach", "this kernel has no way to make a device")
                    .hint("load the kernel modules fuse and loop: `modprobe -a fuse loop`"))
            }
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::FuseLoop => "fuse-loop",
        }
    }
}

/// A block device that shows an export, for as long as this lives.
pub(super) trait Device {
    /// Its path.
    fn path(&self) -> &Path;

    /// Answers the kernel's requests until the device was taken away.
    fn serve(self: Box<Self>) -> Result<(), Error>;
}

/// Shows the client's export to the kernel.
pub(super) fn offer(kind: Kind, client: Arc<Client>, entry: &Entry) -> Result<Box<dyn Device>, Error> {
    match kind {
        Kind::FuseLoop => Ok(Box::new(fuse_loop::FuseLoop::offer(client, entry)?)),
    }
}

/// Takes a device away, whether or not its helper lives. What uses it must be gone, or its helper.
pub(super) fn release(entry: &Entry) -> Result<(), Error> {
    fuse_loop::release(entry)
}

/// Whether a device is still the entry's.
pub(super) fn is_on(entry: &Entry, device: &Path) -> Result<bool, Error> {
    fuse_loop::is_on(entry, device)
}

/// Whether the kernel still has something of the device.
pub(super) fn is_present(entry: &Entry) -> Result<bool, Error> {
    fuse_loop::is_present(entry)
}
