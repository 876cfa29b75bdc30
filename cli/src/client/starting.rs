//! Whether a daemon runs: one that has no socket yet may be about to make it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Whether a process of this very program serves. Of other users' processes only root sees what they run.
pub(super) fn is_seen() -> bool {
    let Some(own) = program(Path::new("/proc/self")) else { return false };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.map(|process| process.path()).any(|process| program(&process) == Some(own) && serves(&process))
}

/// The file that a process runs.
fn program(process: &Path) -> Option<(u64, u64)> {
    let file = fs::metadata(process.join("exe")).ok()?;
    Some((file.dev(), file.ino()))
}

fn serves(process: &Path) -> bool {
    let typed = fs::read(process.join("cmdline")).unwrap_or_default();
    typed.split(|byte| *byte == 0).any(|argument| argument == b"serve")
}
