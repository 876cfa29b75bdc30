//! Volumes of a shell's daemon as block devices and mounted file systems.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::Shell;
use super::takedown::Takedown;

/// A test that takes longer is stuck: less than what ends it from outside (.config/nextest.toml).
const STUCK: Duration = Duration::from_secs(540);

/// Where a shell's volumes are mounted. Declared after the shell, and so gone before its daemon.
pub(crate) struct Devices {
    /// First, so that nothing is mounted any more when the folder goes.
    _takedown: Takedown,
    folder: TempDir,
}

impl Devices {
    /// `None`, said aloud, where nobody may attach anything.
    pub(crate) fn of(shell: &Shell) -> Option<Self> {
        if !rustix::process::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
            eprintln!("skipped: only root can attach, with the kernel modules fuse and loop");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        // Another user, such as a database's, goes through it.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("its mode");
        Some(Self { _takedown: Takedown::of(&shell.runtime(), STUCK), folder })
    }

    /// Where a volume is mounted.
    pub(crate) fn mount_of(&self, volume: &str) -> PathBuf {
        self.folder.path().join(volume)
    }

    /// Attaches a volume and mounts it, with a new file system where one is named.
    pub(crate) fn mount(&self, shell: &Shell, volume: &str, new: Option<&str>) -> PathBuf {
        let target = self.mount_of(volume);
        let make = new.map_or_else(Vec::new, |kind| vec!["--mkfs", kind]);
        let mount = ["attach", volume, "--mount", target.to_str().expect("UTF-8")];
        shell.done(&[mount.as_slice(), &make].concat());
        target
    }

    /// Attaches a volume, and gives its device.
    pub(crate) fn attach(&self, shell: &Shell, volume: &str) -> PathBuf {
        PathBuf::from(shell.done(&["attach", volume]).trim_end())
    }

    /// Unmounts and detaches one.
    pub(crate) fn detach(&self, shell: &Shell, volume: &str) {
        shell.done(&["detach", volume]);
    }

    /// What is attached, by the name of its volume.
    pub(crate) fn view(&self, shell: &Shell, volume: &str) -> Value {
        let listed: Vec<Value> = serde_json::from_value(shell.json(&["attach", "--list"])).expect("a list");
        listed.into_iter().find(|view| view["name"] == volume).expect("it is attached")
    }
}
