//! A vault with something wrong in it: it is found and named, and everything else is still restored.

use std::fs;
use std::path::PathBuf;

use crate::shell::{Shell, noise};
use crate::volume::{MIB, filled, vault};

both_ways! {
    what_is_not_damaged_is_restored("64M")
}

/// The vault's only pack.
fn pack(shell: &Shell) -> PathBuf {
    let objects = shell.json(&["vault", "ls", "main"]);
    let keys =
        objects["objects"].as_array().expect("a list").iter().map(|one| one["key"].as_str().expect("a key"));
    let packs: Vec<&str> = keys.filter(|key| key.starts_with("packs/")).collect();
    assert_eq!(packs.len(), 1, "{packs:?}");
    shell.path("vault").join(packs[0])
}

fn flip(path: &PathBuf, place: usize) {
    let mut bytes = fs::read(path).expect("an object");
    bytes[place] ^= 1;
    fs::write(path, bytes).expect("written");
}

fn what_is_not_damaged_is_restored(shell: &Shell) {
    vault(shell);
    let content = filled(shell, 8);
    shell.done(&["vault", "send", "pg", "main"]);
    shell.done(&["volume", "create", "sound", "--size", "1M"]);
    shell.done(&["vault", "send", "sound", "main"]);
    let pack = pack(shell);
    let object = format!("packs/{}", pack.display().to_string().split_once("/packs/").expect("a pack").1);
    let points = shell.json(&["vault", "points", "main"]);
    let point = &points["points"][0]["id"].as_str().expect("an id")[..12];
    flip(&pack, 4 * MIB);

    let report = shell.run(&["vault", "restore", "main", "pg", "--to", "./out"]);
    let text = String::from_utf8(report.stdout).expect("UTF-8");
    assert_eq!(report.status, Some(5), "{text}");
    assert!(text.contains("WITHOUT 64K that could not be had"), "{text}");
    let named =
        format!("  {object}: read frame: its content is not what was written (needed by points {point})\n");
    assert!(text.contains(&named), "{text}");
    let out = shell.read("out");
    let differing =
        (0..out.len() / 4096).filter(|block| out[block * 4096..][..4096] != content[block * 4096..][..4096]);
    let differing: Vec<usize> = differing.collect();
    assert_eq!((out.len(), differing.len()), (content.len(), 16), "{differing:?}");
    assert!(differing.iter().all(|block| out[block * 4096..][..4096] == [0; 4096]), "what is lost is zeros");

    let report = shell.run(&["vault", "restore", "main", "pg", "--to", "pg2", "--json"]);
    assert_eq!(report.status, Some(5));
    let restored: serde_json::Value = serde_json::from_slice(&report.stdout).expect("JSON");
    assert_eq!(restored["lost_bytes"], 65536);
    assert_eq!(restored["lost"][0], serde_json::json!([differing[0] * 4096, 65536]));
    assert_eq!(shell.json(&["volume", "show", "pg2"])["tags"]["firn:restore"], "unfinished");

    let stream = shell.run(&["vault", "restore", "main", "pg", "--to", "-"]);
    assert_eq!(stream.status, Some(5));
    assert!(stream.stderr.contains("65536 bytes could not be had"), "{}", stream.stderr);
    let range = format!("{}:4096", differing[0] * 4096);
    let ran = shell.run(&["vault", "restore", "main", "pg", "--to", "./range", "--range", &range]);
    assert_eq!(ran.status, Some(5), "{}", ran.stderr);
    assert!(!shell.exists("range"), "no file that is not whole");
    shell.done(&["vault", "restore", "main", "pg", "--to", "./range", "--range", "0:1M"]);
    shell.done(&["vault", "restore", "main", "sound", "--to", "./sound"]);

    flip(&pack, 4 * MIB);
    shell.done(&["vault", "restore", "main", "pg", "--to", "pg2"]);
    assert_eq!(
        shell.json(&["volume", "show", "pg2"])["tags"],
        serde_json::json!({}),
        "it began anew, and is whole"
    );
    shell.done(&["export", "pg2", "out", "--overwrite"]);
    assert!(shell.read("out") == content);
}

/// Runs a proof, which must find exactly one object damaged, and gives what it says of it.
fn finds(shell: &Shell, proof: &[&str], list: &str, object: &str) -> String {
    let ran = shell.run(&[proof, &["--json"]].concat());
    assert_eq!(ran.status, Some(5), "{proof:?}: {}", ran.stderr);
    let report: serde_json::Value = serde_json::from_slice(&ran.stdout).expect("JSON");
    let found = report[list].as_array().expect("a list");
    assert_eq!(found.len(), 1, "{report}");
    assert!(object.ends_with(found[0]["object"].as_str().expect("an object")), "{report}");
    assert_eq!(found[0]["points"].as_array().map(Vec::len), Some(1), "{report}");
    found[0]["detail"].as_str().expect("text").to_owned()
}

/// An auditor has no keys.
#[test]
fn proofs_need_no_keys() {
    let shell = Shell::with_pool("64M");
    shell.done(&["vault", "init", "main", "./vault", "--encrypt", "--key-file", "key"]);
    shell.write("content", &noise(2, MIB));
    shell.done(&["import", "content", "pg"]);
    shell.done(&["vault", "send", "pg", "main"]);
    let pack = pack(&shell);
    let object = pack.display().to_string();
    for vault in ["main", "./vault"] {
        for depth in ["catalog", "objects", "content"] {
            let report = shell.json(&["vault", "verify", vault, "--depth", depth]);
            assert_eq!(
                (&report["points"], &report["damaged"]),
                (&1.into(), &serde_json::json!([])),
                "{depth}"
            );
        }
        let check = shell.json(&["vault", "check", vault]);
        assert_eq!(check["findings"], serde_json::json!([]));
    }
    let said = shell.done(&["vault", "verify", "./vault", "--depth", "content"]);
    assert!(said.contains("no key was given: their stored bytes were held against their hashes"), "{said}");

    flip(&pack, MIB / 2);
    for vault in ["main", "./vault"] {
        shell.done(&["vault", "verify", vault]);
        let ran = shell.run(&["vault", "verify", vault, "--depth", "content"]);
        assert_eq!(ran.status, Some(5), "{}", ran.stderr);
    }
    finds(&shell, &["vault", "verify", "main", "--depth", "content"], "damaged", &object);
    fs::remove_file(&pack).expect("it was there");
    assert!(finds(&shell, &["vault", "verify", "main"], "damaged", &object).ends_with("is missing"));
    assert_eq!(finds(&shell, &["vault", "check", "main"], "findings", &object), "it is missing");

    let entry = shell.path("vault/log/0000000000000003");
    flip(&entry, 100);
    let ran = shell.run(&["vault", "check", "./vault"]);
    assert_eq!(ran.status, Some(5), "a changed log: {} {}", String::from_utf8_lossy(&ran.stdout), ran.stderr);
}
