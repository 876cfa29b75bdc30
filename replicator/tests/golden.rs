//! Golden vaults of every published format version: what an old firn wrote, today's firn and the independent reader
//! in `docs/reader` read.
//!
//! `golden/v1` holds two vaults, made by `golden/script.rs` with nothing but the formats: one that is not encrypted,
//! and one that is. `golden/v2` holds one whose log needs a reader of version 2. What they hold stands at the end of this file and can be followed in the script. A published
//! version's files never change; `FIRN_GOLDEN_WRITE=1` makes them anew while the version is not published yet, and
//! what stands here, and the examples in `docs/format.md`, are then to be compared with the script again.

#[path = "golden/content.rs"]
mod content;
#[path = "golden/files.rs"]
mod files;
#[path = "golden/former.rs"]
mod former;
#[path = "golden/python.rs"]
mod python;
#[path = "golden/script.rs"]
mod script;
#[path = "golden/structures.rs"]
mod structures;
#[path = "golden/writer.rs"]
mod writer;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use firn_replicator::format::digest::Digest;
use firn_replicator::format::entry::{Action, Entry, Signed};
use firn_replicator::format::name;
use firn_replicator::format::point::{Point, RunRef};
use firn_replicator::format::secret::Secret;
use firn_replicator::store::{DirectoryStore, Key};
use firn_replicator::vault::keyring::Unlock;
use firn_replicator::vault::{OpenOptions, Vault};

use files::{golden, read, write};
use python::{Reader, Said};
use script::{KEY_FILE, Objects, PASSPHRASE, signer};
use structures::Seen;

/// A golden vault's name, and its script.
type Golden = (&'static str, fn() -> Objects);

const VAULTS: [Golden; 3] =
    [("plain", script::plain), ("encrypted", script::encrypted), ("forwarded", script::forwarded)];

/// Makes the golden files anew when that is asked for:
/// `FIRN_GOLDEN_WRITE=1 cargo nextest run --release -p firn-replicator --test golden written_when_asked`.
#[test]
fn golden_files_are_written_when_asked() {
    if std::env::var_os("FIRN_GOLDEN_WRITE").is_none_or(|value| value != "1") {
        return;
    }
    for (name, script) in VAULTS {
        let _ = fs::remove_dir_all(golden(name));
        write(&golden(name), &script());
    }
}

#[test]
fn structures_are_written_again_to_the_byte() {
    let mut seen = Seen::default();
    for (name, _) in VAULTS {
        let objects = read(&golden(name));
        let vault = structures::open(&objects, &mut seen);
        vault.check_objects(&mut seen);
    }
    assert_eq!(seen.actions.len(), 16, "every action of the log: {:?}", seen.actions);
    assert_eq!(seen.frames.len(), 6, "every content in every codec: {:?}", seen.frames);
    assert_eq!(seen.runs_in_points.iter().copied().collect::<Vec<_>>(), [0, 1, 2, 3], "{seen:?}");
    let rare = [seen.holes, seen.extents, seen.packs, seen.later_generations, seen.sealed_for_ever];
    assert!(rare.iter().all(|&count| count > 0), "something is lacking: {seen:?}");
}

/// The library's own catalog of a golden vault, and its keys.
#[test]
fn the_library_opens_them() {
    for (name, secret) in [
        ("plain", None),
        ("forwarded", None),
        ("encrypted", Some(Unlock::Passphrase(PASSPHRASE.to_owned().into()))),
        ("encrypted", Some(Unlock::KeyFile(Secret::new(KEY_FILE)))),
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        write(directory.path(), &read(&golden(name)));
        let store = Arc::new(DirectoryStore::open(directory.path()).expect("a store"));
        let options = OpenOptions { unlock: secret, ..OpenOptions::default() };
        let vault = Vault::open(store, options).expect("a vault");
        let catalog = vault.catalog();
        let expected = match name {
            "plain" => (8, LAST, vec![LAST]),
            "forwarded" => (2, 7, vec![7]),
            _ => (4, 16, vec![]),
        };
        let void: Vec<u64> = catalog.void().iter().map(|void| void.number).collect();
        assert_eq!((catalog.points().len(), catalog.head().number, void), expected, "{name}");
        for (id, live) in catalog.points() {
            let is_listed = LISTED.contains(&id.short()) && LISTED.contains(&live.committed.snapshot);
            assert!(is_listed, "the reader does not list {id}");
            let is_destroyed = live.committed.name == "payroll";
            assert_eq!(vault.frame_keys(live.committed.key).is_err(), is_destroyed, "{name} {id}");
        }
    }
}

/// The document's JSON is what lies in the golden vaults, to the byte.
#[test]
fn examples_in_the_document_are_golden() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/format.md");
    let document = fs::read_to_string(document).expect("the document");
    let (_, vault) = document.split_once("\n# The vault's format").expect("the vault's part");
    let objects: Vec<Vec<u8>> =
        VAULTS.iter().flat_map(|(name, _)| read(&golden(name)).into_values()).collect();
    let texts: Vec<&str> = objects.iter().filter_map(|bytes| str::from_utf8(bytes).ok()).collect();
    let examples: Vec<&str> =
        vault.split("```json\n").skip(1).filter_map(|rest| rest.split("\n```").next()).collect();
    for example in &examples {
        assert!(texts.iter().any(|text| text.contains(example)), "no golden object has:\n{example}");
    }
    assert_eq!(examples.len(), 5);
}

