//! What a volume or snapshot holds, to be read and written: in the pool that this process has open, or over the NBD
//! socket of the daemon that has it.

use std::time::Duration;

use anyhow::Result;
use firn_engine::error::{Error, Kind};
use firn_engine::export::nbd::client::{Client, ClientOptions, Reconnect, Uri};

use crate::extents::View;
use crate::name::PointName;
use crate::operation::snapshot::SnapshotShow;
use crate::operation::volume::VolumeShow;
use crate::service::Service;

/// How long a daemon that went away in the middle is waited for: long enough for it to be started again.
const AWAY: Duration = Duration::from_secs(30);

/// What a volume or snapshot holds.
pub(crate) enum Content {
    /// In the pool of this process.
    Here(View),
    /// With an NBD server.
    There(Box<Client>),
}

impl Content {
    /// What the name says.
    pub(crate) fn open(service: &Service, name: &PointName) -> Result<Self> {
        if let Service::Pool(served) = service {
            return Ok(Self::Here(View::find(served, name)?));
        }
        let uri = match name {
            PointName::Volume(volume) => service.call(VolumeShow { volume: volume.clone() })?.nbd_uri,
            PointName::Snapshot(snapshot) => {
                service.call(SnapshotShow { snapshot: snapshot.clone() })?.nbd_uri
            }
        };
        let uri = uri.ok_or_else(|| {
            Error::new(Kind::Unavailable, "open", format!("the daemon does not export {name}"))
        })?;
        Ok(Self::There(Box::new(connect(&uri)?)))
    }

    /// Its size.
    pub(crate) fn bytes(&self) -> Result<u64, Error> {
        match self {
            Self::Here(view) => view.bytes(),
            Self::There(client) => Ok(client.export().bytes),
        }
    }

    /// Fills `into` from `offset`.
    pub(crate) fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        match self {
            Self::Here(view) => view.read_at(offset, into),
            Self::There(client) => client.read_at(offset, into),
        }
    }

    /// Writes `data` to `offset`.
    pub(crate) fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        match self {
            Self::Here(view) => view.volume()?.write_at(offset, data),
            Self::There(client) => client.write_at(offset, data),
        }
    }

    /// Makes `length` bytes from `offset` a hole.
    pub(crate) fn zero(&self, offset: u64, length: u64) -> Result<(), Error> {
        match self {
            Self::Here(view) => view.volume()?.unmap(offset, length),
            Self::There(client) => client.zero(offset, length),
        }
    }

    /// Makes durable what was written.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        match self {
            Self::Here(view) => view.volume()?.flush(),
            Self::There(client) => client.flush(),
        }
    }

    /// Shows `visit` the ranges (start, end) that may hold data, in order.
    pub(crate) fn each_data(
        &self,
        mut visit: impl FnMut(u64, u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        match self {
            Self::Here(view) => view.mapped(|extent| visit(extent.offset, extent.offset + extent.length)),
            Self::There(client) => each_data(client, visit),
        }
    }
}

/// Shows `visit` the ranges (start, end) of an export that may hold data, in order.
pub(crate) fn each_data(
    client: &Client,
    mut visit: impl FnMut(u64, u64) -> Result<(), Error>,
) -> Result<(), Error> {
    client.extents(0, client.export().bytes, |extent| match extent.is_zero {
        true => Ok(()),
        false => visit(extent.offset, extent.offset + extent.bytes),
    })
}

/// A connection to an export.
pub(crate) fn connect(uri: &str) -> Result<Client, Error> {
    let uri: Uri = uri.parse()?;
    let options = ClientOptions { reconnect: Reconnect::Within(AWAY), ..ClientOptions::default() };
    Client::connect(&uri, options)
}
