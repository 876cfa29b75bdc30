//! A consistency group that was sent as one comes back as one: all its volumes from one point, or nothing that looks
//! whole.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::shell::{Shell, noise};
use crate::volume::{MIB, change, filled, vault};

both_ways! {
    a_lost_group_comes_back_as_one("64M")
    what_is_there_is_never_written_over("64M")
    what_is_not_damaged_of_a_group_is_restored("64M")
    a_group_goes_to_files("64M")
    what_can_not_be_a_group_is_said("64M")
}

/// A machine with the consistency group `shop`, sent at two points, and what `pg` and `log` were at the first.
pub(crate) struct Source {
    shell: Shell,
    pub(crate) pg: Vec<u8>,
    pub(crate) log: Vec<u8>,
}

impl Source {
    fn new() -> Self {
        let shell = Shell::with_pool("64M");
        vault(&shell);
        let mut content = filled(&shell, 2);
        let (pg, log) = (content.clone(), noise(7, 3 * MIB));
        shell.write("log", &log);
        shell.done(&["import", "log", "log"]);
        shell.done(&["group", "create", "shop", "pg", "log"]);
        shell.done(&["group", "snapshot", "shop@monday"]);
        shell.done(&["vault", "send", "shop@monday", "main"]);
        change(&shell, "pg", &mut content, &[1, 100]);
        change(&shell, "log", &mut log.clone(), &[5]);
        shell.done(&["group", "snapshot", "shop@tuesday"]);
        shell.done(&["vault", "send", "shop@tuesday", "main"]);
        Self { shell, pg, log }
    }

    /// One whose vault `shell` knows as `main`.
    pub(crate) fn known_to(shell: &Shell) -> Self {
        let source = Self::new();
        shell.done(&["vault", "add", "main", &source.address()]);
        source
    }

    fn address(&self) -> String {
        self.shell.path("vault").display().to_string()
    }

    /// The only pack of a volume's first point.
    pub(crate) fn pack(&self, volume: &str) -> PathBuf {
        let point = format!("{volume}@monday");
        let objects = self.shell.json(&["vault", "ls", "main", "--point", &point]);
        let keys =
            objects["objects"].as_array().expect("a list").iter().filter_map(|one| one["key"].as_str());
        let packs: Vec<&str> = keys.filter(|key| key.starts_with("packs/")).collect();
        assert_eq!(packs.len(), 1, "{packs:?}");
        self.shell.path("vault").join(packs[0])
    }
}

pub(crate) fn is(shell: &Shell, volume: &str, content: &[u8]) -> bool {
    shell.done(&["export", volume, "exported", "--overwrite"]);
    shell.read("exported") == content
}

pub(crate) fn tags(shell: &Shell, volume: &str) -> Value {
    shell.json(&["volume", "show", volume])["tags"].take()
}

pub(crate) fn groups(shell: &Shell) -> Value {
    let mut groups = shell.json(&["group", "list"]);
    let list = groups["groups"].as_array_mut().expect("a list");
    list.iter_mut()
        .map(|group| json!({ group["name"].as_str().expect("a name"): group["volumes"] }))
        .collect()
}

fn a_lost_group_comes_back_as_one(shell: &Shell) {
    let source = Source::known_to(shell);
    let restored = shell.json(&["vault", "restore", "main", "shop@monday"]);
    assert_eq!((&restored["snapshot"], &restored["group"]), (&json!("shop@monday"), &json!("shop")));
    assert_eq!((&restored["bytes"], &restored["lost_bytes"]), (&json!(5 * MIB), &json!(0)));
    assert_eq!(restored["volumes"][0]["snapshot"], "log@monday");
    assert!(is(shell, "pg", &source.pg) && is(shell, "log", &source.log), "all of it is of monday");
    assert_eq!((tags(shell, "pg"), tags(shell, "log")), (json!({}), json!({})));
    assert_eq!(groups(shell), json!([{ "shop": ["log", "pg"] }]));

    let said = shell.done(&["vault", "restore", "main", "shop", "--to", "pg=pg2", "--to", "log=log2"]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0].starts_with("shop@tuesday restored in ") && lines[0].contains(": 2 volumes, 5M"),
        "{said}"
    );
    assert_eq!(lines[1..3], ["log@tuesday is volume log2", "pg@tuesday is volume pg2"]);
    assert!(lines[3].starts_with("they belong to no consistency group"), "{said}");
    assert!(!is(shell, "pg2", &source.pg) && !is(shell, "log2", &source.log), "all of it is of tuesday");

    let point = shell.json(&["vault", "points", "main"])["points"][0]["id"].take();
    let point = format!("group/{}", &point.as_str().expect("an id")[..12]);
    let names = ["--to", "pg=pg3", "--to", "log=log3", "--group", "till"];
    shell.done(&[["vault", "restore", "main", &point].as_slice(), &names].concat());
    assert!(is(shell, "pg3", &source.pg) && is(shell, "log3", &source.log));
    assert_eq!(groups(shell), json!([{ "shop": ["log", "pg"] }, { "till": ["log3", "pg3"] }]));
    shell.done(&["group", "snapshot", "shop@after"]);
}

