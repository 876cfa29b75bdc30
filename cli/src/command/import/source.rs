//! The file, block device or NBD server's export that an import reads.

use std::fs::File;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use firn_engine::error::{Error, Kind};
use firn_engine::export::nbd::client::Client;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::content::{connect, each_data};

/// What an import reads.
pub(super) enum Source {
    File(FileSource),
    Export(Box<Client>),
}

/// An open file or block device.
pub(super) struct FileSource {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Source {
    /// A file or block device, or an export when it is written as a URI.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let uri = path.to_str().filter(|text| text.starts_with("nbd") && text.contains("://"));
        let source = match uri {
            Some(uri) => Self::Export(Box::new(connect(uri)?)),
            None => Self::File(FileSource::open(path)?),
        };
        match source.bytes() {
            0 => Err(Error::new(Kind::Invalid, "import", format!("{} is empty", path.display()))),
            _ => Ok(source),
        }
    }

    /// Its size.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::File(file) => file.bytes,
            Self::Export(client) => client.export().bytes,
        }
    }

    /// Fills `into` from `offset`.
    pub(super) fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        match self {
            Self::File(file) => file.read_at(offset, into),
            Self::Export(client) => client.read_at(offset, into),
        }
    }

    /// Shows `visit` the ranges (start, end) that may hold data, in order.
    pub(super) fn each_data(&self, visit: impl FnMut(u64, u64) -> Result<(), Error>) -> Result<(), Error> {
        match self {
            Self::File(file) => file.each_data(visit),
            Self::Export(client) => each_data(client, visit),
        }
    }
}

impl FileSource {
    fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::io("import", path.display(), source);
        // Looked at before it is opened, because opening a pipe waits.
        let kind = path.metadata().map_err(failed)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            let detail = format!("{} is neither a file nor a block device", path.display());
            return Err(Error::new(Kind::Invalid, "import", detail));
        }
        let file = File::open(path).map_err(failed)?;
        let bytes = seek(&file, SeekFrom::End(0)).map_err(|errno| failed(errno.into()))?;
        Ok(Self { path: path.to_owned(), file, bytes })
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        self.file
            .read_exact_at(into, offset)
            .map_err(|source| Error::io("import", self.path.display(), source))
    }

    fn each_data(&self, mut visit: impl FnMut(u64, u64) -> Result<(), Error>) -> Result<(), Error> {
        let mut at = 0;
        while at < self.bytes {
            let (start, end) = match self.data_from(at)? {
                Some(range) => range,
                None => return Ok(()),
            };
            visit(start, end)?;
            at = end;
        }
        Ok(())
    }

    fn data_from(&self, at: u64) -> Result<Option<(u64, u64)>, Error> {
        let failed = |errno: Errno| Error::io("import", self.path.display(), errno.into());
        let start = match seek(&self.file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            // Block devices and some file systems don't know of holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some((at, self.bytes))),
            Err(errno) => return Err(failed(errno)),
        };
        let end = seek(&self.file, SeekFrom::Hole(start)).map_err(failed)?;
        Ok(Some((start, end.min(self.bytes))))
    }
}
