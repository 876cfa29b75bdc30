//! A file for each volume of a consistency group, in one directory.
//!
//! None has its name before all are whole and durable.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use firn_engine::error::{Error, Kind};
use firn_replicator::vault::groups::GroupPoint;

use super::file::{Target, directory_of, sync_directory};

/// The files, without names until they are kept.
pub(super) struct Files {
    /// Made for them, unless it was there.
    directory: PathBuf,
    is_made: bool,
    targets: Vec<Target>,
}

impl Files {
    /// A file `VOLUME.img` for each volume of `group`. None of them may be there.
    pub(super) fn open(group: &GroupPoint<'_>, directory: &Path) -> Result<Self, Error> {
        let path = |name: &str| match name.contains(['/', '\0']) {
            true => Err(Error::new(Kind::Invalid, "restore", format!("{name:?} can't be a file's name"))
                .hint("restore this volume by itself, to a file that you name")),
            false => Ok(directory.join(format!("{name}.img"))),
        };
        let paths = group.points.iter().map(|point| path(&point.committed.name));
        let paths: Vec<PathBuf> = paths.collect::<Result<_, _>>()?;
        let is_made = make(directory)?;
        // From here on a directory that was made goes again when something fails.
        let mut files = Self { directory: directory.to_owned(), is_made, targets: Vec::new() };
        for path in paths {
            let target = Target::open(&path, false).map_err(|error| match error.kind() {
                Kind::Conflict => error.hint("name another directory"),
                _ => error,
            });
            files.targets.push(target?);
        }
        Ok(files)
    }

    /// The files in the order of the volumes.
    pub(super) fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// All files are durable, under their names. Where one of them can't be, none is there.
    pub(super) fn keep(mut self) -> Result<Vec<PathBuf>, Error> {
        self.targets.iter().try_for_each(Target::sync)?;
        let mut named = Vec::new();
        for target in self.targets.drain(..) {
            match target.name() {
                Ok(path) => named.extend(path),
                Err(error) => {
                    // Whatever is left of them is whole.
                    named.iter().for_each(|path| drop(fs::remove_file(path)));
                    return Err(error);
                }
            }
        }
        sync_directory(&self.directory)?;
        if self.is_made {
            sync_directory(directory_of(&self.directory))?;
        }
        Ok(named)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.targets.clear();
        if self.is_made {
            // One that has files in it stays.
            let _ = fs::remove_dir(&self.directory);
        }
    }
}

/// Makes the directory unless it is there; says whether it did.
fn make(directory: &Path) -> Result<bool, Error> {
    match fs::create_dir(directory) {
        Ok(()) => Ok(true),
        Err(_) if directory.is_dir() => Ok(false),
        Err(_) if directory.exists() => {
            let detail = format!("{} is no directory", directory.display());
            Err(Error::new(Kind::Conflict, "restore", detail)
                .hint("a consistency group becomes a file for each volume: name a directory for them"))
        }
        Err(source) if source.kind() == ErrorKind::NotFound => {
            let detail = format!("there is no directory {}", directory_of(directory).display());
            Err(Error::new(Kind::NotFound, "restore", detail).hint("make it, or name another directory"))
        }
        Err(source) => Err(Error::io("make directory to restore to", directory.display(), source)),
    }
}
