//! Holds the direction of imports, and a few other agreements that only the whole tree can break.
//!
//! The tables come first; a new module, crate or folder is one entry in them. Sources are read as tokens, so comments,
//! documentation and strings never count. Unit tests inside `src` keep the direction too: a test that needs a higher
//! layer belongs in `tests`.
//!
//! 1. A module of the engine or the replicator imports only lower layers, or its neighbours in one layer without a circle.
//! 2. `unsafe`, and the crates that speak to the operating system, are named only under `engine/src/sys`.
//! 3. Crates depend only downwards: cli, replicator, engine. Nobody depends on a leaf (fuzz, benches).
//! 4. There are six top-level folders, and folders that start with a dot.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The engine's modules, lowest layer first. A module that does not exist yet does no harm.
const ENGINE: Rules = Rules {
    folder: "engine/src/",
    layers: &[
        &["units"],
        &["error"],
        &["checksum"],
        &["device", "sys"],
        &["format"],
        &["map"],
        &["space"],
        &["journal"],
        &["catalog"],
        &["checkpoint"],
        &["core"],
        &["recovery"],
        &["check", "delta"],
        &["sim"],
        &["reactor"],
        &["pool", "volume", "snapshot", "clone", "group", "scrub"],
        &["export"],
    ],
    // The trait and the operating system's implementation of it name each other.
    rooms: &[&["device", "sys"]],
    homes: &[
        Home { word: "unsafe", scope: "", home: "engine/src/sys/" },
        Home { word: "io_uring", scope: "engine/src/", home: "engine/src/sys/" },
        Home { word: "libc", scope: "engine/src/", home: "engine/src/sys/" },
        Home { word: "rustix", scope: "engine/src/", home: "engine/src/sys/" },
    ],
};

/// The replicator's modules, lowest layer first.
const REPLICATOR: Rules = Rules {
    folder: "replicator/src/",
    layers: &[&["error"], &["store"], &["format"], &["policy"], &["vault"]],
    rooms: &[],
    homes: &[Home { word: "aws_sdk_s3", scope: "replicator/src/", home: "replicator/src/store/" }],
};

/// The crates by folder (the package is `firn-FOLDER`, with a dash for a slash), and the packages each may depend on.
const CRATES: &[(&str, &[&str])] = &[
    ("engine", &[]),
    ("replicator", &["engine"]),
    ("cli", &["engine", "replicator"]),
    ("benches", &["engine", "replicator"]),
    ("fuzz", &["engine", "replicator", "fuzz-vault"]),
    ("fuzz/vault", &[]),
];

/// The top-level folders.
const FOLDERS: &[&str] = &["engine", "replicator", "cli", "fuzz", "benches", "docs"];

/// What one crate's modules are held to.
struct Rules {
    /// Where the crate's sources lie.
    folder: &'static str,
    /// Modules by layer, lowest first.
    layers: &'static [&'static [&'static str]],
    /// Modules that count as one and may import each other.
    rooms: &'static [&'static [&'static str]],
    homes: &'static [Home],
}

/// A word of the language, or a crate's name at the start of a path, that has one home.
struct Home {
    word: &'static str,
    /// Files whose path starts so are looked at.
    scope: &'static str,
    /// Files whose path starts so may name it.
    home: &'static str,
}

/// A source file; the path is from the repository's root.
struct Source {
    path: String,
    text: String,
}

/// One import, as `file:line`, between top-level modules of a crate.
struct Import {
    at: String,
    from: String,
    to: String,
}

impl Rules {
    fn layer(&self, module: &str) -> Option<usize> {
        self.layers.iter().position(|layer| layer.contains(&module))
    }

    /// The name of the module's room: the first of those that count as one.
    fn room<'a>(&self, module: &'a str) -> &'a str {
        self.rooms.iter().find(|room| room.contains(&module)).map_or(module, |room| room[0])
    }

