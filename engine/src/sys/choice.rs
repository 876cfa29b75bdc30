//! Which device drives a file.

use std::sync::Arc;

use super::{DeviceFile, PlainDevice, UringDevice};
use crate::device::Device;
use crate::error::Result;

/// How a file or block device is driven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceKind {
    /// By io_uring where that is permitted, else by threads.
    #[default]
    Auto,
    /// By io_uring.
    Uring,
    /// By threads.
    Plain,
}

/// A device over `file`. It may be made on one thread and moved to another before its first request, or whenever
/// nothing is in flight.
///
/// # Errors
/// [`Kind::Unavailable`](crate::error::Kind::Unavailable) if io_uring was asked for and is not permitted, else what
/// the operating system said.
pub fn open_device(file: Arc<DeviceFile>, kind: DeviceKind) -> Result<Box<dyn Device>> {
    match kind {
        DeviceKind::Uring => Ok(Box::new(UringDevice::new(file)?)),
        DeviceKind::Plain => Ok(Box::new(PlainDevice::new(file)?)),
        DeviceKind::Auto => match UringDevice::new(Arc::clone(&file)) {
            Ok(device) => Ok(Box::new(device)),
            Err(_) => Ok(Box::new(PlainDevice::new(file)?)),
        },
    }
}
