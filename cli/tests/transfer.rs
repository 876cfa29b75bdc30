//! Import and export: byte for byte, holes as holes, whole or not at all, and what a killed import leaves.

#[macro_use]
mod shell;

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Stdio;

use shell::{Shell, noise};

both_ways! {
    what_goes_in_comes_out("128M")
    an_import_over_a_volume_makes_it_what_the_file_is("128M")
    a_delta_names_what_differs("64M")
    a_failed_export_leaves_no_file("64M")
    a_reader_that_goes_away_is_an_error_of_the_export("64M")
}

const MIB: usize = 1 << 20;

/// A file with holes, odd ends and zeros that are data: (offset, content), and its size.
fn sparse_file(shell: &Shell, name: &str) -> Vec<u8> {
    let bytes = 40 * MIB + 1234;
    let file = File::create(shell.path(name)).expect("a file");
    file.set_len(bytes as u64).expect("its size");
    let mut content = vec![0; bytes];
    for (seed, offset, length) in
        [(1, 0, 4096), (2, 5 * MIB + 100, 3000), (3, 17 * MIB, 9 * MIB), (4, 40 * MIB, 1234)]
    {
        let noise = noise(seed, length);
        file.write_all_at(&noise, offset as u64).expect("written");
        content[offset..offset + length].copy_from_slice(&noise);
    }
    file.write_all_at(&vec![0; MIB], 30 * MIB as u64).expect("zeros");
    content
}

fn what_goes_in_comes_out(shell: &Shell) {
    let content = sparse_file(shell, "in");
    let imported = shell.json(&["import", "in", "v"]);
    assert_eq!(imported["bytes"], content.len());
    let mapped = shell.json(&["volume", "show", "v"])["mapped_bytes"].as_u64().expect("a number");
    assert_eq!(mapped, 4096 + 4096 + 9 * (1 << 20) + 4096, "zeros and holes take no room");

    let mut padded = content;
    padded.resize(padded.len().next_multiple_of(4096), 0);
    shell.done(&["export", "v", "out"]);
    assert!(shell.read("out") == padded, "to a file");
    let on_disk = shell.path("out").metadata().expect("metadata").blocks() * 512;
    assert!(on_disk < 12 * (1 << 20), "holes stay holes: {on_disk}");
    let ran = shell.run(&["export", "v", "-"]);
    assert!(ran.stdout == padded, "to stdout");
    assert_eq!(ran.stderr, "v exported to -: 40M, of which 9M is data\n");
}

fn an_import_over_a_volume_makes_it_what_the_file_is(shell: &Shell) {
    shell.write("noise", &noise(9, 48 * MIB));
    shell.done(&["import", "noise", "v"]);
    shell.done(&["snapshot", "create", "v@noise"]);
    let mut content = sparse_file(shell, "sparse");
    shell.done(&["import", "sparse", "v", "--overwrite"]);
    let again = shell.json(&["import", "sparse", "v", "--overwrite"]);
    assert_eq!(again["written_bytes"], 0, "what is there already is not written again");
    content.resize(48 * MIB, 0);
    shell.done(&["export", "v", "out"]);
    assert!(shell.read("out") == content);
    shell.done(&["export", "v@noise", "out", "--overwrite"]);
    assert!(shell.read("out") == noise(9, 48 * MIB), "the snapshot is what it was");
}

fn a_delta_names_what_differs(shell: &Shell) {
    let mut content = noise(1, 8 * MIB);
    shell.write("file", &content);
    shell.done(&["import", "file", "v"]);
    shell.done(&["snapshot", "create", "v@a"]);
    let blocks = [0, 7, 8, 63, 64, 1000, 2047];
    for block in blocks {
        content[block * 4096] ^= 1;
    }
    shell.write("file", &content);
    shell.done(&["import", "file", "v", "--overwrite"]);
    let lines = shell.done(&["delta", "v@a", "v", "--extents", "--json"]);
    let mut found = Vec::new();
    for line in lines.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let Some(offset) = line["offset"].as_u64() else { continue };
        let length = line["length"].as_u64().expect("a length");
        found.extend(
            (offset / 4096..(offset + length) / 4096).map(|block| usize::try_from(block).expect("small")),
        );
    }
    assert_eq!(found, blocks);
}

fn a_failed_export_leaves_no_file(shell: &Shell) {
    shell.write("file", &noise(1, MIB));
    shell.done(&["import", "file", "v"]);
    let ran = shell.run(&["export", "v", "nowhere/out"]);
    assert_eq!(ran.status, Some(3), "{}", ran.stderr);
    shell.fails(&["export", "v", "."], 2, "firn: export: . is a directory\nnext: name a file in it\n");
    assert!(!shell.exists("out.partial"));
    let ran = shell.run(&["import", "/dev/null", "w"]);
    assert_eq!(
        (ran.status, ran.stderr.as_str()),
        (Some(2), "firn: import: /dev/null is neither a file nor a block device\n")
    );
}

fn a_reader_that_goes_away_is_an_error_of_the_export(shell: &Shell) {
    shell.write("file", &noise(1, 4 * MIB));
    shell.done(&["import", "file", "v"]);
    let mut export = shell.command(&["export", "v", "-"]);
    let mut child = export.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(6));
    let status = shell.json(&["pool", "status"]);
    assert_eq!(status["recovery"]["clean"], true, "a pool that the command opened was closed all the same");
}

/// What is acknowledged survives the death of the process (I8), and the import can be gone on with.
#[test]
fn a_killed_import_is_recovered_and_finished() {
    let shell = Shell::with_pool("512M");
    let small = noise(5, MIB);
    shell.write("small", &small);
    shell.done(&["import", "small", "settled"]);
    let content = noise(6, 192 * MIB);
    shell.write("big", &content);
    let mut import = shell.start(&["import", "big", "v"]);
    // What it has read of the file it has written to the pool, but for the last chunk.
    let read = || -> Option<u64> {
        let io = std::fs::read_to_string(format!("/proc/{}/io", import.id())).ok()?;
        io.lines().find_map(|line| line.strip_prefix("rchar: "))?.parse().ok()
    };
    while read().is_some_and(|bytes| bytes < 64 << 20) {
        std::thread::yield_now();
    }
    import.kill().expect("it was running");
    assert!(!import.wait().expect("it ended").success(), "it was killed before it was done");

    let status = shell.json(&["pool", "status"]);
    assert_eq!(status["recovery"]["clean"], false);
    assert_eq!(shell.json(&["volume", "show", "v"])["tags"]["firn:import"], "unfinished");
    shell.fails(
        &["import", "big", "v"],
        4,
        "firn: import: an import into volume \"v\" was not finished\n\
         next: go on with it: --overwrite writes what is missing\n",
    );
    let finished = shell.json(&["import", "big", "v", "--overwrite"]);
    let written = finished["written_bytes"].as_u64().expect("a number");
    assert!(written <= 140 << 20, "what the first import had written is there: {written} were missing");
    shell.done(&["export", "v", "out"]);
    assert!(shell.read("out") == content);
    shell.done(&["export", "settled", "out", "--overwrite"]);
    assert!(shell.read("out") == small);
    assert_eq!(shell.json(&["volume", "show", "v"])["tags"], serde_json::json!({}));
}
