//! What is mounted: `/proc/self/mountinfo`.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use firn_engine::error::Error;
use rustix::fs::{major, minor};

const PATH: &str = "/proc/self/mountinfo";

/// Where the block device is mounted, in the order of mounting.
pub(super) fn of_device(device: &Path) -> Result<Vec<PathBuf>, Error> {
    let number = match fs::metadata(device) {
        Ok(metadata) => metadata.rdev(),
        // A device that is not there is mounted nowhere.
        Err(_) => return Ok(Vec::new()),
    };
    let number = format!("{}:{}", major(number), minor(number));
    Ok(read()?.into_iter().filter(|mount| mount.device == number).map(|mount| mount.target).collect())
}

/// Whether something is mounted exactly at `target`.
pub(super) fn is_target(target: &Path) -> Result<bool, Error> {
    Ok(read()?.iter().any(|mount| mount.target == target))
}

struct Mount {
    device: String,
    target: PathBuf,
}

fn read() -> Result<Vec<Mount>, Error> {
    let text = fs::read_to_string(PATH).map_err(|source| Error::io("read mounts", PATH, source))?;
    Ok(text.lines().filter_map(parse).collect())
}

/// `36 35 98:0 /root /target options ... - type source options`
fn parse(line: &str) -> Option<Mount> {
    let mut fields = line.split(' ');
    let device = fields.nth(2)?.to_owned();
    let target = PathBuf::from(OsString::from_vec(unescaped(fields.nth(1)?)));
    Some(Mount { device, target })
}

/// The kernel writes spaces, tabs, new lines and backslashes as `\040`.
fn unescaped(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut out = Vec::with_capacity(rest.len());
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (first, byte) {
            (b'\\', Some(byte)) => {
                out.push(byte);
                rest = &after[3..];
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read() {
        let line = r"36 35 7:0 / /srv/my\040pg rw,noatime shared:1 - ext4 /dev/loop0 rw";
        let mount = parse(line).expect("a mount");
        assert_eq!((mount.device.as_str(), mount.target.as_path()), ("7:0", Path::new("/srv/my pg")));
        assert!(is_target(Path::new("/proc")).expect("read"));
        assert_eq!(unescaped(r"a\134b\"), br"a\b\");
    }
}
