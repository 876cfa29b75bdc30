//! Golden vaults on disk: each object is a file, its key the path, as in a directory store or a downloaded bucket.

use std::fs;
use std::path::{Path, PathBuf};

use firn_replicator::store::Key;

use crate::script::Objects;

/// The files of a golden vault, by the format version that it needs.
pub(crate) fn golden(name: &str) -> PathBuf {
    let version = if name == "forwarded" { "v2" } else { "v1" };
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version).join(name)
}

/// Writes a vault where nothing is.
pub(crate) fn write(root: &Path, objects: &Objects) {
    for (key, bytes) in objects {
        let path = root.join(key.as_str());
        fs::create_dir_all(path.parent().expect("below the root")).expect("made");
        fs::write(path, bytes).expect("written");
    }
}

/// Reads a vault.
pub(crate) fn read(root: &Path) -> Objects {
    let mut objects = Objects::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a golden vault") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let name = path.strip_prefix(root).expect("below").to_str().expect("ascii").to_owned();
            objects.insert(Key::new(name).expect("a key"), fs::read(&path).expect("readable"));
        }
    }
    objects
}
