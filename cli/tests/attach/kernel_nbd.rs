//! What is promised of kernel NBD alone. The emulated machine (`emulated`) runs these tests.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::stage::{Stage, pause};
use crate::{MIB, emulated, is_zombie};

fn stage(volumes: &[(&str, u64)]) -> Option<Stage> {
    if emulated::is_inside() { Stage::new(volumes) } else { None }
}

/// The devices that the kernel has for somebody, by their identifiers.
fn identifiers() -> Vec<String> {
    let blocks = std::fs::read_dir("/sys/block").expect("read").flatten();
    let texts = blocks.filter_map(|block| std::fs::read_to_string(block.path().join("backend")).ok());
    let mut found: Vec<String> = texts.map(|text| text.trim_end().to_owned()).collect();
    found.sort();
    found
}

fn kill_helper(stage: &Stage, name: &str) {
    let listed = stage.list();
    let view = listed.iter().find(|view| view["name"] == name).expect("attached");
    let pid = view["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a pid");
    let pid = Pid::from_raw(pid).expect("a pid");
    kill_process(pid, Signal::KILL).expect("killed");
    while test_kill_process(pid).is_ok() && !is_zombie(pid) {
        pause(5);
    }
}

fn read(device: &Path) -> io::Result<()> {
    File::open(device)?.read_exact_at(&mut [0; 4096], 32 * MIB)
}

/// The device is the kernel's: it goes on without its helper for as long as the connection lives, and nothing that was
/// written is lost by taking it away.
#[test]
#[ignore = "it runs in the emulated machine"]
fn a_device_outlives_its_helper() {
    let Some(stage) = stage(&[("pg", 256 * MIB)]) else { return };
    let target = stage.directory("mount");
    let target_text = target.to_str().expect("UTF-8");
    stage.done(&["attach", "pg", "--mkfs", "ext4", "--mount", target_text]);
    std::fs::write(target.join("before"), "before").expect("written");
    kill_helper(&stage, "pg");
    stage.wait_for_state("dead");
    stage.fails(&["attach", "pg"], 4, "whose helper died, mounted at");
    std::fs::write(target.join("after"), "after").expect("written");
    File::open(target.join("after")).expect("opened").sync_all().expect("synced: the connection lives");
    std::fs::write(target.join("unsynced"), "unsynced").expect("written");
    stage.done(&["detach", "pg"]);
    assert!(stage.list().is_empty() && identifiers().is_empty());

    stage.done(&["attach", "pg", "--mount", target_text]);
    for name in ["before", "after", "unsynced"] {
        assert_eq!(std::fs::read_to_string(target.join(name)).expect("read"), name);
    }
    stage.done(&["detach", "pg"]);
    // One that nobody uses is put away for the next.
    stage.done(&["attach", "pg"]);
    kill_helper(&stage, "pg");
    stage.done(&["attach", "pg"]);
    assert_eq!((stage.list().len(), identifiers().len()), (1, 1));
    stage.done(&["detach", "pg"]);
}

/// With its server gone too it waits, and is taken away only by force, which ends the wait with an error.
#[test]
#[ignore = "it runs in the emulated machine"]
fn a_device_without_helper_and_server_goes_by_force() {
    let Some(mut stage) = stage(&[("pg", 64 * MIB)]) else { return };
    let device = PathBuf::from(stage.done(&["attach", "pg"]));
    kill_helper(&stage, "pg");
    // Somebody has it, so that looking at it does not put it away.
    let held = File::open(&device).expect("opened");
    stage.kill();
    let waiting = std::thread::spawn(move || read(&device));
    pause(500);
    assert!(!waiting.is_finished(), "it waits");
    drop(held);
    stage.done(&["detach", "--force", "pg"]);
    waiting.join().expect("it ends").expect_err("an error");
    assert!(stage.list().is_empty() && identifiers().is_empty());
}

/// A detach that waits for a connection which nobody makes is ended by one with force, and loses what it says.
#[test]
#[ignore = "it runs in the emulated machine"]
fn a_detach_that_waits_for_ever_is_ended_by_force() {
    let Some(mut stage) = stage(&[("pg", 256 * MIB)]) else { return };
    let target = stage.directory("mount");
    let target_text = target.to_str().expect("UTF-8");
    stage.done(&["attach", "pg", "--mkfs", "ext4", "--mount", target_text]);
    std::fs::write(target.join("kept"), "kept").expect("written");
    File::open(target.join("kept")).expect("opened").sync_all().expect("synced");
    std::fs::write(target.join("lost"), "lost").expect("written");
    kill_helper(&stage, "pg");
    stage.kill();
    stage.start();
    let mut waiting = stage.command(&["detach", "pg"]).stderr(Stdio::piped()).spawn().expect("it runs");
    pause(1500);
    assert!(waiting.try_wait().expect("looked at").is_none(), "it waits");
    stage.done(&["detach", "--force", "pg"]);
    let waited = waiting.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&waited.stderr);
    assert!(said.contains("the helper of pg died"), "{said}");
    assert!(!waited.status.success(), "it was not all written: {said}");
    assert!(stage.list().is_empty());
    stage.done(&["attach", "pg", "--mount", target_text]);
    assert_eq!(std::fs::read_to_string(target.join("kept")).expect("read"), "kept");
    assert!(!target.join("lost").exists(), "nobody wrote it");
    stage.done(&["detach", "pg"]);
    assert!(identifiers().is_empty());
}

