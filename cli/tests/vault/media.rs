//! A copy of a vault on read-only media: everything that only reads works, and what writes says why it can't.

use std::process::Output;

use crate::shell::Shell;
use crate::volume::{filled, vault};

/// Runs the program where the vault's directory is mounted read-only, in a mount namespace that ends with it.
fn run(shell: &Shell, arguments: &[&str]) -> Output {
    let firn = shell.command(arguments);
    let script = r#"mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@""#;
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(shell.path("vault"));
    command.arg(firn.get_program()).args(firn.get_args());
    for (name, value) in firn.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.current_dir(shell.path("")).output().expect("it runs")
}

/// The store's clock is that of a file that was just written, and there could be none: a plan of what would be pruned
/// failed on a disk that was mounted read-only to be looked at.
#[test]
fn a_read_only_copy_is_read_and_proven() {
    let shell = Shell::with_pool("64M");
    vault(&shell);
    let content = filled(&shell, 1);
    shell.done(&["vault", "send", "pg", "main"]);
    shell.done(&["vault", "send", "pg", "main"]);
    for vault in ["main", "./vault"] {
        let restored = run(&shell, &["vault", "restore", vault, "pg", "--to", "-"]);
        assert!(restored.stdout == content, "{}", String::from_utf8_lossy(&restored.stderr));
        for reads in [
            ["vault", "points", vault].as_slice(),
            &["vault", "show", vault],
            &["vault", "ls", vault],
            &["vault", "verify", vault, "--depth", "content"],
            &["vault", "check", vault],
            &["vault", "prune", vault, "--keep", "last=1", "--dry-run"],
            &["vault", "reclaim", vault, "--dry-run"],
        ] {
            let ran = run(&shell, reads);
            assert!(ran.status.success(), "{reads:?}: {}", String::from_utf8_lossy(&ran.stderr));
        }
    }
    for writes in [
        ["vault", "hold", "main", "pg"].as_slice(),
        &["vault", "prune", "main", "--keep", "last=1"],
        &["vault", "send", "pg", "main"],
    ] {
        let ran = run(&shell, writes);
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(!ran.status.success() && said.contains("Read-only file system"), "{writes:?}: {said}");
    }
}