#[test]
fn the_reader_restores_every_live_point() {
    let reader = Reader::new();
    for &(point, expected) in PLAIN {
        assert_eq!(restore(&reader, &golden("plain"), point, &[]).expect(point), expected, "{point}");
    }
    for &(point, expected) in FORWARDED {
        assert_eq!(restore(&reader, &golden("forwarded"), point, &[]).expect(point), expected, "{point}");
    }
    // The name that the point had at first.
    assert_eq!(restore(&reader, &golden("forwarded"), "b7fe404df7fb", &[]).expect("known"), FORWARDED[0].1);
    let secrets = Secrets::new();
    for &(point, expected) in ENCRYPTED {
        for secret in [secrets.passphrase(), secrets.key_file()] {
            assert_eq!(
                restore(&reader, &golden("encrypted"), point, &secret).expect(point),
                expected,
                "{point}"
            );
        }
    }
    // To a file: the same bytes, and holes stay holes.
    let directory = tempfile::tempdir().expect("a directory");
    let to = directory.path().join("restored");
    let arguments = ["db@thursday", "--to", to.to_str().expect("text")];
    let said = reader.run("restore", &golden("plain"), &arguments);
    assert_eq!(said.status, 0, "{said:?}");
    let restored = fs::read(&to).expect("restored");
    assert_eq!((restored.len(), content::describe(&restored).as_str()), (400 * 4096, PLAIN[2].1));
    assert_eq!(reader.run("restore", &golden("plain"), &arguments).status, 2, "a file is not written over");
}

/// Who writes a reader of their own compares with `golden/README.md`.
#[test]
fn the_readme_says_what_each_point_holds() {
    let (reader, secrets) = (Reader::new(), Secrets::new());
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/README.md");
    let readme = fs::read_to_string(readme).expect("the page");
    assert!(readme.contains(PASSPHRASE));
    assert!(readme.contains(&fs::read_to_string(&secrets.1[1]).expect("a key file")));
    for (name, points, secret) in [
        ("plain", PLAIN, vec![]),
        ("encrypted", ENCRYPTED, secrets.key_file()),
        ("forwarded", FORWARDED, vec![]),
    ] {
        for (point, _) in points {
            let said = reader.run("restore", &golden(name), &[&[*point, "--to", "-"], &*secret].concat());
            let (id, bytes, hash) = (&said.err[..12], said.out.len(), Digest::of(&said.out));
            let row = format!("| `{id}` | {bytes} | `{hash}` |\n");
            assert!(readme.contains(&row), "{name} {point}: {row}");
        }
    }
}

#[test]
fn the_reader_lists_what_is_live() {
    let reader = Reader::new();
    let mut listed = String::new();
    for (name, _) in VAULTS {
        let said = reader.run("list", &golden(name), &[]);
        assert_eq!((said.status, said.err.as_str()), (0, ""), "{name}");
        listed.push_str(&String::from_utf8(said.out).expect("text"));
    }
    let found: String = listed.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
    assert!(found == LISTED, "it lists:\n{found}\nand not:\n{LISTED}");
}

