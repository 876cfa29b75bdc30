//! Random operations on a few files, in the manner of `fsx`, against a model of them in memory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use crate::shell::random::Random;

/// Files at most, and what they are called: `a`, `b` and so on.
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const BYTES_MAX: u64 = 1 << 20;
/// Most bytes that one operation is about.
const STEP_BYTES_MAX: u64 = 96 << 10;
/// Ranges that move in the file are multiples of the file system's block.
const BLOCK: u64 = 4096;

/// The files in a folder.
pub(crate) struct Files {
    folder: PathBuf,
    model: Model,
    random: Random,
}

/// What each of them must hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model(BTreeMap<&'static str, Vec<u8>>);

/// A part of a file.
#[derive(Clone, Copy, Debug)]
struct Range {
    start: u64,
    len: u64,
}

impl Files {
    /// The files of a folder that hold what `model` says.
    pub(crate) fn new(folder: PathBuf, model: Model, random: Random) -> Self {
        fs::create_dir_all(&folder).expect("a folder");
        Self { folder, model, random }
    }

    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// Does something.
    pub(crate) fn step(&mut self) {
        let name = NAMES[index(self.random.below(NAMES.len() as u64))];
        let path = self.folder.join(name);
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.expect("opened");
        let content = self.model.0.entry(name).or_default();
        match self.random.below(100) {
            0..40 => write(&file, content, &mut self.random),
            40..60 => read(&file, content, &mut self.random),
            60..66 => truncate(&file, content, &mut self.random),
            66..72 => punch(&file, content, &mut self.random),
            72..78 => zero(&file, content, &mut self.random),
            78..82 => collapse(&file, content, &mut self.random),
            82..86 => insert(&file, content, &mut self.random),
            86..90 => file.sync_all().expect("synced"),
            90..94 => file.sync_data().expect("synced"),
            94..97 => {
                fs::remove_file(&path).expect("removed");
                self.model.0.remove(name);
            }
            _ => {
                let other = NAMES[index(self.random.below(NAMES.len() as u64))];
                fs::rename(&path, self.folder.join(other)).expect("renamed");
                let moved = self.model.0.remove(name).expect("it is there");
                self.model.0.insert(other, moved);
            }
        }
    }

    /// Makes everything durable.
    pub(crate) fn sync(&self) {
        rustix::fs::syncfs(File::open(&self.folder).expect("opened")).expect("synced");
    }
}

impl Model {
    /// Compares a folder with it: which files there are, and every byte of them.
    pub(crate) fn check(&self, folder: &Path) {
        let listed = fs::read_dir(folder).expect("listed").map(|item| item.expect("an item").file_name());
        let mut listed: Vec<String> = listed.map(|name| name.into_string().expect("UTF-8")).collect();
        listed.sort_unstable();
        let expected: Vec<&str> = self.0.keys().copied().collect();
        assert_eq!(listed, expected, "the files in {}", folder.display());
        for (name, expected) in &self.0 {
            let found = fs::read(folder.join(name)).expect("read");
            compare(&found, expected, &format!("{}/{name}", folder.display()));
        }
    }
}

fn write(file: &File, content: &mut Vec<u8>, random: &mut Random) {
    let range = any(random, BYTES_MAX);
    let bytes: Vec<u8> = (0..range.len.div_ceil(8)).flat_map(|_| random.draw().to_le_bytes()).collect();
    let bytes = &bytes[..index(range.len)];
    file.write_all_at(bytes, range.start).expect("written");
    let end = index(range.start + range.len);
    content.resize(content.len().max(end), 0);
    content[index(range.start)..end].copy_from_slice(bytes);
}

fn read(file: &File, content: &[u8], random: &mut Random) {
    let Some(range) = inside(random, content) else { return };
    let mut found = vec![0; index(range.len)];
    file.read_exact_at(&mut found, range.start).expect("read");
    compare(&found, &content[part(range)], &format!("{range:?}"));
}

fn truncate(file: &File, content: &mut Vec<u8>, random: &mut Random) {
    let bytes = random.below(BYTES_MAX);
    file.set_len(bytes).expect("cut");
    content.resize(index(bytes), 0);
}

fn punch(file: &File, content: &mut [u8], random: &mut Random) {
    let Some(range) = inside(random, content) else { return };
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(file, flags, range.start, range.len).expect("punched");
    content[part(range)].fill(0);
}

fn zero(file: &File, content: &mut Vec<u8>, random: &mut Random) {
    let range = any(random, BYTES_MAX);
    fallocate(file, FallocateFlags::ZERO_RANGE, range.start, range.len).expect("zeroed");
    let end = index(range.start + range.len);
    content.resize(content.len().max(end), 0);
    content[part(range)].fill(0);
}

/// Takes whole blocks out of the middle.
fn collapse(file: &File, content: &mut Vec<u8>, random: &mut Random) {
    let blocks = content.len() as u64 / BLOCK;
    if blocks < 3 {
        return;
    }
    let first = random.below(blocks - 2);
    // The end of the file may not be among them.
    let count = 1 + random.below((blocks - 1 - first).min(STEP_BYTES_MAX / BLOCK));
    let range = Range { start: first * BLOCK, len: count * BLOCK };
    if range.start + range.len >= content.len() as u64 {
        return;
    }
    fallocate(file, FallocateFlags::COLLAPSE_RANGE, range.start, range.len).expect("collapsed");
    content.drain(part(range));
}

/// Puts whole blocks of zeros into the middle.
fn insert(file: &File, content: &mut Vec<u8>, random: &mut Random) {
    let blocks = content.len() as u64 / BLOCK;
    let room = (BYTES_MAX.saturating_sub(content.len() as u64) / BLOCK).min(STEP_BYTES_MAX / BLOCK);
    if blocks < 2 || room == 0 {
        return;
    }
    let range = Range { start: random.below(blocks) * BLOCK, len: (1 + random.below(room)) * BLOCK };
    if range.start >= content.len() as u64 {
        return;
    }
    fallocate(file, FallocateFlags::INSERT_RANGE, range.start, range.len).expect("inserted");
    let at = index(range.start);
    content.splice(at..at, std::iter::repeat_n(0, index(range.len)));
}

/// A range that ends at or before `end`.
fn any(random: &mut Random, end: u64) -> Range {
    let len = 1 + random.below(STEP_BYTES_MAX);
    Range { start: random.below(end - len + 1), len }
}

/// A range in the file, unless that is empty.
fn inside(random: &mut Random, content: &[u8]) -> Option<Range> {
    let bytes = content.len() as u64;
    let len = (1 + random.below(STEP_BYTES_MAX)).min(bytes);
    (len > 0).then(|| Range { start: random.below(bytes - len + 1), len })
}

fn part(range: Range) -> std::ops::Range<usize> {
    index(range.start)..index(range.start + range.len)
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("it is small")
}

fn compare(found: &[u8], expected: &[u8], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: its size");
    let differs = found.iter().zip(expected).position(|(found, expected)| found != expected);
    if let Some(at) = differs {
        panic!("{what}: byte {at} is {:#x} and must be {:#x}", found[at], expected[at]);
    }
}
