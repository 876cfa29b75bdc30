//! Programs that people use: nbdinfo, nbdcopy, qemu-img, qemu-io, fio.

use std::fs;

use firn_engine::catalog::Tags;
use firn_engine::sys::DeviceKind;

use firn_engine::export::nbd::Limits;

use crate::place::{MIB, Place, assert_same, fail, noise, run, text};

#[test]
fn nbdinfo_lists_every_volume_and_snapshot() {
    let place = Place::new();
    let pg = place.volume("pg", 64 * MIB);
    place.volume("other", MIB);
    pg.snapshot("one", Tags::new()).expect("taken");
    let said = run("nbdinfo", &["--list", "--json", &place.uri("")]);
    let listed: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let exports = listed["exports"].as_array().expect("a list");
    let facts: Vec<_> = exports
        .iter()
        .map(|export| {
            let facts = (export["export-name"].as_str(), export["export-size"].as_u64());
            (facts.0.expect("a name"), facts.1.expect("a size"), export["is_read_only"] == true)
        })
        .collect();
    assert_eq!(facts, [("other", MIB, false), ("pg", 64 * MIB, false), ("pg@one", 64 * MIB, true)]);
    for export in exports {
        for feature in ["can_flush", "can_fua", "can_multi_conn", "can_cache", "can_df"] {
            assert_eq!(export[feature], true, "{feature}");
        }
        assert_eq!(export["can_trim"] == true, export["is_read_only"] == false);
        assert_eq!(export["can_fast_zero"] == true, export["is_read_only"] == false);
        let sizes = ["minimum", "preferred", "maximum"].map(|size| &export[format!("block_size_{size}")]);
        assert_eq!(sizes, [512, 4096, 32 << 20]);
        let contexts = export["contexts"].as_array().expect("a list").len();
        assert_eq!(contexts, if export["export-name"] == "other" { 2 } else { 3 });
    }
    // Two volumes: none of them is the default.
    for export in ["nothing", "pg@nothing", ""] {
        let complaint = fail("nbdinfo", &[&place.uri(export)]);
        assert!(complaint.contains("No such file or directory"), "{complaint}");
    }
}

/// Both devices: one wakes for sockets by its ring, the other by a poll.
#[test]
fn nbdcopy_carries_a_file_there_and_back() {
    for device in [DeviceKind::Uring, DeviceKind::Plain] {
        let place = Place::with(Limits::default(), device);
        let volume = place.volume("copy", 48 * MIB);
        let mut content = noise(1, 48 << 20);
        content[5 << 20..21 << 20].fill(0);
        content[40 << 20..(40 << 20) + 12_288].fill(0);
        let [from, back] = ["from", "back"].map(|name| place.disk.path().join(name));
        fs::write(&from, &content).expect("written");
        run("nbdcopy", &["--connections=4", text(&from), &place.uri("copy")]);
        volume.snapshot("copied", Tags::new()).expect("taken");
        volume.write_at(MIB, &noise(2, 1 << 20)).expect("written");
        run("nbdcopy", &["--connections=4", &place.uri("copy@copied"), text(&back)]);
        assert_same(&fs::read(&back).expect("read"), &content, "the snapshot");
        run("nbdcopy", &[&place.uri("copy"), text(&back)]);
        content[1 << 20..2 << 20].copy_from_slice(&noise(2, 1 << 20));
        assert_same(&fs::read(&back).expect("read"), &content, "the volume");
        let mapped = volume.info().expect("known").mapped_bytes;
        assert!(mapped <= 32 * MIB, "the hole was written: {mapped} bytes are mapped");
    }
}