fn what_is_there_is_never_written_over(shell: &Shell) {
    let source = Source::known_to(shell);
    shell.write("mine", &noise(9, MIB));
    shell.done(&["import", "mine", "pg"]);
    shell.done(&["group", "create", "shop", "pg"]);
    let refused = |options: &[&str], status, why: &str| {
        shell.fails(&[["vault", "restore", "main", "shop"].as_slice(), options].concat(), status, why);
    };
    let exists = |own: &str, name: &str| {
        format!(
            "firn: restore: a volume named \"{name}\" exists\n\
             next: give it another name with --to {own}=NEW\n"
        )
    };
    refused(&[], 4, &exists("pg", "pg"));
    refused(&["--to", "log=pg", "--to", "pg=pg2"], 4, &exists("log", "pg"));
    refused(
        &["--to", "pg=pg2", "--group", "shop"],
        4,
        "firn: restore: a consistency group named \"shop\" exists\n\
         next: name another one; `firn group list` shows them\n",
    );
    refused(
        &["--to", "pg=log"],
        2,
        "firn: restore: two volumes would be called \"log\"\n\
         next: give one of them another name with --to VOLUME=NEW\n",
    );
    refused(
        &["--to", "pg=p g"],
        2,
        "firn: change catalog: \"p g\" can't be the name of a volume\n\
         next: a name has 1 to 128 letters, digits or . _ : - + and starts with neither - nor .\n",
    );
    let volumes = shell.json(&["volume", "list"]);
    assert_eq!(volumes["volumes"].as_array().map(Vec::len), Some(1), "nothing was made: {volumes}");
    assert!(is(shell, "pg", &noise(9, MIB)));

    let folder = shell.path("folder");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("pg.img"), b"mine").expect("written");
    refused(
        &["--to", "./folder"],
        4,
        "firn: restore: ./folder/pg.img exists\nnext: name another directory\n",
    );
    let left: Vec<_> =
        fs::read_dir(&folder).expect("a folder").map(|one| one.expect("a file").file_name()).collect();
    assert_eq!((left, shell.read("folder/pg.img").as_slice()), (vec!["pg.img".into()], b"mine".as_slice()));
    drop(source);
}

fn what_is_not_damaged_of_a_group_is_restored(shell: &Shell) {
    let source = Source::known_to(shell);
    let pack = source.pack("pg");
    let flip = || {
        let mut bytes = fs::read(&pack).expect("a pack");
        bytes[MIB] ^= 1;
        fs::write(&pack, bytes).expect("written");
    };
    flip();
    let ran = shell.run(&["vault", "restore", "main", "shop@monday"]);
    let said = String::from_utf8(ran.stdout).expect("UTF-8");
    assert_eq!(ran.status, Some(5), "{said}{}", ran.stderr);
    assert!(said.contains("shop@monday restored WITHOUT 64K that could not be had"), "{said}");
    let points = shell.json(&["vault", "points", "main", "--volume", "pg"]);
    let ids: Vec<&str> =
        (0..2).map(|at| &points["points"][at]["id"].as_str().expect("an id")[..12]).collect();
    assert!(said.contains("(needed by points ") && ids.iter().all(|id| said.contains(id)), "{said}");
    assert!(said.contains("log@monday is volume log\npg@monday is volume pg, without 64K\n"), "{said}");
    assert!(is(shell, "log", &source.log), "what is not damaged is there");
    let unfinished = json!({ "firn:restore": "unfinished" });
    assert_eq!(
        (tags(shell, "log"), tags(shell, "pg")),
        (unfinished.clone(), unfinished),
        "none of it is whole"
    );
    assert_eq!(groups(shell), json!([]), "no group of what is not whole");

    let ran = shell.run(&["vault", "restore", "main", "shop@monday", "--to", "./files/", "--json"]);
    let restored: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
    assert_eq!((ran.status, &restored["lost_bytes"]), (Some(5), &json!(65536)));
    assert_eq!(
        (&restored["volumes"][0]["lost_bytes"], &restored["volumes"][1]["lost_bytes"]),
        (&json!(0), &json!(65536))
    );
    assert!(shell.read("files/log.img") == source.log && shell.read("files/pg.img") != source.pg);

    flip();
    shell.done(&["vault", "restore", "main", "shop@monday"]);
    assert!(is(shell, "pg", &source.pg) && is(shell, "log", &source.log), "it began anew, and is whole");
    assert_eq!((tags(shell, "log"), tags(shell, "pg")), (json!({}), json!({})));
    assert_eq!(groups(shell), json!([{ "shop": ["log", "pg"] }]));
}