/// The helper may die when the kernel has the device and nothing is written down yet.
#[test]
#[ignore = "it runs in the emulated machine"]
fn a_device_that_nobody_wrote_down_is_put_away() {
    let Some(stage) = stage(&[("pg", 64 * MIB)]) else { return };
    for command in [&["attach", "--list"][..], &["attach", "pg"]] {
        stage.done(&["attach", "pg"]);
        kill_helper(&stage, "pg");
        let entries = std::fs::read_dir(stage.path("run/attach")).expect("read").flatten();
        let entry = entries.map(|entry| entry.path()).find(|path| path.is_dir()).expect("an entry");
        std::fs::remove_file(entry.join("record.json")).expect("removed");
        stage.done(command);
        assert!(identifiers().len() == command.len() - 1 - usize::from(command[1] == "--list"));
        let _ = stage.run(&["detach", "pg"]);
    }
    assert!(stage.list().is_empty() && identifiers().is_empty());
}

/// A number is nobody's for good: what is gone has neither the mounts nor the device of the one that has it now.
#[test]
#[ignore = "it runs in the emulated machine"]
fn the_number_of_a_device_that_is_gone_is_the_next_ones() {
    let Some(mut stage) = stage(&[("pg", 64 * MIB), ("next", 256 * MIB)]) else { return };
    let target = stage.directory("mount");
    let target_text = target.to_str().expect("UTF-8");
    let device = stage.done(&["attach", "pg"]);
    stage.tell("delete pg");
    stage.kill();
    stage.start();
    stage.wait_for_state("gone");
    let attached = stage.done(&["attach", "next", "--mkfs", "ext4", "--mount", target_text]);
    assert_eq!(attached, device, "the kernel gave it to the next");
    let listed = stage.list();
    let of = |name: &str| listed.iter().find(|view| view["name"] == name).expect("listed");
    assert_eq!(of("pg")["mounts"], serde_json::json!([]));
    assert_eq!(of("next")["mounts"], serde_json::json!([target_text]));
    assert_eq!(stage.done(&["detach", &device]), format!("next detached from {device}"));
    stage.done(&["attach", "next", "--mount", target_text]);
    stage.done(&["detach", "pg"]);
    assert_eq!(stage.list()[0]["mounts"], serde_json::json!([target_text]), "it has another's number only");
    std::fs::write(target.join("still"), "there").expect("written");
    stage.done(&["detach", "next"]);
    assert!(identifiers().is_empty());
}

/// The module has one device here: the kernel makes more. What is attached at once is not mixed up.
#[test]
#[ignore = "it runs in the emulated machine"]
fn several_are_attached_at_once_and_more_than_the_module_has() {
    let names = ["a", "b", "c"];
    let Some(stage) = stage(&names.map(|name| (name, 64 * MIB))) else { return };
    let start = |name: &&str| stage.command(&["attach", name]).spawn().expect("the program runs");
    let twice = names.iter().chain(&names).map(start).collect::<Vec<_>>();
    let ended = twice.into_iter().map(|mut child| child.wait().expect("it ends"));
    assert_eq!(ended.filter(std::process::ExitStatus::success).count(), names.len(), "each once");
    let mut devices: Vec<String> =
        stage.list().iter().map(|view| view["device"].as_str().expect("a path").to_owned()).collect();
    devices.sort();
    devices.dedup();
    assert_eq!((devices.len(), identifiers().len()), (names.len(), names.len()));
    for view in stage.list() {
        let device = view["device"].as_str().expect("a path");
        let file = File::options().write(true).open(device).expect("opened");
        file.write_all_at(view["name"].as_str().expect("a name").as_bytes(), 0).expect("written");
    }
    names.iter().for_each(|name| drop(stage.done(&["detach", name])));
    for name in names {
        let device = stage.done(&["attach", name]);
        let mut found = [0];
        File::open(device).expect("opened").read_exact_at(&mut found, 0).expect("read");
        assert_eq!(&found, name.as_bytes());
        stage.done(&["detach", name]);
    }
}

