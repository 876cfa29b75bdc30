//! The kernel's NBD devices: made, given another connection, taken away (`linux/nbd-netlink.h`).
//!
//! A device is known by the identifier that it was made with, which the kernel shows in sysfs. Its number alone says
//! nothing: the kernel gives it to somebody else when the device is gone.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use firn_engine::error::{Error, Kind};
use firn_engine::export::nbd::client::{Export, Handed};
use rustix::fs::{major, minor};

use super::netlink::{Attributes, Netlink};

const FAMILY: &str = "nbd";
const BLOCK: &str = "/sys/block";

mod command {
    pub(super) const CONNECT: u8 = 1;
    pub(super) const DISCONNECT: u8 = 2;
    pub(super) const RECONFIGURE: u8 = 3;
}

mod attribute {
    pub(super) const INDEX: u16 = 1;
    pub(super) const SIZE_BYTES: u16 = 2;
    pub(super) const BLOCK_SIZE_BYTES: u16 = 3;
    pub(super) const SERVER_FLAGS: u16 = 5;
    pub(super) const SOCKETS: u16 = 7;
    pub(super) const DEAD_CONN_TIMEOUT: u16 = 8;
    pub(super) const BACKEND_IDENTIFIER: u16 = 10;
    /// Within the sockets.
    pub(super) const SOCKET_ITEM: u16 = 1;
    /// Within an item.
    pub(super) const SOCKET_FD: u16 = 1;
}

/// How long requests wait in the kernel for a new connection, in seconds: ten years.
const DEAD_CONNECTION_SECONDS: u64 = 10 * 365 * 86_400;
/// A request that was under way on a connection that died is sent again by the kernel only when its time is up and
/// there is a new connection. Nothing else happens at that time: a server that is slow is waited for. The kernel looks
/// a second later than it is told.
const REQUEST_MS: u32 = 1000;

/// Whether this kernel's NBD can be used: the module is there, and shows identifiers.
pub(super) fn check() -> Result<(), Error> {
    let lacking = |why: String| {
        Error::new(Kind::Unavailable, "attach", why)
            .hint("load the module with `modprobe nbd`, or attach with `--by fuse`")
    };
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    if !has_identifiers(&release) {
        return Err(lacking(format!("NBD of kernel {release} is too old: 5.14 or later is needed")));
    }
    match Netlink::open(FAMILY) {
        Ok(_) => Ok(()),
        Err(error) => Err(lacking(format!("this kernel's NBD can't be used: {error}"))),
    }
}

/// Devices have identifiers since Linux 5.14.
fn has_identifiers(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (5, 14),
        _ => false,
    }
}

/// One device.
pub(super) struct NbdDevice {
    netlink: Netlink,
    index: u32,
    identifier: String,
}

impl NbdDevice {
    /// Makes a device on this connection. The kernel chooses which.
    pub(super) fn create(identifier: String, handed: &Handed, sector_bytes: u32) -> Result<Self, Error> {
        let netlink = open()?;
        let attributes = Attributes::default()
            .u64(attribute::SIZE_BYTES, handed.export.bytes)
            .u64(attribute::BLOCK_SIZE_BYTES, sector_bytes.into())
            .u64(attribute::SERVER_FLAGS, understood(&handed.export).into())
            .u64(attribute::DEAD_CONN_TIMEOUT, DEAD_CONNECTION_SECONDS)
            .text(attribute::BACKEND_IDENTIFIER, &identifier)
            .nested(attribute::SOCKETS, &socket(&handed.socket)?);
        let answer = netlink.ask(command::CONNECT, &attributes);
        let answer = answer.map_err(|source| refused(&identifier, source))?;
        let index = answer.get(attribute::INDEX).and_then(|index| index.try_into().ok());
        let index = index.map(u32::from_ne_bytes).ok_or_else(|| {
            Error::new(Kind::Unavailable, "connect kernel NBD", "the kernel did not say which device it is")
        })?;
        let device = Self { netlink, index, identifier };
        if let Err(error) = device.settle() {
            // Its own error would hide the first.
            let _ = device.disconnect();
            return Err(error);
        }
        Ok(device)
    }

    /// What is left to do with a device that was just made.
    fn settle(&self) -> Result<(), Error> {
        let path = self.path();
        if !self.has_file(&path)? {
            let detail = format!("the kernel made {}, but the file there is not it", path.display());
            return Err(Error::new(Kind::Unavailable, "attach", detail)
                .hint("in a container, attach with `--by fuse`"));
        }
        let time = self.folder().join("queue/io_timeout");
        fs::write(&time, REQUEST_MS.to_string()).map_err(|source| {
            failed("set up", time.display(), source).hint("in a container, attach with `--by fuse`")
        })
    }