    /// Everything in which `sources` break these rules, one line each.
    fn violations(&self, sources: &[Source]) -> Vec<String> {
        let mut found = Vec::new();
        let mut circles = BTreeMap::<&str, BTreeSet<&str>>::new();
        let imports: Vec<Import> = sources.iter().flat_map(|source| imports(self.folder, source)).collect();
        let modules: BTreeSet<String> =
            sources.iter().filter_map(|s| module_path(self.folder, &s.path)?.into_iter().next()).collect();
        for module in modules.iter().filter(|module| self.layer(module).is_none()) {
            found.push(format!(
                "module {module} is not in the table of layers: add it to engine/tests/layers.rs"
            ));
        }
        for Import { at, from, to } in &imports {
            match (self.layer(from), self.layer(to)) {
                (_, None) => found.push(format!(
                    "{at}: {from} imports crate::{to}, which is no module in the table of layers: name the module \
                     where it lives, or add the module"
                )),
                (Some(low), Some(high)) if low < high => {
                    found.push(format!("{at}: {from} imports {to}, a higher layer"));
                }
                (Some(low), Some(high)) if low == high && self.room(from) != self.room(to) => {
                    circles.entry(self.room(from)).or_default().insert(self.room(to));
                }
                _ => {}
            }
        }
        found.extend(circles.keys().filter(|room| reaches(&circles, room)).map(|room| {
            format!("module {room} imports itself by way of its neighbours in one layer: {:?}", circles[room])
        }));
        found.extend(sources.iter().flat_map(|source| self.strays(source)));
        found
    }

    /// Words outside their home.
    fn strays(&self, source: &Source) -> Vec<String> {
        let tokens = tokens(&source.text);
        let homes = self.homes.iter().filter(|rule| source.path.starts_with(rule.scope));
        let homes: Vec<&Home> = homes.filter(|rule| !source.path.starts_with(rule.home)).collect();
        let mut found = Vec::new();
        for (index, token) in tokens.iter().enumerate() {
            let keyword = token.text == "unsafe";
            if let Some(rule) = homes.iter().find(|rule| rule.word == token.text)
                && (keyword || is_path_start(&tokens, index))
            {
                found.push(format!("{}:{}: {} belongs in {}", source.path, token.line, rule.word, rule.home));
            }
        }
        found
    }
}

/// Whether a room can be reached from itself.
fn reaches(edges: &BTreeMap<&str, BTreeSet<&str>>, start: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut next: Vec<&str> = edges.get(start).into_iter().flatten().copied().collect();
    while let Some(room) = next.pop() {
        if seen.insert(room) {
            next.extend(edges.get(room).into_iter().flatten());
        }
    }
    seen.contains(start)
}

/// `engine/src/map/page.rs` to `[map, page]`; nothing for the crate's root and for files outside `folder`.
fn module_path(folder: &str, path: &str) -> Option<Vec<String>> {
    let inner = path.strip_prefix(folder)?.strip_suffix(".rs")?;
    let inner = inner.strip_suffix("/mod").unwrap_or(inner);
    (inner != "lib").then(|| inner.split('/').map(str::to_owned).collect())
}

/// Every path in the file that leads to another top-level module, by `crate::` or by enough `super::`.
fn imports(folder: &str, source: &Source) -> Vec<Import> {
    let Some(mut path) = module_path(folder, &source.path) else { return Vec::new() };
    let tokens = tokens(&source.text);
    let (mut depth, mut inline) = (0_usize, Vec::new());
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" => {
                depth += 1;
                if index >= 2 && tokens[index - 2].text == "mod" {
                    path.push(tokens[index - 1].text.clone());
                    inline.push(depth);
                }
            }
            "}" => {
                if inline.pop_if(|opened| *opened == depth).is_some() {
                    path.pop();
                }
                depth = depth.saturating_sub(1);
            }
            "crate" if is_separator(&tokens, index + 1) => root_names(&tokens, index + 3, 0, &mut found),
            "super" if is_path_start(&tokens, index) => root_names(&tokens, index, path.len(), &mut found),
            _ => {}
        }
    }
    let from = &path[0];
    let import = |token: &Token| Import {
        at: format!("{}:{}", source.path, token.line),
        from: from.clone(),
        to: token.text.clone(),
    };
    found.into_iter().filter(|token| token.text != *from).map(import).collect()
}