/// One that was taken away by force stays in the kernel while somebody has a file of it open. It has the entry's name,
/// and must not be taken for the next.
#[test]
#[ignore = "it runs in the emulated machine"]
fn a_device_that_lingers_is_not_the_next_one() {
    let Some(stage) = stage(&[("pg", 256 * MIB)]) else { return };
    let target = stage.directory("mount");
    let target_text = target.to_str().expect("UTF-8");
    let first = stage.done(&["attach", "pg", "--mkfs", "ext4", "--mount", target_text]);
    std::fs::write(target.join("held"), "held").expect("written");
    let held = File::open(target.join("held")).expect("opened");
    held.sync_all().expect("synced");
    stage.done(&["detach", "--force", "pg"]);
    assert!(stage.list().is_empty());
    let second = stage.done(&["attach", "pg", "--mount", target_text]);
    assert!(first != second && identifiers().len() == 2, "{first} lingers");
    assert_eq!(stage.list()[0]["mounts"], serde_json::json!([target_text]));
    std::fs::write(target.join("unsynced"), "unsynced").expect("written");
    assert_eq!(stage.done(&["detach", "pg"]), format!("pg detached from {second}"));
    assert!(!target.join("held").exists(), "it is unmounted");
    drop(held);
    while !identifiers().is_empty() {
        pause(20);
    }
    stage.done(&["attach", "pg", "--mount", target_text]);
    assert_eq!(std::fs::read_to_string(target.join("unsynced")).expect("read"), "unsynced");
    stage.done(&["detach", "pg"]);
}

/// The kernel's longest request is of 512 bytes less than 4 GiB, which ends within a block.
#[test]
#[ignore = "it runs in the emulated machine"]
fn a_wide_discard_reads_as_zeros() {
    let Some(stage) = stage(&[("pg", 10 << 30)]) else { return };
    let device = stage.done(&["attach", "pg"]);
    let file = File::options().read(true).write(true).open(&device).expect("opened");
    let places = [0, (4 << 30) - MIB, (8 << 30) - MIB, (10 << 30) - 2 * MIB];
    let length = 2 << 20;
    for place in places {
        file.write_all_at(&vec![7; length], place).expect("written");
    }
    file.sync_all().expect("synced");
    let status = Command::new("blkdiscard").args(["--force", &device]).status();
    assert!(status.expect("blkdiscard runs").success());
    for place in places {
        let mut found = vec![1; length];
        file.read_exact_at(&mut found, place).expect("read");
        let left = found.iter().position(|byte| *byte != 0);
        assert_eq!(left, None, "at {place}");
    }
    drop(file);
    stage.done(&["detach", "pg"]);
}

/// A tool that starts firn.
fn by_tool(stage: &Stage, tool: &str, arguments: &[&str]) -> Command {
    let prepared = stage.command(&[]);
    let mut command = Command::new(tool);
    command.args(arguments).current_dir(stage.path(""));
    command.envs(prepared.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

/// Each says what is wrong and what to do, and leaves nothing in the kernel.
#[test]
#[ignore = "it runs in the emulated machine"]
fn a_kernel_that_refuses_is_heard() {
    let Some(stage) = stage(&[("pg", 64 * MIB)]) else { return };
    let firn = env!("CARGO_BIN_EXE_firn");
    let check = |tool: &str, arguments: &[&str], expected: &str| {
        let arguments = [arguments, &[firn, "attach", "pg"]].concat();
        let output = by_tool(&stage, tool, &arguments).output().expect("the tool runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{arguments:?}: {said}");
        assert!(stage.list().is_empty());
        assert!(identifiers().is_empty(), "{:?}", identifiers());
    };
    check("setpriv", &["--bounding-set=-sys_admin"], "next: run it with the capability CAP_SYS_ADMIN");
    check("setpriv", &["--reuid=1", "--clear-groups"], "next: run it with sudo");
    let unshare = |script: &str, expected: &str| {
        check("unshare", &["--mount", "sh", "-e", "-c", &format!("{script}; exec \"$@\""), "sh"], expected);
    };
    unshare("mount -t tmpfs none /dev", "the file there is not it");
    unshare("mount -t tmpfs none /dev; mknod /dev/nbd0 b 1 0", "the file there is not it");
    unshare("mount -o remount,bind,ro /sys", "next: in a container, attach with `--by fuse`");
}

/// Nobody asked for a way, so one that works is found: here as in a container whose `/sys` is read-only.
#[test]
#[ignore = "it runs in the emulated machine"]
fn fuse_is_taken_where_the_kernel_refuses() {
    let Some(stage) = stage(&[("pg", 64 * MIB)]) else { return };
    let script =
        r#"mount -o remount,bind,ro /sys; "$0" attach pg; "$0" attach --list --json; "$0" detach pg"#;
    let firn = env!("CARGO_BIN_EXE_firn");
    let mut command = by_tool(&stage, "unshare", &["--mount", "sh", "-e", "-c", script, firn]);
    let output = command.output().expect("unshare runs");
    let [said, failed] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success() && said.contains("fuse-loop"), "{said}{failed}");
    assert!(stage.list().is_empty() && identifiers().is_empty());
}
