//! What opens an encrypted vault, what no longer does, and what nothing opens.

use crate::shell::{Ran, Shell};
use crate::volume::filled;

both_ways! {
    a_key_file_or_a_passphrase_opens_it("64M")
    a_wrong_or_lost_key_is_an_error_with_a_next_step("64M")
}

const ADDED: &str = " opens the vault from now on: slot ";

/// An encrypted vault, known as `main`, with a point of `pg`, and what is in that.
fn encrypted(shell: &Shell, with: &[&str]) -> Vec<u8> {
    shell.write("passphrase", b"correct horse\nand what is not of it\n");
    shell.write("other", b"incorrect horse\n");
    let content = filled(shell, 1);
    shell.done(&[["vault", "init", "main", "./vault", "--encrypt"].as_slice(), with].concat());
    shell.done(&["vault", "send", "pg", "main"]);
    content
}

fn a_key_file_or_a_passphrase_opens_it(shell: &Shell) {
    let content = encrypted(shell, &["--key-file", "key"]);
    shell.done(&["vault", "restore", "main", "pg", "--to", "./out"]);
    assert!(shell.read("out") == content, "the key file is known with the vault");
    let added = shell.done(&[
        "vault",
        "keys",
        "add",
        "main",
        "--new-passphrase-file",
        "passphrase",
        "--name",
        "safe",
    ]);
    let slot = added.trim_end().split_once(ADDED).expect("a slot").1.to_owned();
    std::fs::remove_file(shell.path("key")).expect("it was there");
    let by_passphrase = ["vault", "restore", "main", "pg", "--passphrase-file", "passphrase", "--to"];
    shell.done(&[by_passphrase.as_slice(), &["pg2"]].concat());
    shell.done(&["export", "pg2", "out", "--overwrite"]);
    assert!(shell.read("out") == content, "a daemon reads the file that was named in the user's directory");

    let with = ["--passphrase-file", "passphrase"];
    shell.done(&[["vault", "keys", "add", "main", "--new-key-file", "key2"].as_slice(), &with].concat());
    shell.done(&["vault", "keys", "remove", "main", &slot[..8], "--key-file", "key2"]);
    let ran =
        shell.run(&["vault", "restore", "main", "pg", "--to", "./again", "--passphrase-file", "passphrase"]);
    assert_eq!(ran.status, Some(2), "the slot is gone: {}", ran.stderr);
    let keys = shell.json(&["vault", "keys", "list", "main", "--key-file", "key2"]);
    assert_eq!(keys["slots"].as_array().map(Vec::len), Some(2));
    assert_eq!((&keys["data_keys"][0]["volume"], &keys["data_keys"][0]["points"]), (&"pg".into(), &1.into()));
    assert_eq!(keys["signers"][0]["is_this_machine"], true);
}

fn a_wrong_or_lost_key_is_an_error_with_a_next_step(shell: &Shell) {
    encrypted(shell, &["--passphrase-file", "passphrase"]);
    shell.fails(
        &["vault", "send", "pg", "main", "--passphrase-file", "other"],
        2,
        "firn: unlock vault: this passphrase opens none of 1 slots (1 are for a passphrase)\n\
         next: try another one; it is not kept anywhere else\n",
    );
    std::fs::rename(shell.path("passphrase"), shell.path("away")).expect("it was there");
    let Ran { status, stderr, .. } = shell.run(&["vault", "restore", "main", "pg", "--to", "x"]);
    assert_eq!(status, Some(3), "{stderr}");
    assert!(stderr.contains("passphrase: No such file or directory"), "{stderr}");
    let next = "next: put the file back, or name what else opens the vault: --key-file FILE or --passphrase-file FILE\n";
    assert!(stderr.ends_with(next), "{stderr}");
    shell.fails(
        &["vault", "restore", "./vault", "pg", "--to", "./out"],
        2,
        "firn: use vault: it is encrypted and locked\nnext: give its passphrase or key file\n",
    );
    assert!(!shell.exists("out"));
    let points = shell.json(&["vault", "points", "./vault"]);
    assert_eq!(points["points"][0]["volume"], "pg", "the log is no secret");
    for (options, why) in [
        (["--encrypt"].as_slice(), "an encrypted vault needs something that opens it"),
        (&["--key-file", "key"], "a key was given for a vault that is not to be encrypted"),
        (
            &["--encrypt", "--key-file", "key", "--passphrase-file", "other"],
            "both a passphrase and a key file were given",
        ),
    ] {
        let ran = shell.run(&[["vault", "init", "second", "./second"].as_slice(), options].concat());
        assert_eq!(ran.status, Some(2), "{}", ran.stderr);
        assert!(ran.stderr.starts_with(&format!("firn: make vault: {why}\nnext: ")), "{}", ran.stderr);
    }
    assert!(!shell.exists("second") && !shell.exists("key"), "a refused init leaves nothing");
}

#[test]
fn a_destroyed_key_is_the_end_of_its_points() {
    let shell = Shell::with_pool("64M");
    encrypted(&shell, &["--key-file", "key"]);
    let destroy = ["vault", "keys", "destroy", "main", "pg"];
    shell.done(&["vault", "hold", "main", "pg", "--reason", "court"]);
    for options in [[].as_slice(), &["--yes"]] {
        let ran = shell.run(&[destroy.as_slice(), options].concat());
        assert_eq!(ran.status, Some(4), "{}", ran.stderr);
        assert!(
            ran.stderr.contains(" must stay: it is held: court\nnext: a hold ends with "),
            "{}",
            ran.stderr
        );
    }
    shell.done(&["vault", "release", "main", "pg", "--reason", "court"]);
    let keys = shell.json(&["vault", "keys", "list", "main"]);
    let id = keys["data_keys"][0]["id"].as_str().expect("an id").to_owned();
    let few = &id[..7];
    shell.fails(
        &["vault", "keys", "destroy", "main", few, "--yes"],
        3,
        &format!(
            "firn: find key: no volume {few:?} has a data key in the vault\n\
             next: `firn vault keys list VAULT` shows what there is; of a key give at least 8 digits\n"
        ),
    );
    assert_eq!(shell.json(&["vault", "keys", "destroy", "main", &id[..8]])["id"], id.as_str());
    let plan = shell.json(&destroy);
    assert_eq!((&plan["dry_run"], plan["points"].as_array().map(Vec::len)), (&true.into(), Some(1)));
    shell.done(&["vault", "restore", "main", "pg", "--to", "./out"]);
    let done = shell.done(&[destroy.as_slice(), &["--yes"]].concat());
    assert!(done.contains(" is destroyed; these points can never be read again:\n  pg@vault-"), "{done}");
    let ran = shell.run(&["vault", "restore", "main", "pg", "--to", "./again"]);
    assert!(ran.status != Some(0) && ran.stderr.contains("destroyed"), "{:?} {}", ran.status, ran.stderr);
    assert!(!shell.exists("again"));
    let sent = shell.json(&["vault", "send", "pg", "main"]);
    assert_eq!(sent["points"][0]["kind"], "baseline", "what follows has a key of its own, and stands alone");
    shell.done(&["vault", "restore", "main", "pg", "--to", "./again"]);
    assert!(shell.read("again") == shell.read("out"));
}