/// The names directly below the crate's root in the path or use tree at `index`, which stands `depth` modules deep.
fn root_names<'a>(tokens: &'a [Token], mut index: usize, mut depth: usize, names: &mut Vec<&'a Token>) {
    while matches!(tokens.get(index), Some(token) if token.text == "super" || token.text == "self") {
        if tokens[index].text == "super" {
            depth = depth.saturating_sub(1);
        }
        if !is_separator(tokens, index + 1) {
            // The module itself. The whole crate under another name would hide every import that follows.
            names.extend((depth == 0).then(|| &tokens[index]));
            return;
        }
        index += 3;
    }
    match tokens.get(index) {
        Some(token) if token.text == "{" => {
            let (mut nesting, mut item) = (1, index + 1);
            root_names(tokens, item, depth, names);
            while let Some(token) = tokens.get(item) {
                match token.text.as_str() {
                    "{" => nesting += 1,
                    "}" if nesting == 1 => return,
                    "}" => nesting -= 1,
                    "," if nesting == 1 => root_names(tokens, item + 1, depth, names),
                    _ => {}
                }
                item += 1;
            }
        }
        Some(token) if depth == 0 && token.text != "}" => names.push(token),
        _ => {}
    }
}

/// Whether `::` is at `index`.
fn is_separator(tokens: &[Token], index: usize) -> bool {
    matches!(tokens.get(index..index + 2), Some([first, second]) if first.text == ":" && second.text == ":")
}

/// Whether the word at `index` begins a path of at least two names (`::word::` counts as a beginning).
fn is_path_start(tokens: &[Token], index: usize) -> bool {
    let continued = index >= 3
        && is_separator(tokens, index - 2)
        && tokens[index - 3].text.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    is_separator(tokens, index + 1) && !continued
}

/// A word, or one character of punctuation.
struct Token {
    text: String,
    line: usize,
}

/// The words and punctuation of a Rust source, without comments, literals and lifetimes.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut index, mut line) = (Vec::new(), 0, 1);
    while index < chars.len() {
        let start = index;
        let rest = &chars[start..];
        index += skipped(rest);
        if index == start {
            index += rest.iter().take_while(|c| is_word(**c)).count().max(1);
            tokens.push(Token { text: chars[start..index].iter().collect(), line });
        }
        line += chars[start..index].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Characters at the start of `rest` that are no token: space, a comment, a literal, a lifetime.
fn skipped(rest: &[char]) -> usize {
    match rest {
        [c, ..] if c.is_whitespace() => 1,
        ['/', '/', ..] => rest.iter().take_while(|c| **c != '\n').count(),
        ['/', '*', ..] => block_comment(rest),
        ['"', ..] => quoted(rest, '"'),
        ['b' | 'c', '"', ..] => 1 + quoted(&rest[1..], '"'),
        ['b', '\'', ..] => 1 + quoted(&rest[1..], '\''),
        ['r', '"' | '#', ..] => raw_string(rest, 1),
        ['b' | 'c', 'r', '"' | '#', ..] => raw_string(rest, 2),
        ['\'', '\\', ..] | ['\'', _, '\'', ..] => quoted(rest, '\''),
        ['\'', ..] => 1 + rest[1..].iter().take_while(|c| is_word(**c)).count(),
        _ => 0,
    }
}

/// The length of a comment that may hold others.
fn block_comment(rest: &[char]) -> usize {
    let (mut nesting, mut index) = (0, 0);
    while index < rest.len() {
        match rest[index..] {
            ['/', '*', ..] => (nesting, index) = (nesting + 1, index + 2),
            ['*', '/', ..] => (nesting, index) = (nesting - 1, index + 2),
            _ => index += 1,
        }
        if nesting == 0 {
            break;
        }
    }
    index
}

/// The length of a literal with escapes, quotes included.
fn quoted(rest: &[char], quote: char) -> usize {
    let mut index = 1;
    while index < rest.len() && rest[index] != quote {
        index += if rest[index] == '\\' { 2 } else { 1 };
    }
    (index + 1).min(rest.len())
}

/// The length of a raw string whose prefix has `prefix` letters; of the prefix and `#` alone for a raw identifier.
fn raw_string(rest: &[char], prefix: usize) -> usize {
    let hashes = rest[prefix..].iter().take_while(|c| **c == '#').count();
    let open = prefix + hashes;
    if rest.get(open) != Some(&'"') {
        return open;
    }
    let ends =
        |at: &usize| rest[*at] == '"' && rest[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
    (open + 1..rest.len()).find(ends).map_or(rest.len(), |at| at + 1 + hashes)
}

/// The firn crates, by folder, that a manifest's dependency tables name.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut wanted = false;
    for line in manifest.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        if line.starts_with('[') {
            wanted = line.contains("dependencies");
        }
        if wanted {
            let words = line.split(|c: char| !is_word(c) && c != '-');
            found.extend(words.filter_map(|word| word.strip_prefix("firn-")).map(str::to_owned));
        }
    }
    found
}