#[test]
fn qemu_img_reads_writes_compares_and_maps() {
    let place = Place::new();
    place.volume("disk", 64 * MIB);
    let uri = place.uri("disk");
    let mut content = noise(3, 64 << 20);
    content[8 << 20..40 << 20].fill(0);
    let raw = place.disk.path().join("raw");
    fs::write(&raw, &content).expect("written");
    let info = run("qemu-img", &["info", "--output=json", &uri]);
    let info: serde_json::Value = serde_json::from_str(&info).expect("JSON");
    assert_eq!(info["virtual-size"], 64 << 20);
    run("qemu-img", &["convert", "-n", "-f", "raw", "-O", "raw", text(&raw), &uri]);
    run("qemu-img", &["compare", "-f", "raw", "-F", "raw", text(&raw), &uri]);
    let map = run("qemu-img", &["map", "--output=json", "-f", "raw", &uri]);
    let map: serde_json::Value = serde_json::from_str(&map).expect("JSON");
    let zeros = map.as_array().expect("a list").iter().filter(|extent| extent["zero"] == true);
    let zeros: Vec<_> = zeros.map(|extent| (extent["start"].as_u64(), extent["length"].as_u64())).collect();
    assert_eq!(zeros, [(Some(8 << 20), Some(32 << 20))]);
    let bench = ["bench", "-c", "2000", "-d", "16", "-s", "4096", "-f", "raw"];
    run("qemu-img", &[&bench[..], &[&uri]].concat());
    run("qemu-img", &[&bench[..], &["-w", "--flush-interval=50", &uri]].concat());
    let qcow2 = place.disk.path().join("qcow2");
    run("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &uri, text(&qcow2)]);
    run("qemu-img", &["compare", "-f", "qcow2", "-F", "raw", text(&qcow2), &uri]);
}

#[test]
fn qemu_io_writes_zeros_discards_and_flushes() {
    let place = Place::new();
    let volume = place.volume("disk", 16 * MIB);
    let commands = [
        "write -P 0xa5 0 4M",
        "write -f -P 0x5a 1M 64k",
        "write -z 2M 1M",
        "write -z -u 3M 512",
        "discard 512k 128k",
        "flush",
        "read -P 0xa5 0 512k",
        "read -P 0 512k 128k",
        "read -P 0x5a 1M 64k",
        "read -P 0 2M 1M",
        "read -P 0 3M 512",
        "read -P 0xa5 3146240 1535",
    ];
    let mut arguments = vec!["-f", "raw"];
    commands.iter().for_each(|command| arguments.extend(["-c", command]));
    let uri = place.uri("disk");
    arguments.push(&uri);
    let said = run("qemu-io", &arguments);
    assert!(!said.contains("failed") && !said.contains("error"), "{said}");
    let mut block = vec![0; 4096];
    volume.read_at(3 * MIB, &mut block).expect("read");
    assert_eq!((block[0], block[511], block[512]), (0, 0, 0xa5));
    volume.snapshot("kept", Tags::new()).expect("taken");
    let complaint = fail("qemu-io", &["-f", "raw", "-c", "write 0 4k", &place.uri("disk@kept")]);
    assert!(complaint.contains("Permission denied"), "{complaint}");
}

#[test]
fn fio_verifies_what_four_connections_wrote() {
    let place = Place::new();
    place.volume("fio", 128 * MIB);
    let uri = format!("--uri={}", place.uri("fio"));
    let place_of = ["--size=32m", "--offset_increment=32m", "--numjobs=4", "--thread"];
    let work = ["--name=v", "--ioengine=nbd", &uri, "--rw=randrw", "--bsrange=512-128k", "--bs_unaligned=0"];
    let verify = [
        "--verify=crc32c",
        "--verify_fatal=1",
        "--do_verify=1",
        "--verify_state_save=0",
        "--iodepth=16",
        "--fsync=64",
    ];
    run("fio", &[&work[..], &place_of, &verify, &["--blockalign=512", "--group_reporting"]].concat());
    let statistics = place.server().statistics();
    let volume = &statistics.volumes[0];
    assert_eq!(volume.name, "fio");
    assert!(volume.reads.requests > 1000 && volume.writes.requests > 1000 && volume.flushes.requests > 4);
    assert_eq!((volume.reads.errors, volume.writes.errors, volume.flushes.errors), (0, 0, 0));
    assert_eq!(volume.writes.latency.iter().sum::<u64>(), volume.writes.requests);
}
