//! A store on read-only media.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use firn_engine::sys::{Clock, SystemClock};
use firn_replicator::error::Kind;
use firn_replicator::store::{DirectoryStore, Key, Store};

/// Where the directories are, for the test that is run again.
const ROOT: &str = "FIRN_READ_ONLY_DIRECTORY";

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

/// A vault on read-only media could not even be opened to restore from it: opening made or cleaned `.staging`.
///
/// The test runs itself again where the directories are mounted read-only, in a mount namespace that ends with it.
#[test]
fn a_directory_on_read_only_media_is_read_and_refuses_writes() {
    if let Some(root) = std::env::var_os(ROOT) {
        check(Path::new(&root));
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for name in ["staging", "bare"] {
        let root = directory.path().join(name);
        DirectoryStore::open(&root).unwrap().put(&key("a"), b"one").unwrap();
        match name {
            "bare" => fs::remove_dir(root.join(".staging")).unwrap(),
            _ => fs::write(root.join(".staging/abandoned"), b"half").unwrap(),
        }
    }
    let script = r#"mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec "$2" --exact "$3""#;
    let itself: OsString = std::env::current_exe().unwrap().into();
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(directory.path())
        .arg(itself)
        .arg("media::a_directory_on_read_only_media_is_read_and_refuses_writes")
        .env(ROOT, directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}{complaint}");
}

fn check(directory: &Path) {
    for name in ["staging", "bare"] {
        let store = DirectoryStore::open(&directory.join(name)).unwrap();
        assert_eq!(store.get(&key("a")).unwrap(), b"one");
        assert_eq!(store.list("", None).unwrap().len(), 1);
        let before_ms = SystemClock.now_ms();
        let clock_ms = store.clock_ms().unwrap();
        assert!((before_ms..=SystemClock.now_ms()).contains(&clock_ms), "{clock_ms} is not now");
        let refused = [
            store.put(&key("b"), b"two").unwrap_err(),
            store.put_if_absent(&key("b"), b"two").unwrap_err(),
            store.delete(&key("a")).unwrap_err(),
        ];
        for error in refused {
            assert_eq!(error.kind(), Kind::Unavailable, "{error}");
            assert!(error.to_string().contains("Read-only file system"), "{error}");
        }
    }
    let absent = DirectoryStore::open(&directory.join("absent")).unwrap_err();
    assert_eq!(absent.kind(), Kind::Unavailable, "{absent}");
}