/// What the crate in `folder` depends on against the table.
fn wrong_dependencies(folder: &str, manifest: &str) -> Vec<String> {
    let Some((_, allowed)) = CRATES.iter().find(|(name, _)| *name == folder) else {
        return vec![format!("{folder} is not in the table of crates: add it to engine/tests/layers.rs")];
    };
    // The engine names itself for its own tests, with the simulated device switched on.
    let itself = folder.replace('/', "-");
    let wrong = dependencies(manifest)
        .into_iter()
        .filter(|name| *name != itself && !allowed.contains(&name.as_str()));
    wrong.map(|name| format!("{folder} depends on {name}, against the direction of crates")).collect()
}

/// The folders that a workspace's manifest lists as members.
fn members(manifest: &str) -> Vec<String> {
    let list =
        manifest.split_once("members = [").and_then(|(_, rest)| rest.split_once(']')).map(|(list, _)| list);
    list.unwrap_or_default().split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The folders at the top of `paths` that were not agreed on.
fn strange_folders<'a>(paths: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    let folders = paths.into_iter().filter_map(|path| path.split_once('/')).map(|(folder, _)| folder);
    folders.filter(|name| !name.starts_with('.') && !FOLDERS.contains(name)).map(str::to_owned).collect()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the engine lies in the repository").to_owned()
}

/// The Rust sources below `folder`, a path from the repository's root.
fn sources(folder: &str, found: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(repository().join(folder)) else { return };
    for entry in entries {
        let entry = entry.expect("a folder that was opened can be listed");
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            if entry.file_name() != "target" {
                sources(&path, found);
            }
        } else if path.ends_with(".rs") {
            let text = fs::read_to_string(entry.path()).unwrap_or_else(|error| panic!("{path}: {error}"));
            found.push(Source { path, text });
        }
    }
}

/// What git tracks; in a copy without git, the entries at the top that are not build output.
fn tracked() -> Vec<String> {
    let git =
        Command::new("git").args(["-c", "safe.directory=*", "ls-files"]).current_dir(repository()).output();
    if let Ok(output) = git
        && output.status.success()
    {
        return String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    }
    let entries = fs::read_dir(repository()).expect("the repository can be listed").flatten();
    let folders = entries.filter(|entry| entry.path().is_dir() && entry.file_name() != "target");
    folders.map(|folder| format!("{}/", folder.file_name().to_string_lossy())).collect()
}