#[test]
fn the_reader_finds_whole_vaults_whole() {
    let reader = Reader::new();
    let secrets = Secrets::new();
    for (name, secret, points) in [
        ("plain", vec![], "8 points, 0 of them not read for want of a key, 0 objects damaged\n"),
        ("forwarded", vec![], "2 points, 0 of them not read for want of a key, 0 objects damaged\n"),
        (
            "encrypted",
            secrets.key_file(),
            "4 points, 1 of them not read for want of a key, 0 objects damaged\n",
        ),
        ("encrypted", vec![], "4 points, 4 of them not read for want of a key, 0 objects damaged\n"),
    ] {
        let said = reader.run("verify", &golden(name), &secret);
        assert_eq!((said.status, str::from_utf8(&said.out).expect("text")), (0, points), "{said:?}");
    }
}

#[test]
fn the_reader_says_which_key_is_missing() {
    let reader = Reader::new();
    let secrets = Secrets::new();
    let vault = golden("encrypted");
    let refused = |point: &str, secret: &[&str]| {
        let said = restore(&reader, &vault, point, secret).expect_err("refused");
        assert_eq!((said.status, said.out.len()), (2, 0), "{said:?}");
        said.err
    };
    assert!(refused("db@wednesday", &[]).contains("this point is encrypted: give --passphrase"));
    assert!(refused("payroll", &secrets.passphrase()).contains("was destroyed"));
    let other = secrets.write("other", "not the passphrase");
    assert!(
        refused("db", &["--passphrase-file", &other]).contains("no key slot of this vault is opened by that")
    );
    let other = secrets.write("other.key", &format!("firn key file 1\n{}\n", "00".repeat(32)));
    assert!(refused("db", &["--key-file", &other]).contains("no key slot of this vault is opened by that"));
}

/// Each object in turn is flipped, cut, or gone: it is named, and no point is restored wrongly.
#[test]
fn the_reader_names_what_is_damaged() {
    let reader = Reader::new();
    let objects = read(&golden("plain"));
    let needed = needed(&objects);
    let last = name::entry(LAST);
    for (index, (key, bytes)) in objects.iter().enumerate() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut damaged = objects.clone();
        match index % 3 {
            0 => damaged.get_mut(key).expect("it is there")[bytes.len() / 2] ^= 0x10,
            1 => damaged.get_mut(key).expect("it is there").truncate(bytes.len() - 7),
            _ => drop(damaged.remove(key)),
        }
        write(directory.path(), &damaged);
        let said = reader.run("verify", directory.path(), &[]);
        // What no live point needs is not missed, and neither is the end of the log.
        let is_missed = damaged.contains_key(key) || (needed.contains(key) && *key != last);
        assert_eq!(said.status, i32::from(is_missed), "{key}: {said:?}");
        assert!(!is_missed || said.err.contains(key.as_str()), "{key}: {}", said.err);
        if let Ok(found) = restore(&reader, directory.path(), "db@thursday", &[]) {
            assert_eq!(found, PLAIN[2].1, "{key}");
        }
    }
}

/// All but the pruned point, and the runs that only it or an unfinished send had.
fn needed(objects: &Objects) -> BTreeSet<Key> {
    let mut needed: BTreeSet<Key> = objects.keys().cloned().collect();
    needed.retain(|key| !key.as_str().starts_with(name::POINTS) && !key.as_str().starts_with(name::RUNS));
    for (key, bytes) in objects.iter().filter(|(key, _)| key.as_str().starts_with(name::POINTS)) {
        let point = Point::decode(name::hash_in(key).expect("a hash"), bytes).expect("a point");
        if !["db@monday", "trial@one"]
            .contains(&format!("{}@{}", point.source.name, point.source.snapshot).as_str())
        {
            needed.insert(key.clone());
            needed.extend(point.runs.iter().map(RunRef::key));
        }
    }
    needed
}

