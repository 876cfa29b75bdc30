//! The ways in which the kernel can be shown an export as a block device.
//!
//! There is the kernel's own NBD client, and FUSE with a loop device, which nearly every kernel has. ublk takes its
//! place in [`Kind::choose`] and in [`offer`], and what it needs for taking a device away in [`release`].
//!
//! 1. Where nobody asked for a way, the kernel's NBD is taken if it can do what is wanted, and FUSE if it can't: also
//!    when that shows only when the device is made, as in containers. What the server refuses, it refuses to both.
//! 2. A device's path is an entry's only if the kernel says so: its number may be somebody else's by now.

mod file;
mod fuse_loop;
mod kernel_nbd;
mod loop_device;
mod nbd_device;
mod netlink;

use std::path::{Path, PathBuf};

use firn_engine::error::{Error, Kind as ErrorKind};
use firn_engine::export::nbd::client::{ClientOptions, Export, Observer, Reconnect, Uri};

use super::entry::Entry;
use super::log::log;
use super::mounts;
use crate::args::attach::By;

/// A way to show an export to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The kernel's own NBD client.
    KernelNbd,
    /// A FUSE file system with one file, and a loop device on that file.
    FuseLoop,
}

/// What is wanted of a device.
pub(super) struct Wish<'a> {
    pub(super) uri: &'a Uri,
    pub(super) connections: usize,
    pub(super) reconnect: Reconnect,
}

impl Wish<'_> {
    /// Why the kernel's NBD client can't do it.
    fn beyond_kernel_nbd(&self) -> Option<&'static str> {
        if self.uri.is_tls {
            Some("TLS")
        } else if self.connections > 1 {
            Some("several connections")
        } else if self.reconnect != Reconnect::Forever {
            Some("--reconnect-timeout")
        } else {
            None
        }
    }
}

impl Kind {
    /// What was asked for or, where nothing was, the kernel's NBD before FUSE.
    fn choose(by: Option<By>, wish: &Wish<'_>) -> Result<Self, Error> {
        match (by, wish.beyond_kernel_nbd()) {
            (Some(By::Nbd), Some(what)) => {
                let detail = format!("the kernel's NBD client is not used with {what}");
                Err(Error::new(ErrorKind::Invalid, "attach", detail).hint("attach with `--by fuse`"))
            }
            (Some(By::Nbd), None) => nbd_device::check().map(|()| Self::KernelNbd),
            (None, None) if nbd_device::check().is_ok() => Ok(Self::KernelNbd),
            (None | Some(By::Fuse), _) => check_fuse().map(|()| Self::FuseLoop),
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::KernelNbd => "kernel-nbd",
            Self::FuseLoop => "fuse-loop",
        }
    }
}

fn check_fuse() -> Result<(), Error> {
    match Path::new("/dev/fuse").exists() && Path::new("/dev/loop-control").exists() {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Unavailable, "attach", "this kernel has no way to make a device")
            .hint("load the kernel modules fuse and loop, or nbd: `modprobe -a fuse loop`")),
    }
}

/// A block device that shows an export, for as long as this lives.
pub(super) trait Device {
    /// Its path.
    fn path(&self) -> &Path;

    /// What it shows.
    fn export(&self) -> Export;

    /// Sees to it that requests are answered until the device was taken away.
    fn serve(self: Box<Self>) -> Result<(), Error>;
}

/// Shows an export to the kernel, and says how. An observer is made for each way that is tried.
pub(super) fn offer(
    by: Option<By>,
    wish: &Wish<'_>,
    observer: impl Fn() -> Observer,
    entry: &Entry,
) -> Result<(Kind, Box<dyn Device>), Error> {
    if Kind::choose(by, wish)? == Kind::KernelNbd {
        let connected = kernel_nbd::Connected::to(wish.uri)?;
        match connected.offer(observer(), entry) {
            Ok(device) => return Ok((Kind::KernelNbd, Box::new(device))),
            Err(error) if by.is_none() && check_fuse().is_ok() => log(&format!("by FUSE instead: {error}")),
            Err(error) => return Err(error),
        }
    }
    let Wish { uri, connections, reconnect } = *wish;
    let options = ClientOptions { connections, reconnect, observer: Some(observer()) };
    Ok((Kind::FuseLoop, Box::new(fuse_loop::FuseLoop::offer(uri, options, entry)?)))
}

/// Sectors are those of nearly every disk, unless the export's smallest block is larger.
fn sector_bytes(export: &Export) -> Result<u32, Error> {
    const USUAL: u32 = 512;
    let sector_bytes = export.minimum.max(USUAL);
    if sector_bytes > 4096 || !export.bytes.is_multiple_of(sector_bytes.into()) || export.bytes == 0 {
        let detail = format!("no device has {} bytes in sectors of {sector_bytes}", export.bytes);
        return Err(Error::new(ErrorKind::Invalid, "attach", detail));
    }
    Ok(sector_bytes)
}

/// Takes a device away, whether or not its helper lives. What uses it must be gone, or its helper.
pub(super) fn release(entry: &Entry) -> Result<(), Error> {
    kernel_nbd::release(entry)?;
    fuse_loop::release(entry)
}

/// Whether it is a device of the entry that needs its helper only for another connection: what is in memory for it can
/// still be written when the helper died.
pub(super) fn outlives_helper(entry: &Entry, device: &Path) -> Result<bool, Error> {
    kernel_nbd::is_on(entry, device)
}

/// Whether a device is still the entry's.
pub(super) fn is_on(entry: &Entry, device: &Path) -> Result<bool, Error> {
    Ok(kernel_nbd::is_on(entry, device)? || fuse_loop::is_on(entry, device)?)
}

/// Where a device is mounted, if it is still the entry's.
pub(super) fn mounts(entry: &Entry, device: &Path) -> Result<Vec<PathBuf>, Error> {
    match is_on(entry, device)? {
        true => mounts::of_device(device),
        false => Ok(Vec::new()),
    }
}

/// Whether the kernel still has something of the device.
pub(super) fn is_present(entry: &Entry) -> Result<bool, Error> {
    Ok(kernel_nbd::is_present(entry)? || fuse_loop::is_present(entry)?)
}
