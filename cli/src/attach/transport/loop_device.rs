//! Loop devices, by `losetup` and by what the kernel says of them in sysfs.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use firn_engine::error::Error;

use crate::attach::tool;

/// What a loop device is made on.
pub(super) struct Backing<'a> {
    pub(super) file: &'a Path,
    pub(super) is_read_only: bool,
    /// Requests are multiples of this: a power of two from 512 to 4096.
    pub(super) sector_bytes: u32,
}

/// Makes a loop device that passes by the page cache of the file below it: nothing is kept twice, and a flush of the
/// device is one of the file.
pub(super) fn create(backing: &Backing<'_>) -> Result<PathBuf, Error> {
    let sector = backing.sector_bytes.to_string();
    let mut arguments = vec!["--find", "--show", "--direct-io=on", "--sector-size", &sector];
    if backing.is_read_only {
        arguments.push("--read-only");
    }
    let mut arguments: Vec<_> = arguments.into_iter().map(std::ffi::OsStr::new).collect();
    arguments.push(backing.file.as_os_str());
    tool::done("losetup", &arguments).map(PathBuf::from)
}

/// Takes the loop device off its file.
pub(super) fn remove(device: &Path) -> Result<(), Error> {
    tool::done("losetup", &[Path::new("--detach"), device]).map(drop)
}

/// The loop devices that stand on `file`: one, or none, unless somebody made another by hand.
pub(super) fn on(file: &Path) -> Result<Vec<PathBuf>, Error> {
    const FOLDER: &str = "/sys/block";
    let failed = |source| Error::io("list loop devices", FOLDER, source);
    let mut found = Vec::new();
    for item in fs::read_dir(FOLDER).map_err(failed)? {
        let item = item.map_err(failed)?;
        // Only loop devices in use have this file.
        let backing = fs::read(item.path().join("loop/backing_file"));
        if backing.is_ok_and(|text| is_path(text.trim_ascii_end(), file)) {
            found.push(Path::new("/dev").join(item.file_name()));
        }
    }
    Ok(found)
}

/// The kernel adds " (deleted)" to a path that is not there any more, as after the death of its file system.
fn is_path(text: &[u8], path: &Path) -> bool {
    let rest = text.strip_prefix(path.as_os_str().as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b" ("))
}