/// The log is damaged before the slots: a point whose id is known is restored with the keys that are there.
#[test]
fn the_reader_restores_without_a_log() {
    let reader = Reader::new();
    let secrets = Secrets::new();
    let mut objects = read(&golden("encrypted"));
    objects.remove(&name::entry(2));
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), &objects);
    let points = objects.keys().filter(|key| key.as_str().starts_with(name::POINTS));
    let mut restored = 0;
    for id in points.map(|key| name::hash_in(key).expect("a hash").to_string()) {
        for secret in [secrets.passphrase(), secrets.key_file()] {
            let said = reader.run("restore", directory.path(), &[&[&*id, "--to", "-"], &*secret].concat());
            assert!(said.status > 0 && said.err.contains("log/0000000000000002: it is missing"), "{said:?}");
            let Some(found) = (!said.out.is_empty()).then(|| content::describe(&said.out)) else { continue };
            assert!(ENCRYPTED.iter().any(|(_, expected)| *expected == found) || found.starts_with("a 2. a"));
            restored += 1;
        }
    }
    assert_eq!(restored, 2 * (ENCRYPTED.len() + 1), "those of ENCRYPTED, and the pruned one");
}

/// What is whole and does not belong there: a stranger's entry, an older log, a swapped object.
#[test]
fn the_reader_finds_what_was_replaced() {
    let reader = Reader::new();
    let objects = read(&golden("plain"));
    let last = &objects[&name::entry(LAST)];
    let head = format!("{LAST}:{}", Digest::of(last));
    let verify = |objects: &Objects, arguments: &[&str]| {
        let directory = tempfile::tempdir().expect("a directory");
        write(directory.path(), objects);
        let said = reader.run("verify", directory.path(), arguments);
        (said.status, said.err)
    };
    assert_eq!(verify(&objects, &["--head", &head]), (0, String::new()));

    let mut strange = objects.clone();
    let entry = Signed::decode(last).expect("an entry").entry;
    let action = Action::Prune { points: vec![] };
    let next = Entry { number: LAST + 1, previous: Digest::of(last), action, ..entry };
    strange.insert(name::entry(LAST + 1), next.encode(&signer(3)).expect("small"));
    let (status, err) = verify(&strange, &[]);
    assert!(status == 1 && err.contains(&format!("{}: it is signed by", name::entry(LAST + 1))), "{err}");

    let mut older = objects.clone();
    older.remove(&name::entry(LAST));
    let (status, err) = verify(&older, &["--head", &head]);
    assert!(status == 1 && err.contains("the log went back"), "{err}");

    let packs: Vec<_> = objects.keys().filter(|key| key.as_str().starts_with(name::PACKS)).cloned().collect();
    let mut swapped = objects.clone();
    swapped.insert(packs[0].clone(), objects[&packs[1]].clone());
    let (status, err) = verify(&swapped, &[]);
    assert!(status == 1 && err.contains(packs[0].as_str()), "{err}");
}

/// The reader's own tests: vaults that somebody wrote who means harm.
#[test]
fn the_reader_withstands_hostile_vaults() {
    let reader = Reader::new();
    let documents = reader.program.parent().expect("a directory");
    // Without -B it would leave compiled files in the sources.
    let arguments = ["-B", "-m", "unittest", "discover", "-s", "tests"];
    let run =
        Command::new(&reader.python).args(arguments).current_dir(documents).output().expect("Python runs");
    let said = String::from_utf8_lossy(&run.stderr);
    // Python says OK too when it found none.
    assert!(run.status.success() && !said.contains("Ran 0 tests"), "{said}");
}

/// The content of a point, as `content::describe` shows it; or what was wrong.
fn restore(reader: &Reader, vault: &Path, point: &str, secrets: &[&str]) -> Result<String, Said> {
    let said = reader.run("restore", vault, &[&[point, "--to", "-"], secrets].concat());
    match said.status {
        0 => Ok(content::describe(&said.out)),
        _ => Err(said),
    }
}

/// The passphrase and the key file of the encrypted vault, as files.
struct Secrets(tempfile::TempDir, [String; 2]);

impl Secrets {
    fn new() -> Self {
        let mut secrets = Self(tempfile::tempdir().expect("a directory"), Default::default());
        let digits: String = KEY_FILE.iter().map(|byte| format!("{byte:02x}")).collect();
        secrets.1 = [
            secrets.write("passphrase", &format!("{PASSPHRASE}\n")),
            secrets.write("vault.key", &format!("firn key file 1\n{digits}\n")),
        ];
        secrets
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, text).expect("written");
        path.to_str().expect("text").to_owned()
    }

    fn passphrase(&self) -> Vec<&str> {
        vec!["--passphrase-file", &self.1[0]]
    }

    fn key_file(&self) -> Vec<&str> {
        vec!["--key-file", &self.1[1]]
    }
}