    /// Whether the file is the device: a container may have files of its own there, or none.
    fn has_file(&self, path: &Path) -> Result<bool, Error> {
        let shown = self.folder().join("dev");
        let number = fs::read_to_string(&shown);
        let number = number.map_err(|source| failed("find device", shown.display(), source))?;
        Ok(fs::metadata(path).is_ok_and(|found| {
            let device = found.rdev();
            found.file_type().is_block_device()
                && format!("{}:{}", major(device), minor(device)) == number.trim_end()
        }))
    }

    /// The devices that were made with this identifier. One that was taken away by force stays until the last one
    /// closes it, and there may be the next already.
    pub(super) fn all(identifier: &str) -> Result<Vec<Self>, Error> {
        let failed = |source| Error::io("list NBD devices", BLOCK, source);
        let mut found = Vec::new();
        for item in fs::read_dir(BLOCK).map_err(failed)? {
            let name = item.map_err(failed)?.file_name();
            let index = name.to_str().and_then(|name| name.strip_prefix("nbd")?.parse().ok());
            if let Some(index) = index
                && has(index, identifier)
            {
                found.push(Self { netlink: open()?, index, identifier: identifier.to_owned() });
            }
        }
        Ok(found)
    }

    pub(super) fn path(&self) -> PathBuf {
        Path::new("/dev").join(format!("nbd{}", self.index))
    }

    fn folder(&self) -> PathBuf {
        folder(self.index)
    }

    /// Whether it is still this one.
    pub(super) fn is_there(&self) -> bool {
        has(self.index, &self.identifier)
    }

    /// Gives it another connection, if its own is dead; if not, the kernel leaves it as it is and does not say so.
    pub(super) fn reconnect(&self, handed: &Handed) -> Result<(), Error> {
        let attributes = Attributes::default()
            .u32(attribute::INDEX, self.index)
            .u64(attribute::SIZE_BYTES, handed.export.bytes)
            .text(attribute::BACKEND_IDENTIFIER, &self.identifier)
            .nested(attribute::SOCKETS, &socket(&handed.socket)?);
        let answer = self.netlink.ask(command::RECONFIGURE, &attributes);
        answer.map(drop).map_err(|source| failed("reconnect kernel NBD", self.path().display(), source))
    }

    /// Takes the connection away. What waits gets an error, and the device goes when the last one closes it.
    pub(super) fn disconnect(&self) -> Result<(), Error> {
        let answer =
            self.netlink.ask(command::DISCONNECT, &Attributes::default().u32(attribute::INDEX, self.index));
        match answer {
            Err(source) if self.is_there() => {
                Err(failed("disconnect kernel NBD", self.path().display(), source))
            }
            _ => Ok(()),
        }
    }
}

fn open() -> Result<Netlink, Error> {
    Netlink::open(FAMILY).map_err(|source| failed("speak with the kernel", "netlink", source))
}

/// Why there is no device.
fn refused(identifier: &str, source: io::Error) -> Error {
    let is_forbidden = source.kind() == io::ErrorKind::PermissionDenied;
    let error = failed("connect kernel NBD", identifier, source);
    match is_forbidden {
        true => {
            error.hint("run it with the capability CAP_SYS_ADMIN of the machine itself, not of a container")
        }
        false => error.hint("attach with `--by fuse`"),
    }
}

fn failed(what: &'static str, subject: impl std::fmt::Display, source: io::Error) -> Error {
    Error::io(what, subject, source)
}

fn folder(index: u32) -> PathBuf {
    Path::new(BLOCK).join(format!("nbd{index}"))
}

/// Only devices in use have this file.
fn has(index: u32, identifier: &str) -> bool {
    fs::read(folder(index).join("backend")).is_ok_and(|text| text.trim_ascii_end() == identifier.as_bytes())
}

/// What the kernel is told of the export: it has one connection, so nothing of several.
fn understood(export: &Export) -> u16 {
    export.flags & !Export::CAN_MULTI_CONN
}

fn socket(fd: &OwnedFd) -> Result<Attributes, Error> {
    let number = u32::try_from(fd.as_raw_fd());
    let number = number.map_err(|_| Error::new(Kind::Bug, "connect kernel NBD", "a negative descriptor"))?;
    let item = Attributes::default().u32(attribute::SOCKET_FD, number);
    Ok(Attributes::default().nested(attribute::SOCKET_ITEM, &item))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_with_identifiers_are_known_by_their_release() {
        for (release, expected) in [
            ("6.1.0-48-cloud-amd64", true),
            ("5.14.0", true),
            ("10.0", true),
            ("5.13.19", false),
            ("4.18.0-553.el8", false),
            ("", false),
        ] {
            assert_eq!(has_identifiers(release), expected, "{release}");
        }
    }
}
