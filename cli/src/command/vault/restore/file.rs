//! Files that points are restored to.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use firn_engine::error::{Error, Kind};
use tempfile::NamedTempFile;

use crate::size::Size;

/// Where a path has its name.
pub(super) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file that appears under its name when it is whole, or one that is written over.
pub(super) enum Target {
    New { file: NamedTempFile, path: PathBuf },
    Over(File, bool),
}

impl Target {
    pub(super) fn open(path: &Path, overwrite: bool) -> Result<Self, Error> {
        let failed = |source| Error::io("open file to restore to", path.display(), source);
        let is_directory = || {
            let detail = format!("{} is a directory", path.display());
            Error::new(Kind::Invalid, "restore", detail).hint("name a file in it")
        };
        let Ok(found) = std::fs::metadata(path) else {
            let directory = directory_of(path);
            // A path that ends with a slash has the same parent as one without.
            if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
                return Err(is_directory());
            }
            if !directory.is_dir() {
                let detail = format!("there is no directory {}", directory.display());
                return Err(
                    Error::new(Kind::NotFound, "restore", detail).hint("make it, or name another file")
                );
            }
            // What the umask leaves, as for any new file.
            let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o666);
            let mut named = tempfile::Builder::new();
            named.prefix(".firn-restore-").permissions(open_to_all);
            let file = named.tempfile_in(directory).map_err(failed)?;
            return Ok(Self::New { file, path: path.to_owned() });
        };
        if found.is_dir() {
            return Err(is_directory());
        }
        if !overwrite {
            return Err(Error::new(Kind::Conflict, "restore", format!("{} exists", path.display()))
                .hint("name another file, or lose what is in it: --overwrite"));
        }
        let is_device = found.file_type().is_block_device();
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        Ok(Self::Over(file, is_device))
    }

    pub(super) fn is_new(&self) -> bool {
        // A file that is written over was cut to nothing first.
        !matches!(self, Self::Over(_, true))
    }

    fn file(&self) -> Result<File, Error> {
        let file = match self {
            Self::New { file, .. } => file.as_file(),
            Self::Over(file, _) => file,
        };
        file.try_clone().map_err(|source| Error::io("open file to restore to", "again", source))
    }

    /// The file with nothing in it; a device as it is.
    pub(super) fn emptied(&self) -> Result<File, Error> {
        let file = self.file()?;
        if self.is_new() {
            file.set_len(0).map_err(|source| Error::io("empty file to restore to", "again", source))?;
        }
        Ok(file)
    }

    /// The file with room for `bytes`, all zeros if it is no device.
    pub(super) fn sized(&self, bytes: u64) -> Result<File, Error> {
        let file = self.file()?;
        let failed = |source| Error::io("make room for restored data", Size(bytes), source);
        if let Self::Over(_, true) = self {
            let room = io::Seek::seek(&mut &file, io::SeekFrom::End(0)).map_err(failed)?;
            if room < bytes {
                let detail = format!("the device has {}, the point {}", Size(room), Size(bytes));
                return Err(Error::new(Kind::Invalid, "restore", detail));
            }
            return Ok(file);
        }
        file.set_len(0).and_then(|()| file.set_len(bytes)).map_err(failed)?;
        Ok(file)
    }

    /// The file is durable, under its name.
    pub(super) fn keep(self) -> Result<(), Error> {
        self.sync()?;
        let Some(path) = self.name()? else { return Ok(()) };
        sync_directory(directory_of(&path))
    }

    /// What was written to the file is durable.
    pub(super) fn sync(&self) -> Result<(), Error> {
        self.file()?.sync_all().map_err(|source| Error::io("write restored data", "the file", source))
    }

    /// A new file gets its name, which is durable when its directory is.
    pub(super) fn name(self) -> Result<Option<PathBuf>, Error> {
        let Self::New { file, path } = self else { return Ok(None) };
        file.persist_noclobber(&path)
            .map_err(|error| Error::io("name restored file", path.display(), error.error))?;
        Ok(Some(path))
    }
}

/// The names in a directory are durable.
pub(super) fn sync_directory(path: &Path) -> Result<(), Error> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|source| Error::io("name restored file", path.display(), source))
}
