//! Connections that somebody else uses once they are made: the kernel's own NBD client.
//!
//! 1. No connection is handed over that is of another export than the first was.
//! 2. Each connection says that the earlier ones are over (`FENCE`), so that what they hold can't overtake what is sent
//!    over the new one.
//! 3. Replies are simple ones: the kernel knows no others.

use std::os::fd::OwnedFd;

use super::connection::{Connection, OpenError};
use super::handshake::Export;
use super::route::Route;
use super::uri::Uri;
use crate::error::{Error, Kind, Result};

/// Why there is no connection.
#[derive(Debug)]
pub enum Refused {
    /// The export is gone, or is another one now.
    Gone(Error),
    /// Another time it may work.
    Failed(Error),
}

impl Refused {
    /// The error itself.
    pub fn into_error(self) -> Error {
        match self {
            Self::Gone(error) | Self::Failed(error) => error,
        }
    }
}

/// A connection's socket at the first request, and what it leads to.
#[derive(Debug)]
pub struct Handed {
    /// The socket.
    pub socket: OwnedFd,
    /// The export.
    pub export: Export,
}

/// Makes connections to one export, one after the other.
pub struct Handover {
    route: Route,
    export: Option<Export>,
}

impl Handover {
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for TLS, whose bytes only this process can read.
    pub fn new(uri: &Uri) -> Result<Self> {
        if uri.is_tls {
            return Err(Error::new(Kind::Invalid, "connect to NBD server", "the kernel does not speak TLS"));
        }
        Ok(Self { route: Route::new(uri, None, true)?.simple(), export: None })
    }

    /// Connects and takes the export.
    ///
    /// # Errors
    /// Why there is no connection, and whether there may be one later.
    pub fn connect(&mut self) -> std::result::Result<Handed, Refused> {
        let connection = Connection::open(&self.route).map_err(|error| match error {
            OpenError::Gone(error) => Refused::Gone(error),
            OpenError::Failed(error) => Refused::Failed(error),
        })?;
        let export = connection.export.clone();
        if let Some(before) = &self.export {
            export.check_still(before, &self.route.uri).map_err(Refused::Gone)?;
        }
        let socket = connection.into_socket(&self.route.uri).map_err(Refused::Failed)?;
        self.export = Some(export.clone());
        Ok(Handed { socket, export })
    }
}