/// The number of the last entry of the vault `plain`.
const LAST: u64 = 25;

// What the vaults hold, as `golden/content.rs` shows it: where it says `a 2c a`, there is one block of `a`, two of
// `c`, and one of `a` again.

const PLAIN: &[(&str, &str)] = &[
    (
        "db@tuesday",
        "a 2c a 2. a 5. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a \
         2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. \
         a 2. a 82. 3b 2c 6b 107. 2n",
    ),
    (
        "db@wednesday",
        "a 2c a 2. a 5. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a \
         2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. \
         a 2. a 82. 3b c 2d 5b 107. 2n",
    ),
    (
        "db@thursday",
        "2. c a 2. a 5. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a \
         2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. \
         a 2. a 82. 3b c 2d 5b 107. 2n 70. 10e",
    ),
    (
        "db@friday",
        "2. c a 2. a 5. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a \
         2. 4f",
    ),
    ("log", "40l 24."),
    ("scratch@again", "5. 4s 7."),
    ("empty@monday", "8."),
    ("trial", "2. 10t 4."),
];
const ENCRYPTED: &[(&str, &str)] = &[
    (
        "db@tuesday",
        "a 2c a 2. a 5. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a \
         2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. \
         a 2. a 82. 3b 2c 6b 107. 2n",
    ),
    (
        "db",
        ". 2c a 2. a 5. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a \
         2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 2. a 40d 60. 3b 2c 6b 107. \
         2n",
    ),
    ("log@tuesday", "40l 24."),
];

const FORWARDED: &[(&str, &str)] = &[("db@tuesday", "4a 56b 4c"), ("db@wednesday", "2d 2a 56b 4c")];

/// What the reader lists of all.
const LISTED: &str = "\
POINT         VOLUME@SNAPSHOT           TAKEN (UTC)                     BYTES  ENCRYPTED  KEPT
2c3846e10c66  db@tuesday                2023-11-14 22:13:21           1310720         no  held: audit
046b0b9cbfab  db@wednesday              2023-11-14 22:13:23           1310720         no  until 2043-11-09 22:13:20
2f1070e9edcf  log@wednesday             2023-11-14 22:13:23            262144         no  -
2ab26c38c7f2  empty@monday              2023-11-14 22:13:25             32768         no  -
2b528dd116d9  scratch@again             2023-11-14 22:13:33             65536         no  -
58a028ac8149  db@thursday               2023-11-14 22:13:35           1638400         no  -
c7f86d0be771  db@friday                 2023-11-14 22:13:36            262144         no  -
f0dcfc3ef98d  trial@two                 2023-11-14 22:13:40             65536         no  -
log entry 25 counts for nothing: a point must stay
log: 25 entries, the last one has hash b81442a4e1a45e6b82a615c7556a82cf11430e11d765bdcee479ee67412b2080
POINT         VOLUME@SNAPSHOT           TAKEN (UTC)                     BYTES  ENCRYPTED  KEPT
45d48c7bc978  db@tuesday                2023-11-14 22:13:27           1310720        yes  held: audit, until 2030-11-12 22:13:20
d84fd8b17f24  log@tuesday               2023-11-14 22:13:27            262144        yes  until 2024-11-13 22:13:20
1f8b0bde5c17  db@wednesday              2023-11-14 22:13:28           1310720        yes  -
a53c42d6f796  payroll@january           2023-11-14 22:13:33             65536        yes  -
log: 16 entries, the last one has hash d39e80e175308a0c4839f55e5aa6ce82e1be03604d2779db22f5666801d6b465
POINT         VOLUME@SNAPSHOT           TAKEN (UTC)                     BYTES  ENCRYPTED  KEPT
edf52f4cec4a  db@tuesday                2023-11-14 22:13:21            262144         no  -
d11154c235ed  db@wednesday              2023-11-14 22:13:24            262144         no  -
log entry 7 counts for nothing: there is no such point, or the other can't come
log: 7 entries, the last one has hash d492e0a1f5bad733aa4eb2dff6e424532b8480c8f77d94d5050f49c3f873a597
";