fn a_group_goes_to_files(shell: &Shell) {
    let source = Source::known_to(shell);
    let said = shell.done(&["vault", "restore", "main", "shop@monday", "--to", "./files/"]);
    assert!(said.ends_with("log@monday is ./files/log.img\npg@monday is ./files/pg.img\n"), "{said}");
    assert!(shell.read("files/pg.img") == source.pg && shell.read("files/log.img") == source.log);
    let files = || fs::read_dir(shell.path("files")).expect("a folder").count();
    assert_eq!(files(), 2);
    fs::remove_file(shell.path("files/pg.img")).expect("it is there");
    let ran = shell.run(&["vault", "restore", "main", "shop@monday", "--to", "./files"]);
    assert_eq!((ran.status, files()), (Some(4), 1), "{}", ran.stderr);
}

fn what_can_not_be_a_group_is_said(shell: &Shell) {
    let source = Source::known_to(shell);
    let refused = |options: &[&str], status, why: &str| {
        shell.fails(&[["vault", "restore", "main"].as_slice(), options].concat(), status, why);
    };
    let is_group = "firn: restore: \"shop\" is a consistency group of 2 volumes\n\
         next: without --to they get their own names; --to VOLUME=NEW gives one of them another, --to ./DIR/ writes a file \
         for each\n";
    refused(&["shop", "--to", "new"], 2, is_group);
    refused(&["shop", "--to", "-"], 2, is_group);
    refused(&["shop", "--to", "./new", "--overwrite"], 2, is_group);
    refused(
        &["pg"],
        2,
        "firn: restore: \"pg\" is a point of a volume\nnext: say where to: --to pg, --to ./FILE or --to -\n",
    );
    refused(
        &["shop", "--to", "till=new"],
        2,
        "firn: restore: \"till\" is none of the volumes of shop@tuesday\nnext: they are: log pg\n",
    );
    refused(
        &["shop", "--to", "pg=new", "--to", "log"],
        2,
        "firn: restore: \"log\" does not say which volume it is for\n\
         next: of a consistency group, write --to VOLUME=NEW for each volume that gets another name\n",
    );
    refused(
        &["shop", "--to", "pg=./new"],
        2,
        "firn: restore: \"./new\" can't be a volume's name\n\
         next: --to ./DIR/ alone restores a consistency group to a file for each volume\n",
    );
    refused(
        &["shop", "--to", "./no/new/"],
        3,
        "firn: restore: there is no directory ./no\nnext: make it, or name another directory\n",
    );
    refused(&["pg", "--to", "./new/"], 2, "firn: restore: ./new/ is a directory\nnext: name a file in it\n");
    refused(
        &["pg", "--to", "new", "--group", "shop"],
        2,
        "firn: restore: --group is for a consistency group that is restored to volumes\n",
    );

    // A volume of the group's name, sent by another machine's pool.
    shell.done(&["volume", "create", "shop", "--size", "1M"]);
    let signer = shell.done(&["vault", "keys", "signer"]);
    source.shell.done(&["vault", "keys", "add-signer", "main", signer.trim_end()]);
    shell.done(&["vault", "send", "shop", "main"]);
    for to in [["--to", "new"].as_slice(), &["--to", "./new"], &[]] {
        refused(
            &[["shop@monday"].as_slice(), to].concat(),
            2,
            "firn: find point: \"shop\" is a volume and a consistency group in this vault\n\
             next: say which is meant: volume/shop@monday or group/shop@monday\n",
        );
    }
    shell.done(&["vault", "restore", "main", "volume/shop", "--to", "alone"]);
    shell.done(&["vault", "restore", "main", "group/shop"]);

    source.shell.done(&["vault", "prune", "main", "--point", "log@tuesday"]);
    refused(
        &["group/shop", "--to", "./new"],
        4,
        "firn: restore: shop@tuesday is not whole: 1 of its points left the vault\n\
         next: choose another point, or restore what is left by itself: pg@tuesday\n",
    );
    assert!(!shell.exists("new"));
}
