//! Golden files on disk: sparse images as text, and the metadata store's own files and its dump.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use firn_engine::map::store::{FAMILIES, Family, MapStore, StoreOptions};
use firn_engine::units::{BLOCK_BYTES, BLOCK_LEN};

/// The files of format version 1.
pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1").join(name)
}

/// An image as text: its blocks, then a line for each that is not zero: its number, then the words of 8 bytes in the
/// order in which they lie, in hexadecimal, repeated ones as `COUNT*WORD`; the rest of the block is zero.
pub(crate) fn write_image(path: &Path, image: &[u8]) {
    let mut text = format!("blocks {}\n", image.len() / BLOCK_LEN);
    for (number, block) in
        image.chunks(BLOCK_LEN).enumerate().filter(|(_, block)| block.iter().any(|&byte| byte != 0))
    {
        let end = block.chunks(8).rposition(|word| word != [0; 8]).map_or(0, |at| at + 1);
        let words: Vec<&[u8]> = block.chunks(8).take(end).collect();
        write!(text, "{number}:").expect("memory");
        for run in words.chunk_by(|one, other| one == other) {
            let count = if run.len() == 1 { String::new() } else { format!("{}*", run.len()) };
            write!(text, " {count}{}", hex(run[0])).expect("memory");
        }
        text.push('\n');
    }
    fs::write(path, text).expect("written");
}

/// Reads what `write_image` wrote.
pub(crate) fn read_image(path: &Path) -> Vec<u8> {
    let text = fs::read_to_string(path).expect("a golden image");
    let mut lines = text.lines();
    let blocks = lines.next().and_then(|line| line.strip_prefix("blocks ")).expect("a size");
    let mut image = vec![0; blocks.parse::<usize>().expect("a number") * BLOCK_LEN];
    for line in lines {
        let (number, words) = line.split_once(':').expect("a block");
        let mut at = number.parse::<usize>().expect("a number") * BLOCK_LEN;
        for token in words.split_whitespace() {
            let (count, word) = token.split_once('*').unwrap_or(("1", token));
            for _ in 0..count.parse::<usize>().expect("a count") {
                image[at..at + 8].copy_from_slice(&unhex(word));
                at += 8;
            }
        }
    }
    image
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).expect("ascii"));
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect()
}

/// Copies the files of a metadata store that opening it needs: not its lock, its log and what it writes anew.
pub(crate) fn copy_store(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("listed") {
        let name = entry.expect("listed").file_name().into_string().expect("a plain name");
        let needed = name.ends_with(".sst")
            || name.starts_with("MANIFEST-")
            || name == "CURRENT"
            || name == "IDENTITY";
        if needed {
            fs::copy(from.join(&name), to.join(&name)).expect("copied");
        }
    }
}

/// A small store that writes nothing by itself.
pub(crate) fn store_options() -> StoreOptions {
    StoreOptions { cache_bytes: 1 << 20, write_buffer_bytes: 256 << 10, environment: None }
}

/// Every key and value of every family.
pub(crate) fn entries(store: &MapStore) -> Vec<(Family, Vec<u8>, Vec<u8>)> {
    let view = store.view();
    let mut found = Vec::new();
    for family in FAMILIES {
        let mut scan = view.scan(family, None);
        scan.seek(&[]);
        while let Some((key, value)) = scan.item().expect("readable") {
            found.push((family, key.to_vec(), value.to_vec()));
            scan.advance();
        }
    }
    found
}

/// The store as text, a line for each key: family, key in hexadecimal, value as JSON or in hexadecimal.
pub(crate) fn dump(entries: &[(Family, Vec<u8>, Vec<u8>)]) -> String {
    let line = |(family, key, value): &(Family, Vec<u8>, Vec<u8>)| {
        let value = match value.first() {
            Some(b'{') if *family == Family::Catalog => String::from_utf8_lossy(value).into_owned(),
            _ => hex(value),
        };
        format!("{} {} {value}\n", format!("{family:?}").to_lowercase(), hex(key))
    };
    entries.iter().map(line).collect()
}

/// Reads what `dump` made.
pub(crate) fn undump(text: &str) -> Vec<(Family, Vec<u8>, Vec<u8>)> {
    let line = |line: &str| {
        let mut parts = line.splitn(3, ' ');
        let mut part = || parts.next().expect("three parts");
        let (name, key, value) = (part(), unhex(part()), part());
        let family = FAMILIES
            .into_iter()
            .find(|family| format!("{family:?}").to_lowercase() == name)
            .expect("a family");
        (family, key, if value.starts_with('{') { value.as_bytes().to_vec() } else { unhex(value) })
    };
    text.lines().map(line).collect()
}

/// Where a block of an image begins.
pub(crate) fn at(block: u64) -> usize {
    usize::try_from(block * BLOCK_BYTES).expect("a small image")
}
