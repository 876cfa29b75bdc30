//! Everything that a user can see of a pool, as text: names, tags, holds, and each block of each volume and snapshot.

use std::fmt::Write as _;

use firn_engine::catalog::Tags;
use firn_engine::checksum::checksum;
use firn_engine::pool::Pool;
use firn_engine::snapshot::Snapshot;
use firn_engine::units::BLOCK_LEN;
use firn_engine::volume::Volume;

use crate::driver::word;

pub(crate) fn describe(pool: &Pool) -> String {
    // Counts of mapped bytes are as of the last checkpoint.
    pool.checkpoint().expect("a checkpoint");
    let mut text = String::new();
    for group in pool.groups().expect("groups") {
        let info = group.info().expect("a group");
        let volumes = info.volumes.join(" ");
        line(
            &mut text,
            &format!("group {} created {}{}: {volumes}", info.name, info.created_ms, list(&info.tags)),
        );
    }
    for volume in pool.volumes().expect("volumes") {
        describe_volume(&volume, &mut text);
        for snapshot in volume.snapshots().expect("snapshots") {
            describe_snapshot(&snapshot, &mut text);
        }
    }
    text
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn list(tags: &Tags) -> String {
    tags.iter().map(|(key, value)| format!(" {key}={value}")).collect()
}

fn describe_volume(volume: &Volume, text: &mut String) {
    let info = volume.info().expect("a volume");
    write!(text, "volume {} created {} maps {}", info.name, info.created_ms, info.mapped_bytes)
        .expect("memory");
    if let Some(group) = info.group {
        write!(text, " in {group}").expect("memory");
    }
    if let Some(origin) = info.origin {
        write!(text, " on {}@{}", origin.volume.unwrap_or_default(), origin.snapshot).expect("memory");
    }
    line(text, &list(&info.tags));
    let mut bytes = vec![0; usize::try_from(info.bytes).expect("small")];
    volume.read_at(0, &mut bytes).expect("readable");
    line(text, &format!("    {}", content(&bytes)));
}

fn describe_snapshot(snapshot: &Snapshot, text: &mut String) {
    let info = snapshot.info().expect("a snapshot");
    let key = info.key;
    write!(text, "  {} at {}.{} created {}", info.name, key.layer, key.epoch, info.created_ms)
        .expect("memory");
    write!(text, " maps {} clones {}", info.referenced_bytes, info.clones).expect("memory");
    if let Some(group) = info.group {
        write!(text, " with {group}").expect("memory");
    }
    info.holds.iter().for_each(|hold| write!(text, " held:{hold}").expect("memory"));
    line(text, &list(&info.tags));
    let mut bytes = vec![0; usize::try_from(info.bytes).expect("small")];
    snapshot.read_at(0, &mut bytes).expect("readable");
    line(text, &format!("    {}", content(&bytes)));
}

/// The checksum of the content, and each block: the letter that it was filled with, or a dot for zeros, repeated as
/// often as it is said; eight in brackets when its sectors differ.
fn content(bytes: &[u8]) -> String {
    let blocks: Vec<String> =
        (0..).zip(bytes.chunks(BLOCK_LEN)).map(|(number, block)| look(number, block)).collect();
    let runs = blocks.chunk_by(|one, other| one == other).map(|run| format!(" {}{}", run.len(), run[0]));
    format!("{:08x}{}", checksum(bytes), runs.collect::<String>())
}

fn look(number: u64, block: &[u8]) -> String {
    let sectors: String = block.chunks(512).map(|sector| letter(number, sector)).collect();
    let first = &sectors[..1];
    if sectors == first.repeat(8) { first.to_owned() } else { format!("[{sectors}]") }
}

fn letter(number: u64, sector: &[u8]) -> char {
    let letter = sector[0];
    if sector.iter().all(|&byte| byte == 0) {
        '.'
    } else if letter.is_ascii_lowercase() && sector == word(letter, number).repeat(64) {
        char::from(letter)
    } else {
        '?'
    }
}
