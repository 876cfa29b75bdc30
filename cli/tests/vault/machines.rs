//! Machines that use one vault: who knows it, who may write to it, and what one of them has lost.

use firn_replicator::SigningKey;
use firn_replicator::format::digest::Digest;
use firn_replicator::format::entry::{Action, Entry, Who};
use firn_replicator::format::settings::Settings;
use firn_replicator::vault::identity;
use serde_json::json;

use crate::shell::Shell;
use crate::volume::{filled, vault};

#[test]
fn a_machine_writes_when_another_lets_it() {
    let shell = Shell::with_pool("64M");
    vault(&shell);
    let content = filled(&shell, 1);
    shell.done(&["vault", "send", "pg", "main"]);
    let second = |arguments: &[&str]| shell.run(&[arguments, &["--state", "second"]].concat());
    assert_eq!(second(&["vault", "points", "main"]).status, Some(3), "it knows no such vault");
    let added = second(&["vault", "add", "far", "./vault"]);
    let path = shell.path("vault");
    assert_eq!(
        String::from_utf8(added.stdout).expect("UTF-8"),
        format!("far is the vault at {}, with 1 recovery point\n", path.display())
    );
    let restored = second(&["vault", "restore", "far", "pg", "--to", "-"]);
    assert!(restored.stdout == content, "reading needs no leave: {}", restored.stderr);

    let signer = second(&["vault", "keys", "signer"]);
    let signer = String::from_utf8(signer.stdout).expect("UTF-8").trim_end().to_owned();
    let hold = || second(&["vault", "hold", "far", "pg"]);
    let refused = format!(
        "firn: write to log: {signer} may not sign in this vault\n\
         next: on a machine that may: firn vault keys add-signer VAULT {signer}\n"
    );
    let ran = hold();
    assert_eq!((ran.status, ran.stderr), (Some(2), refused.clone()));
    shell.done(&["vault", "keys", "add-signer", "main", &signer, "--name", "second"]);
    let ran = hold();
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    let keys = shell.json(&["vault", "keys", "list", "main"]);
    let named =
        keys["signers"].as_array().expect("a list").iter().find(|one| one["signer"] == signer.as_str());
    assert_eq!(named, Some(&json!({ "signer": signer, "name": "second", "is_this_machine": false })));
    shell.done(&["vault", "release", "main", "pg"]);
    shell.done(&["vault", "keys", "remove-signer", "main", &signer[..12]]);
    let ran = hold();
    assert_eq!((ran.status, ran.stderr), (Some(2), refused));
    let own = shell.done(&["vault", "keys", "signer"]);
    shell.fails(
        &["vault", "keys", "remove-signer", "main", own.trim_end()],
        4,
        "firn: write to log: nobody could sign any more\n",
    );
    shell.done(&["vault", "check", "main"]);
}

#[test]
fn names_are_a_machines_own() {
    let shell = Shell::with_pool("64M");
    let none = shell.done(&["vault", "list"]);
    assert!(none.starts_with("no vaults: `firn vault init NAME ADDRESS` makes one"), "{none}");
    vault(&shell);
    shell.done(&["vault", "init", "other", "./other"]);
    let known = shell.json(&["vault", "list"]);
    let names: Vec<_> =
        known["vaults"].as_array().expect("a list").iter().map(|one| one["name"].as_str()).collect();
    assert_eq!(names, [Some("main"), Some("other")]);
    let path = shell.path("vault");
    let path = path.display();
    for (arguments, why) in [
        (
            ["init", "main", "./third"],
            format!(
                "make vault: a vault at {path} is known as \"main\"\n\
             next: choose another name, or `firn vault forget main` first"
            ),
        ),
        (
            ["init", "third", "./vault"],
            format!(
                "make vault: directory {path} holds a vault already\n\
             next: `firn vault add NAME ADDRESS` gives it a name on this machine"
            ),
        ),
        (
            ["add", "main", "./other"],
            "name vault: another vault is known as \"main\"\n\
             next: choose another name, or `firn vault forget main` first"
                .to_owned(),
        ),
    ] {
        shell.fails(&[["vault"].as_slice(), &arguments].concat(), 4, &format!("firn: {why}\n"));
    }
    let shown = shell.json(&["vault", "show", "main"]);
    assert_eq!((&shown["entries"], &shown["points"], &shown["signers"]), (&json!(1), &json!(0), &json!(1)));
    assert_eq!(shell.json(&["vault", "forget", "main"]), json!({ "name": "main" }));
    assert_eq!(shell.run(&["vault", "show", "main"]).status, Some(3));
    assert_eq!(shell.json(&["vault", "show", "./vault"]), shown, "the vault stays as it is");
    let added = shell.json(&["vault", "add", "again", "./vault"]);
    assert_eq!((&added["name"], &added["vault"]), (&json!("again"), &shown["settings"]["vault"]));
}

/// What a machine remembers of a vault can be had again from the vault.
#[test]
fn a_lost_index_or_a_broken_one_is_made_anew() {
    let shell = Shell::with_pool("64M");
    vault(&shell);
    filled(&shell, 1);
    shell.done(&["vault", "send", "pg", "main"]);
    let points = shell.json(&["vault", "points", "main"]);
    std::fs::remove_dir_all(shell.path("state/cache")).expect("it is there");
    assert_eq!(shell.json(&["vault", "points", "main"]), points);
    let rebuilt = shell.json(&["vault", "rebuild-index", "main"]);
    assert_eq!(rebuilt, json!({ "entries": 2, "points": 1 }));
    assert_eq!(shell.json(&["vault", "points", "main"]), points);
    let probe = shell.json(&["vault", "probe", "./vault"]);
    assert_eq!(probe["mode"], "plain", "{probe}");
}

/// Whoever could write to the store made the vault their own: the same identity, and a log of theirs from its first
/// entry. A machine that has lost its index took it for the vault that it knew.
#[test]
fn settings_that_were_exchanged_are_refused() {
    let shell = Shell::with_pool("64M");
    vault(&shell);
    filled(&shell, 1);
    let path = shell.path("vault");
    let theirs = SigningKey::from_bytes(&[9; 32]);
    let mut settings =
        Settings::decode(&std::fs::read(path.join("vault.json")).expect("settings")).expect("settings");
    settings.founder = identity::signer(&theirs);
    let entry = Entry {
        format: 1,
        vault: settings.vault,
        number: 1,
        previous: Digest::default(),
        time_ms: settings.created_ms,
        who: Who::default(),
        action: Action::Init { settings: Digest::of(&settings.encode()) },
    };
    std::fs::write(path.join("vault.json"), settings.encode()).expect("written");
    let signed = entry.encode(&theirs).expect("an entry");
    std::fs::write(path.join("log/0000000000000001"), signed).expect("written");
    let went_back = shell.run(&["vault", "send", "pg", "main"]);
    assert_eq!(went_back.status, Some(5), "{}", went_back.stderr);

    std::fs::remove_dir_all(shell.path("state/cache")).expect("it is there");
    for command in [["vault", "send", "pg", "main"].as_slice(), &["vault", "points", "main"]] {
        shell.fails(
            command,
            5,
            &format!(
                "firn: open vault: the settings of \"main\" at {} are not those it was made with\n\
                 next: they are written once: somebody exchanged them. Write nothing, and bring back vault.json from \
                 another copy\n",
                path.display()
            ),
        );
    }
}
