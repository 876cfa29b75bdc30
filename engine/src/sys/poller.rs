//! Which of many sockets have something to read, or room to write.
//!
//! 1. Readiness is told once, when it begins: whoever was told reads until there is less than was asked for.
//! 2. A descriptor is forgotten when it is closed; a poller keeps none open.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{Timespec, epoll};

use super::waker::SLEEP_MAX;

/// Most sockets that one call tells of.
const EVENTS_MAX: usize = 256;

/// What somebody wants to be told of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Something to read.
    Read,
    /// Something to read, or room to write.
    ReadWrite,
}

/// What became possible on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The number that the socket was added under.
    pub token: u64,
    /// There is something to read, or an end to be seen.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
    /// The other side has ended what it sends, or there was an error.
    pub hung_up: bool,
    /// There was an error: nothing can be sent any more.
    pub broken: bool,
}

/// A set of sockets.
pub struct Poller {
    descriptor: Arc<OwnedFd>,
}

impl Poller {
    /// An empty set.
    ///
    /// # Errors
    /// What the operating system said (no more file descriptors).
    pub fn new() -> io::Result<Self> {
        Ok(Self { descriptor: Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?) })
    }

    /// Adds a socket under a number.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn add(&self, socket: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.descriptor, socket, epoll::EventData::new_u64(token), flags(interest))?)
    }

    /// Wants something else of a socket; what is ready now is told anew.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn change(&self, socket: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.descriptor, socket, epoll::EventData::new_u64(token), flags(interest))?)
    }

    /// Takes a socket out that is to live on elsewhere.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn remove(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.descriptor, socket)?)
    }

    /// Waits until something is ready or `timeout` is over, and appends what is. May return early with nothing.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn wait(&self, timeout: Option<Duration>, into: &mut Vec<Readiness>) -> io::Result<()> {
        let limit = Timespec::try_from(timeout.unwrap_or(SLEEP_MAX).min(SLEEP_MAX)).ok();
        let mut room = [const { MaybeUninit::uninit() }; EVENTS_MAX];
        let events = match epoll::wait(&self.descriptor, &mut room, limit.as_ref()) {
            Ok((events, _)) => events,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        use epoll::EventFlags as Flags;
        into.extend(events.iter().map(|event| {
            // Copied, since the event is packed.
            let (flags, data) = (event.flags, event.data);
            let hung_up = flags.intersects(Flags::RDHUP | Flags::HUP | Flags::ERR);
            Readiness {
                token: data.u64(),
                readable: hung_up || flags.contains(Flags::IN),
                writable: flags.contains(Flags::OUT),
                hung_up,
                broken: flags.contains(Flags::ERR),
            }
        }));
        Ok(())
    }

    /// The poller itself, which is readable when one of its sockets is ready.
    pub fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.descriptor
    }
}

fn flags(interest: Interest) -> epoll::EventFlags {
    let read = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
    match interest {
        Interest::Read => read,
        Interest::ReadWrite => read | epoll::EventFlags::OUT,
    }
}
