//! A signing key was stolen: what had to stay is found, and restored.

use std::sync::Arc;

use firn_replicator::format::digest::Digest;
use firn_replicator::format::entry::{Action, Committed, Forwarded};
use firn_replicator::format::name;
use firn_replicator::format::point::Point;
use firn_replicator::store::DirectoryStore;
use firn_replicator::vault::{OpenOptions, Vault, identity};

use crate::shell::Shell;
use crate::volume::{filled, vault};

/// Lets the only point of the vault go on as an empty one, with the key of this machine.
fn steal(shell: &Shell) -> Digest {
    let signing = Some(identity::signing_key(&shell.path("state/identity")).expect("a key"));
    let store = Arc::new(DirectoryStore::open(&shell.path("vault")).expect("a store"));
    let vault = Vault::open(store, OpenOptions { signing, ..OpenOptions::default() }).expect("a vault");
    let catalog = vault.catalog();
    let live = catalog.points().values().next().expect("a point");
    let from = live.committed.id;
    let empty = Point { runs: Vec::new(), ..vault.read_point(from).expect("a point") }.encode();
    let id = Digest::of(&empty);
    vault.store().put_if_absent(&name::point(id), &empty).expect("written");
    let to = Committed { id, retain_until_ms: live.retain_until_ms, ..live.committed.clone() };
    let forward = Action::Forward { points: vec![Forwarded { from, to }] };
    vault.append(&mut |_, _| Ok(Some(forward.clone()))).expect("an entry");
    from
}

#[test]
fn a_retained_point_that_another_took_the_place_of_is_listed_and_restored() {
    let shell = Shell::with_pool("64M");
    vault(&shell);
    let content = filled(&shell, 1);
    shell.done(&["vault", "send", "pg", "main"]);
    shell.done(&["vault", "retain", "main", "pg", "30d"]);
    assert_eq!(
        shell.done(&["vault", "points", "main", "--former"]),
        "no point left the vault before its time\n"
    );
    let id = steal(&shell);

    let listed = shell.done(&["vault", "points", "main"]);
    assert!(listed.contains("before their time and are kept: 1;"), "{listed}");
    let former = shell.json(&["vault", "points", "main", "--former"]);
    let former = &former["former"][0];
    assert_eq!((&former["id"], &former["volume"]), (&id.to_string().into(), &"pg".into()), "{former}");
    let name = format!("former/{}", &id.to_string()[..12]);
    assert!(shell.done(&["vault", "points", "main", "--former"]).contains(&name));
    assert!(shell.done(&["vault", "check", "main"]).contains("left the vault"));
    let ls = shell.json(&["vault", "ls", "main"]);
    assert_eq!(ls["dead_bytes"], 0, "{ls}");

    let restored = |point: &str, to: &str| shell.run(&["vault", "restore", "main", point, "--to", to]);
    assert!(restored(&name, "-").stdout == content);
    assert!(restored("pg", "-").stdout == vec![0; content.len()], "this is what took its place");
    assert_eq!(restored(&name, "again").status, Some(0));
    assert_eq!(restored("former/000000000000", "-").status, Some(3));
    shell.done(&["vault", "ls", "main", "--point", &name]);
}
