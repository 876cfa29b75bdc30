//! Restores that are under way: a pack is exchanged for a pipe, which whoever reads it waits at.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::park_timeout;
use std::time::Duration;

use serde_json::json;

use crate::groups::{Source, groups, is, tags};
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

/// Begins to restore a group, and ends it in its second volume, in the way that `end` does: the first, of which all is
/// there, must not count either.
fn ends_in_the_second_volume(end: impl FnOnce(&mut Shell, &mut Blocked)) {
    let mut shell = Shell::served("64M");
    let source = Source::known_to(&shell);
    let restore = ["vault", "restore", "main", "shop@monday"];
    let mut blocked = Blocked::new(&source.pack("pg"));
    let mut first = shell.start(&restore);
    while shell.run(&["volume", "show", "log"]).status != Some(0) || !is(&shell, "log", &source.log) {
        assert!(
            first.try_wait().expect("its state").is_none(),
            "it ended before it came to the second volume"
        );
        park_timeout(Duration::from_millis(20));
    }
    let ran = shell.run(&restore);
    assert!(ran.stderr.contains("another restore fills volume \"log\""), "{}", ran.stderr);
    end(&mut shell, &mut blocked);
    assert!(!first.wait().expect("it ends").success());
    drop(blocked);
    let unfinished = json!({ "firn:restore": "unfinished" });
    assert_eq!((tags(&shell, "log"), tags(&shell, "pg")), (unfinished.clone(), unfinished));
    assert_eq!(groups(&shell), json!([]));

    shell.done(&restore);
    assert!(is(&shell, "pg", &source.pg) && is(&shell, "log", &source.log));
    assert_eq!((tags(&shell, "log"), tags(&shell, "pg")), (json!({}), json!({})));
    assert_eq!(groups(&shell), json!([{ "shop": ["log", "pg"] }]));
}

#[test]
fn no_volume_of_a_group_counts_when_the_restore_of_another_failed() {
    ends_in_the_second_volume(|_, blocked| {
        while !blocked.let_go() {
            park_timeout(Duration::from_millis(20));
        }
    });
}

#[test]
fn no_volume_of_a_group_counts_when_the_daemon_died_before_all_did() {
    ends_in_the_second_volume(|shell, _| {
        shell.kill();
        shell.serve(&[]);
    });
}

#[test]
fn no_file_of_a_group_is_there_before_all_are() {
    let shell = Shell::with_pool("64M");
    let source = Source::known_to(&shell);
    let mut blocked = Blocked::new(&source.pack("pg"));
    let mut restore = shell.start(&["vault", "restore", "main", "shop@monday", "--to", "./files/"]);
    while !blocked.let_go() {
        assert!(!shell.exists("files/log.img"));
        park_timeout(Duration::from_millis(20));
    }
    assert!(!restore.wait().expect("it ends").success(), "a pipe is no pack");
    assert!(!shell.exists("files"), "nor the directory, which was made for them");
    drop(blocked);
    shell.done(&["vault", "restore", "main", "shop@monday", "--to", "./files/"]);
    assert!(shell.read("files/log.img") == source.log && shell.read("files/pg.img") == source.pg);
}
