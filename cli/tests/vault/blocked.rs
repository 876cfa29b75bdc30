//! Restores that are under way: a pack is exchanged for a pipe, which whoever reads it waits at.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::park_timeout;
use std::time::Duration;

use crate::shell::Shell;
use crate::volume::{filled, vault};

/// A pack that nobody can read. When this is dropped it is as it was, and who waits is let go.
struct Blocked {
    pack: PathBuf,
    away: PathBuf,
    /// Once somebody may write to it, nobody waits to open it.
    pipe: Option<File>,
}

impl Blocked {
    fn new(pack: &Path) -> Self {
        let away = pack.with_extension("away");
        fs::rename(pack, &away).expect("it is there");
        let made = Command::new("mkfifo").arg(pack).status().expect("it runs");
        assert!(made.success());
        Self { pack: pack.to_owned(), away, pipe: None }
    }

    /// Whether somebody waits to read it; that one is let go then, and fails.
    fn let_go(&mut self) -> bool {
        let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).expect("a flag");
        let opened = File::options().write(true).custom_flags(nonblocking).open(&self.pack);
        self.pipe = self.pipe.take().or(opened.ok());
        self.pipe.is_some()
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        self.let_go();
        // A test that failed already fails no better if this does.
        let _ = fs::rename(&self.away, &self.pack);
    }
}

/// Both would have written to the volume, and the one that ended first said that it was whole.
#[test]
fn two_restores_into_one_volume_are_refused() {
    let shell = Shell::served("64M");
    vault(&shell);
    let content = filled(&shell, 1);
    shell.done(&["vault", "send", "pg", "main"]);
    let objects = shell.json(&["vault", "ls", "main"]);
    let mut keys =
        objects["objects"].as_array().expect("a list").iter().filter_map(|one| one["key"].as_str());
    let pack = shell.path("vault").join(keys.find(|key| key.starts_with("packs/")).expect("a pack"));

    let mut blocked = Blocked::new(&pack);
    let mut first = shell.start(&["vault", "restore", "main", "pg", "--to", "pg2"]);
    while shell.run(&["volume", "show", "pg2"]).status != Some(0) {
        assert!(first.try_wait().expect("its state").is_none(), "it ended before it began");
        park_timeout(Duration::from_millis(20));
    }
    shell.fails(
        &["vault", "restore", "main", "pg", "--to", "pg2"],
        4,
        "firn: restore: another restore fills volume \"pg2\"\n\
         next: wait until it is done (it goes on when its command is interrupted), or name another volume\n",
    );
    // One who begins does not read the pack at once.
    while !blocked.let_go() {
        park_timeout(Duration::from_millis(20));
    }
    let ended = first.wait().expect("it ends");
    assert!(!ended.success(), "a pipe is no pack");
    drop(blocked);
    assert_eq!(shell.json(&["volume", "show", "pg2"])["tags"]["firn:restore"], "unfinished");
    shell.done(&["vault", "restore", "main", "pg", "--to", "pg2"]);
    shell.done(&["export", "pg2", "out"]);
    assert!(shell.read("out") == content);
}
