//! The kernel's own NBD client, on a connection that the helper makes for it.
//!
//! Requests never pass through the helper: it makes the connection, hands the socket to the kernel, and waits for the
//! connection's end. Then it makes another. Requests wait in the kernel meanwhile, which sends those again that were
//! not answered.
//!
//! 1. The helper keeps the socket too, which is how it sees its end: the kernel shuts a socket down that it gives up.
//! 2. The kernel may notice the end later than the helper, and passes over a new connection until then, without a
//!    word. So it is offered again for a while; one that it has already it does not take twice.
//! 3. A device that is being taken away (the entry says so) gets no other connection.

use std::path::{Path, PathBuf};
use std::time::Duration;

use firn_engine::error::{Error, Kind};
use firn_engine::export::nbd::client::{Event, Export, Handed, Handover, Observer, Refused, Uri};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::nbd_device::NbdDevice;
use super::{Device, sector_bytes};
use crate::attach::entry::Entry;
use crate::attach::log::log;

const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How often a connection is offered again, and the time between.
const OFFERS: u32 = 20;
const OFFER_TIME: Duration = Duration::from_millis(500);
/// How often a device is looked at that has no connection any more, but is still open.
const GOING: Duration = Duration::from_millis(50);

/// A connection that no device has yet.
pub(super) struct Connected {
    handover: Handover,
    handed: Handed,
}

impl Connected {
    /// Connects.
    pub(super) fn to(uri: &Uri) -> Result<Self, Error> {
        let mut handover = Handover::new(uri)?;
        let handed = handover.connect().map_err(Refused::into_error)?;
        Ok(Self { handover, handed })
    }

    /// Makes the device.
    pub(super) fn offer(self, observer: Observer, entry: &Entry) -> Result<KernelNbd, Error> {
        let Self { handover, handed } = self;
        let device = NbdDevice::create(entry.identifier()?, &handed, sector_bytes(&handed.export)?)?;
        let path = device.path();
        Ok(KernelNbd { entry: entry.clone(), handover, observer, device, path, handed })
    }
}

/// A device and its connection.
pub(super) struct KernelNbd {
    entry: Entry,
    handover: Handover,
    observer: Observer,
    device: NbdDevice,
    path: PathBuf,
    handed: Handed,
}

impl KernelNbd {
    /// Whether nothing is left to do for it.
    fn is_over(&self) -> bool {
        self.entry.is_ending() || !self.device.is_there()
    }

    /// Waits until the connection is dead. After a new one it is offered again for a while.
    fn wait_for_end(&self, is_new: bool) -> Result<(), Error> {
        let mut offers = if is_new { OFFERS } else { 0 };
        loop {
            let time = (offers > 0).then_some(OFFER_TIME);
            if is_dead_within(&self.handed, time)? {
                return Ok(());
            }
            if offers > 0 && !self.is_over() {
                self.device.reconnect(&self.handed)?;
            }
            offers = offers.saturating_sub(1);
        }
    }

    /// Makes another connection and gives it to the kernel. Says whether there is one.
    fn reconnect(&mut self) -> Result<bool, Error> {
        let lost = Error::new(Kind::Unavailable, "use NBD export", "the connection broke");
        (self.observer)(&Event::Lost(lost));
        let mut pause = PAUSE_MIN;
        while !self.is_over() {
            match self.handover.connect() {
                Ok(handed) => match self.device.reconnect(&handed) {
                    Ok(()) => {
                        (self.observer)(&Event::Restored { resent: 0, bytes: handed.export.bytes });
                        self.handed = handed;
                        return Ok(true);
                    }
                    // The device is not there, or the kernel will not have it now: seen above.
                    Err(error) => log(&error.to_string()),
                },
                Err(Refused::Gone(error)) => {
                    (self.observer)(&Event::Failing { error, is_final: true });
                    self.device.disconnect()?;
                    while !self.entry.is_ending() {
                        std::thread::park_timeout(PAUSE_MAX);
                    }
                    return Ok(false);
                }
                Err(Refused::Failed(_)) => {}
            }
            std::thread::park_timeout(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
        Ok(false)
    }
}

impl Device for KernelNbd {
    fn path(&self) -> &Path {
        &self.path
    }

    fn export(&self) -> Export {
        self.handed.export.clone()
    }

    fn serve(mut self: Box<Self>) -> Result<(), Error> {
        let mut is_new = false;
        loop {
            self.wait_for_end(is_new)?;
            if self.is_over() || !self.reconnect()? {
                break;
            }
            is_new = true;
        }
        while self.device.is_there() {
            std::thread::park_timeout(GOING);
        }
        Ok(())
    }
}

/// Waits until the socket is shut down by either side, or for `limit`; says whether it is.
fn is_dead_within(handed: &Handed, limit: Option<Duration>) -> Result<bool, Error> {
    let failed = |source| Error::io("watch NBD connection", "poll", source);
    let limit = limit.map(Timespec::try_from).transpose();
    let limit = limit.map_err(|error| failed(std::io::Error::other(error)))?;
    loop {
        // HUP and ERR are told in any case. What there is to read is the kernel's.
        match poll(&mut [PollFd::new(&handed.socket, PollFlags::RDHUP)], limit.as_ref()) {
            Ok(count) => return Ok(count > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
    }
}

/// The devices that were made for the entry.
fn all(entry: &Entry) -> Result<Vec<NbdDevice>, Error> {
    NbdDevice::all(&entry.identifier()?)
}

/// Takes the device away. It goes when the last one closes it.
pub(super) fn release(entry: &Entry) -> Result<(), Error> {
    // A helper whose export is gone waits for this without a device.
    if entry.folder().exists() {
        entry.set_ending()?;
    }
    all(entry)?.iter().try_for_each(NbdDevice::disconnect)
}

/// Whether a device is the entry's.
pub(super) fn is_on(entry: &Entry, path: &Path) -> Result<bool, Error> {
    Ok(all(entry)?.iter().any(|device| device.path() == path))
}

/// Whether the device is still there.
pub(super) fn is_present(entry: &Entry) -> Result<bool, Error> {
    Ok(!all(entry)?.is_empty())
}
