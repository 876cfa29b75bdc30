//! A loop device on the one file of a FUSE file system.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use firn_engine::error::Error;
use firn_engine::export::nbd::client::{Client, ClientOptions, Export, Request, Uri};
use fuser::{BackgroundSession, Config, MountOption, Session};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use super::file::{ExportFile, FILE_NAME};
use super::loop_device::{self, Backing};
use super::{Device, sector_bytes};
use crate::attach::entry::Entry;
use crate::attach::log::log;
use crate::attach::mounts;

/// How long the last flush may take.
const LAST_FLUSH: Duration = Duration::from_secs(5);

/// A loop device, and the file system under it.
pub(super) struct FuseLoop {
    client: Arc<Client>,
    device: PathBuf,
    session: BackgroundSession,
}

impl FuseLoop {
    /// Connects, mounts the file system in the entry, and makes the loop device.
    pub(super) fn offer(uri: &Uri, options: ClientOptions, entry: &Entry) -> Result<Self, Error> {
        let client = Arc::new(Client::connect(uri, options)?);
        let export = client.export();
        let sector_bytes = sector_bytes(&export)?;
        let folder = entry.export_path();
        let mut config = Config::default();
        config.mount_options =
            vec![MountOption::FSName("firn".to_owned()), MountOption::NoDev, MountOption::NoSuid];
        let failed = |source| Error::io("mount FUSE", folder.display(), source);
        let session = Session::new(ExportFile::new(client.clone()), &folder, &config).map_err(failed)?;
        // Dropping it on the way out of an error takes the mount away.
        let session = session.spawn().map_err(failed)?;
        let file = folder.join(FILE_NAME);
        let is_read_only = export.has(Export::READ_ONLY);
        let device = loop_device::create(&Backing { file: &file, is_read_only, sector_bytes })?;
        Ok(Self { client, device, session })
    }
}

impl Device for FuseLoop {
    fn path(&self) -> &Path {
        &self.device
    }

    fn export(&self) -> Export {
        self.client.export()
    }

    fn serve(self: Box<Self>) -> Result<(), Error> {
        let served = self.session.join();
        let (sender, receiver) = sync_channel(1);
        self.client.submit(Request::Flush, Box::new(move |result| _ = sender.send(result)));
        match receiver.recv_timeout(LAST_FLUSH) {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => log(&format!("the last flush failed: {error}")),
            Err(_) => log("nobody answered the last flush"),
        }
        self.client.close();
        served.map_err(|source| Error::io("serve FUSE", self.device.display(), source))
    }
}

/// Takes the loop device off the file, and the file system away. The kernel lets go of the file system when the last
/// one closes the device; then its session ends.
pub(super) fn release(entry: &Entry) -> Result<(), Error> {
    let folder = entry.export_path();
    loop_device::on(&folder.join(FILE_NAME))?.iter().try_for_each(|device| loop_device::remove(device))?;
    match unmount(&folder, UnmountFlags::DETACH) {
        // Nothing is mounted there.
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::io("unmount FUSE", folder.display(), errno.into())),
    }
}

/// Whether a loop device is the one on the entry's file.
pub(super) fn is_on(entry: &Entry, device: &Path) -> Result<bool, Error> {
    Ok(loop_device::on(&entry.export_path().join(FILE_NAME))?.iter().any(|found| found == device))
}

/// Whether the loop device or the file system is still there.
pub(super) fn is_present(entry: &Entry) -> Result<bool, Error> {
    let folder = entry.export_path();
    Ok(mounts::is_target(&folder)? || !loop_device::on(&folder.join(FILE_NAME))?.is_empty())
}