#[test]
fn the_tree_keeps_its_layers() {
    let mut found = Vec::new();
    CRATES.iter().for_each(|(folder, _)| sources(folder, &mut found));
    assert!(found.iter().any(|source| source.path == "engine/src/lib.rs"), "the walk missed the engine");
    assert!(
        found.iter().any(|source| source.path == "replicator/src/lib.rs"),
        "the walk missed the replicator"
    );
    let violations = [ENGINE.violations(&found), REPLICATOR.violations(&found)].concat();
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn crates_depend_only_downwards() {
    let read = |path: &str| fs::read_to_string(repository().join(path).join("Cargo.toml"));
    let mut folders: BTreeSet<String> =
        members(&read("").expect("the workspace has a manifest")).into_iter().collect();
    assert!(folders.contains("engine"), "the list of members was not understood: {folders:?}");
    // A fuzz crate usually stands outside the workspace.
    folders
        .extend(CRATES.iter().map(|(folder, _)| String::from(*folder)).filter(|folder| read(folder).is_ok()));
    let wrong =
        folders.iter().flat_map(|folder| wrong_dependencies(folder, &read(folder).unwrap_or_default()));
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn the_top_level_folders_are_the_agreed_ones() {
    let tracked = tracked();
    assert_eq!(strange_folders(tracked.iter().map(String::as_str)), BTreeSet::new());
}

/// Rules of an invented crate, so that a change of the engine's table leaves the tests of the checker alone.
const INVENTED: Rules = Rules {
    folder: "engine/src/",
    layers: &[&["ground"], &["door", "lock"], &["left", "right", "middle"], &["roof"]],
    rooms: &[&["door", "lock"]],
    homes: &[
        Home { word: "unsafe", scope: "", home: "engine/src/lock/" },
        Home { word: "io_uring", scope: "engine/src/", home: "engine/src/lock/" },
    ],
};

/// Runs the checker over `files` (path, text); each violation must contain its entry in `expected`, in order.
fn check(files: &[(&str, &str)], expected: &[&str]) {
    let source =
        |(path, text): &(&str, &str)| Source { path: format!("engine/{path}"), text: String::from(*text) };
    let sources: Vec<Source> = files.iter().map(source).collect();
    let found = INVENTED.violations(&sources);
    let matches = found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| f.contains(e));
    assert!(matches, "in {files:?}\nexpected {expected:#?}\nfound {found:#?}");
}

#[test]
fn what_is_allowed_is_not_reported() {
    check(&[], &[]);
    check(&[("src/roof.rs", "use crate::{ground::{self, Stone}, left::Wall, door::*};")], &[]);
    check(&[("src/door.rs", "use crate::lock::Key;"), ("src/lock/mod.rs", "use crate::door::Hinge;")], &[]);
    check(&[("src/left.rs", "use crate::right::Wall;"), ("src/right.rs", "use crate::middle::Wall;")], &[]);
    check(&[("src/lib.rs", "pub mod ground; pub use crate::roof::Tile;")], &[]);
    check(&[("src/ground/sand.rs", "use crate::ground::Stone; use super::roof; pub(crate) fn f() {}")], &[]);
    check(&[("src/ground.rs", "mod tests { use super::*; use super::roof; }")], &[]);
    check(&[("src/lock/mod.rs", "unsafe fn f() { io_uring::opcode() }")], &[]);
    check(&[("tests/all.rs", "use firn_engine::roof; use io_uring::IoUring;")], &[]);
    check(
        &[("src/ground.rs", "#![deny(unsafe_code)] fn io_uring() { let options = crate_name::roof; }")],
        &[],
    );
}

#[test]
fn comments_and_literals_do_not_count() {
    let texts = [
        "// use crate::roof::Tile; unsafe",
        "/// See [crate::roof::Tile].\n/* unsafe /* nested */ unsafe */",
        r##"const A: &str = "unsafe \" crate::roof"; const B: &[u8] = b"unsafe";"##,
        r###"const A: &str = r#"unsafe " crate::roof"#; const B: &[u8] = br"unsafe";"###,
        r"const A: (char, u8, char) = ('\'', b'\'', '\u{41}'); fn f<'a>(a: &'a str, b: char) -> bool { b == '}' }",
    ];
    for text in texts {
        check(&[("src/ground.rs", text)], &[]);
        // What follows is still seen, on its own line.
        let line = text.lines().count() + 1;
        let after = format!("{text}\nuse crate::roof::Tile;");
        check(&[("src/ground.rs", &after)], &[&format!("engine/src/ground.rs:{line}: ground imports roof")]);
    }
}

#[test]
fn an_import_of_a_higher_layer_is_found() {
    let one = &["ground imports roof, a higher layer"];
    check(&[("src/ground.rs", "use crate::roof::Tile;")], one);
    check(&[("src/ground/mod.rs", "pub(super) use crate::roof;")], one);
    check(&[("src/ground/sand.rs", "fn f() -> u8 { crate::roof::tile() }")], one);
    check(&[("src/ground.rs", "use super::roof::Tile;")], one);
    check(&[("src/ground/sand.rs", "use super::{super::roof::Tile, Stone};")], one);
    check(&[("src/ground.rs", "mod a { mod b { fn f() {} } use super::super::roof::Tile; }")], one);
    check(&[("src/ground.rs", "mod tests { fn f() {} }\nuse super::roof::Tile;")], one);
    check(&[("src/ground.rs", "type T = <crate::roof::Tile as Into<u8>>::Error;")], one);
    check(
        &[("src/ground.rs", "use crate::{self as root, ground::{Stone, Sand}, roof};")],
        &["imports crate::self", one[0]],
    );
    check(
        &[("src/ground.rs", "use crate::{\n    left::{Wall, Door},\n    roof::Tile,\n};")],
        &["engine/src/ground.rs:2: ground imports left", "engine/src/ground.rs:3: ground imports roof"],
    );
}

#[test]
fn a_circle_in_one_layer_is_found() {
    let files = [
        ("src/left.rs", "use crate::right::Wall;"),
        ("src/right.rs", "use crate::middle::Wall;"),
        ("src/middle.rs", "use crate::left::Wall;"),
    ];
    check(
        &files,
        &["module left imports itself", "module middle imports itself", "module right imports itself"],
    );
}

#[test]
fn what_the_table_does_not_know_is_found() {
    check(&[("src/cellar/mod.rs", "")], &["module cellar is not in the table of layers"]);
    check(&[("src/roof.rs", "use crate::Tile;")], &["roof imports crate::Tile, which is no module"]);
    check(&[("src/roof.rs", "use crate::*;")], &["roof imports crate::*, which is no module"]);
}

#[test]
fn a_word_outside_its_home_is_found() {
    check(&[("src/roof.rs", "\nfn f() { unsafe { g() } }")], &["engine/src/roof.rs:2: unsafe belongs in"]);
    check(&[("tests/all.rs", "unsafe impl Send for A {}")], &["engine/tests/all.rs:1: unsafe belongs in"]);
    check(&[("src/roof.rs", "use io_uring::IoUring;")], &["io_uring belongs in engine/src/lock/"]);
    check(&[("src/roof.rs", "fn f() { ::io_uring::opcode() }")], &["io_uring belongs in engine/src/lock/"]);
}

#[test]
fn a_dependency_against_the_direction_is_found() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("engine", "[dev-dependencies]\nfirn-engine = { path = \".\" }\n", &[]),
        ("engine", "[package]\nname = \"firn-engine\"\n[features]\nfirn-cli = []\n", &[]),
        (
            "engine",
            "[dependencies]\nfirn-replicator.workspace = true # why\n",
            &["engine depends on replicator"],
        ),
        ("engine", "[dev-dependencies]\nx = { package = \"firn-cli\" }\n", &["engine depends on cli"]),
        ("replicator", "[target.'cfg(unix)'.dependencies.firn-cli]\n", &["replicator depends on cli"]),
        ("cli", "[dependencies]\nfirn-engine = \"1\"\nfirn-replicator = \"1\"\n# firn-benches\n", &[]),
        ("cli", "[build-dependencies]\nfirn-benches = \"1\"\n", &["cli depends on benches"]),
        ("cellar", "", &["cellar is not in the table of crates"]),
    ];
    for (folder, manifest, expected) in cases {
        let found = wrong_dependencies(folder, manifest);
        let matches =
            found.len() == expected.len() && found.iter().zip(*expected).all(|(f, e)| f.contains(e));
        assert!(matches, "{folder} with {manifest:?}: {found:?}");
    }
    assert_eq!(
        members("[workspace]\nmembers = [\n  \"engine\",\n  \"cli\"]\nx = [\"no\"]"),
        ["engine", "cli"]
    );
}

#[test]
fn a_folder_beyond_the_agreed_ones_is_found() {
    let paths = ["Makefile", "engine/src/lib.rs", ".ci/run", "docs/adr/1.md", "scripts/run", "src/lib.rs"];
    assert_eq!(strange_folders(paths), BTreeSet::from(["scripts".into(), "src".into()]));
}
