//! Who uses a mount or a device: what can be seen of it in `/proc`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Most processes that are named.
const NAMED_MAX: usize = 5;

/// The processes that have a file of the file system at `target` open, or work or have their root in it, as
/// `postgres (4711)`. Only those that the user may look at are seen.
pub(super) fn of_mount(target: &Path) -> Vec<String> {
    let Ok(device) = fs::metadata(target).map(|metadata| metadata.dev()) else { return Vec::new() };
    processes(|path| fs::metadata(path).is_ok_and(|metadata| metadata.dev() == device))
}

/// The processes that have the block device open.
pub(super) fn of_device(device: &Path) -> Vec<String> {
    let Ok(number) = fs::metadata(device).map(|metadata| metadata.rdev()) else { return Vec::new() };
    processes(|path| fs::metadata(path).is_ok_and(|metadata| metadata.rdev() == number))
}

/// `, used by postgres (4711)`, or nothing when nobody was seen.
pub(super) fn text(holders: &[String]) -> String {
    match holders {
        [] => String::new(),
        holders if holders.len() > NAMED_MAX => {
            format!(", used by {} and {} more", holders[..NAMED_MAX].join(", "), holders.len() - NAMED_MAX)
        }
        holders => format!(", used by {}", holders.join(", ")),
    }
}

fn processes(uses: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for process in entries(Path::new("/proc")) {
        let Some(pid) = process.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()) else {
            continue;
        };
        let links = [process.join("cwd"), process.join("root")];
        if links.into_iter().chain(entries(&process.join("fd"))).any(|link| uses(&link)) {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            found.push(format!("{} ({pid})", name.trim_end()));
        }
    }
    found
}

/// What is in a folder. Processes end while they are looked at, so one that can't be read is empty.
fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen_where_it_has_a_file_open() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let own = format!("({})", std::process::id());
        assert!(of_mount(file.path()).iter().any(|holder| holder.ends_with(&own)));
        assert!(of_mount(Path::new("/nowhere")).is_empty());
    }

    #[test]
    fn only_some_are_named() {
        let names: Vec<String> = (1..=7).map(|pid| format!("a ({pid})")).collect();
        assert_eq!(text(&names[..1]), ", used by a (1)");
        assert_eq!(text(&names), ", used by a (1), a (2), a (3), a (4), a (5) and 2 more");
        assert_eq!(text(&[]), "");
    }
}
