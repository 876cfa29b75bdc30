//! Where an export goes.
//!
//! 1. It is written from its begin to its end.
//! 2. A file appears under its name when it is whole and durable, or not at all: until then it has another name, and
//!    it is removed when the export fails.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use firn_engine::error::{Error, Kind};
use rustix::fs::OFlags;

use crate::size::Size;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Where an export goes.
pub(super) struct Sink {
    path: PathBuf,
    to: To,
}

enum To {
    Stdout(io::Stdout),
    /// A block device, or a pipe.
    Device {
        file: File,
        is_block_device: bool,
    },
    /// A new file that has the name `partial` until it is whole.
    File {
        file: File,
        partial: PathBuf,
        is_whole: bool,
    },
}

impl Sink {
    /// Stdout, unless that is a terminal.
    pub(super) fn stdout() -> Result<Self, Error> {
        if io::stdout().is_terminal() {
            return Err(Error::new(Kind::Invalid, "export", "stdout is a terminal")
                .hint("name a file, or send it on: `firn export pg - | zstd > pg.zst`"));
        }
        Ok(Self { path: "stdout".into(), to: To::Stdout(io::stdout()) })
    }

    /// A file, which is made, or a block device with room for `bytes` bytes.
    pub(super) fn open(path: &Path, bytes: u64, overwrite: bool) -> Result<Self, Error> {
        let failed = |source| Error::io("export", path.display(), source);
        let kind = match fs::metadata(path) {
            Ok(metadata) => metadata.file_type(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Self::file(path, path.to_owned(), bytes);
            }
            Err(error) => return Err(failed(error)),
        };
        if kind.is_dir() {
            let detail = format!("{} is a directory", path.display());
            return Err(Error::new(Kind::Invalid, "export", detail).hint("name a file in it"));
        }
        if (kind.is_file() || kind.is_block_device()) && !overwrite {
            return Err(Error::new(Kind::Conflict, "export", format!("{} exists", path.display()))
                .hint("name another file, or lose what is in this one: --overwrite"));
        }
        if kind.is_file() {
            // What a symbolic link points to is replaced, not the link.
            return Self::file(path, fs::canonicalize(path).map_err(failed)?, bytes);
        }
        let file = open_device(path, kind.is_block_device()).map_err(failed)?;
        let sink =
            Self { path: path.to_owned(), to: To::Device { file, is_block_device: kind.is_block_device() } };
        sink.refuse_too_small(bytes)?;
        Ok(sink)
    }

    fn file(named: &Path, path: PathBuf, bytes: u64) -> Result<Self, Error> {
        let failed = |source| Error::io("export", named.display(), source);
        let mut partial = path.clone().into_os_string();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).open(&partial).map_err(failed)?;
        let sink = Self { path, to: To::File { file, partial, is_whole: false } };
        if let To::File { file, .. } = &sink.to {
            file.set_len(bytes).map_err(failed)?;
        }
        Ok(sink)
    }

    fn refuse_too_small(&self, bytes: u64) -> Result<(), Error> {
        let To::Device { file, is_block_device: true } = &self.to else { return Ok(()) };
        let mut file = file;
        let room = file.seek(SeekFrom::End(0)).and_then(|room| file.rewind().map(|()| room));
        let room = room.map_err(|source| self.failed(source))?;
        if room >= bytes {
            return Ok(());
        }
        let detail = format!("{} has room for {}, not for {}", self.path.display(), Size(room), Size(bytes));
        Err(Error::new(Kind::OutOfSpace, "export", detail).hint("export to a larger device, or to a file"))
    }

    pub(super) fn is_stdout(&self) -> bool {
        matches!(self.to, To::Stdout(_))
    }

    /// Writes `content` next.
    pub(super) fn data(&mut self, content: &[u8]) -> Result<(), Error> {
        let written = match &mut self.to {
            To::Stdout(stdout) => stdout.write_all(content),
            To::Device { file, .. } | To::File { file, .. } => file.write_all(content),
        };
        written.map_err(|source| self.failed(source))
    }

    /// Zeros come next. In a file they take no room.
    pub(super) fn hole(&mut self, length: u64) -> Result<(), Error> {
        if let To::File { file, .. } = &mut self.to {
            let skipped = i64::try_from(length).map_err(io::Error::other);
            let skipped = skipped.and_then(|length| file.seek(SeekFrom::Current(length)));
            return skipped.map(drop).map_err(|source| self.failed(source));
        }
        let mut left = length;
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(ZEROS.len()).min(ZEROS.len());
            self.data(&ZEROS[..part])?;
            left -= part as u64;
        }
        Ok(())
    }

    /// Makes it durable, and gives a file its name.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        let finished = match &mut self.to {
            To::Stdout(stdout) => stdout.flush(),
            To::Device { file, is_block_device: true } => file.sync_all(),
            To::Device { .. } => Ok(()),
            To::File { file, partial, is_whole } => {
                let named = file.sync_all().and_then(|()| fs::rename(&*partial, &self.path));
                *is_whole = named.is_ok();
                named.and_then(|()| sync_directory(&self.path))
            }
        };
        finished.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::io("export", self.path.display(), source)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let To::File { partial, is_whole: false, .. } = &self.to {
            // Best effort: the export's own error is what matters.
            let _ = fs::remove_file(partial);
        }
    }
}

/// A block device that is mounted or part of another is refused by the kernel (`O_EXCL`).
fn open_device(path: &Path, is_block_device: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true);
    if is_block_device {
        options.custom_flags(i32::try_from(OFlags::EXCL.bits()).map_err(io::Error::other)?);
    }
    options.open(path)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}
