//! Attached volumes on this machine's kernel: made, mounted, listed, taken away, and what becomes of them when either
//! side dies.

mod emulated;
mod kernel_nbd;
mod stage;
#[path = "../shell/takedown.rs"]
mod takedown;
mod writer;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use stage::{Stage, pause};
use writer::Writers;

const MIB: u64 = 1 << 20;

fn size(device: &Path) -> u64 {
    use std::io::Seek;
    File::open(device).expect("opened").seek(std::io::SeekFrom::End(0)).expect("its end")
}

#[test]
fn a_volume_becomes_a_device_and_keeps_what_is_written() {
    let Some(stage) = Stage::new(&[("pg", 64 * MIB)]) else { return };
    let device = PathBuf::from(stage.done(&["attach", "pg"]));
    assert_eq!(size(&device), 64 * MIB);
    let content: Vec<u8> = (0..3 * MIB).map(|at| u8::try_from(at / 4096 % 251).expect("small")).collect();
    let file = File::options().write(true).open(&device).expect("opened");
    file.write_all_at(&content, 5 * MIB).expect("written");
    drop(file);
    let view = &stage.list()[0];
    assert_eq!(view["name"], "pg");
    assert_eq!(view["device"], device.to_str().expect("UTF-8"));
    assert_eq!((&view["state"], &view["bytes"]), (&"connected".into(), &(64 * MIB).into()));
    assert_eq!(view["transport"], if emulated::is_inside() { "kernel-nbd" } else { "fuse-loop" });
    stage.fails(&["attach", "pg"], 4, &format!("pg is attached already, as {}", device.display()));
    // Nothing was synced: detaching has to.
    let told = stage.done(&["detach", device.to_str().expect("UTF-8")]);
    assert_eq!(told, format!("pg detached from {}", device.display()));
    assert!(stage.list().is_empty());
    stage.fails(&["detach", "pg"], 3, "pg is not attached");
    let device = PathBuf::from(stage.done(&["attach", "pg"]));
    let mut read = vec![0; content.len()];
    File::open(&device).expect("opened").read_exact_at(&mut read, 5 * MIB).expect("read");
    assert!(read == content);
    stage.done(&["detach", "pg"]);
}

/// The kernel makes write-zeroes of a hole that is punched, so zeros must be there afterwards (rule 1 of
/// `transport::file`). Its NBD client sends a trim, of which the protocol promises nothing; firn reads zeros.
#[test]
fn zeros_and_discards_read_as_zeros() {
    let Some(stage) = Stage::new(&[("pg", 64 * MIB)]) else { return };
    let device = stage.done(&["attach", "pg"]);
    let file = File::options().read(true).write(true).open(&device).expect("opened");
    file.write_all_at(&vec![7; 8 << 20], 0).expect("written");
    file.sync_all().expect("synced");
    for arguments in [&["--zeroout", "--offset", "1M"][..], &["--offset", "4M"]] {
        let mut command = std::process::Command::new("blkdiscard");
        let status = command.args(arguments).args(["--length", "1M", "--force", &device]).status();
        assert!(status.expect("blkdiscard runs").success());
    }
    let mut read = vec![0; 8 << 20];
    file.read_exact_at(&mut read, 0).expect("read");
    let expected = |mib: usize| if mib == 1 || mib == 4 { 0 } else { 7 };
    assert!(
        read.chunks(1 << 20).enumerate().all(|(mib, part)| part.iter().all(|byte| *byte == expected(mib)))
    );
    drop(file);
    stage.done(&["detach", "pg"]);
}

fn a_file_system_lives(kind: &str) {
    let Some(mut stage) = Stage::new(&[("pg", 512 * MIB)]) else { return };
    let (target, other) = (stage.directory("mount"), stage.directory("other"));
    let (target_text, other_text) = (target.to_str().expect("UTF-8"), other.to_str().expect("UTF-8"));
    stage.fails(
        &["attach", "pg", "--mount", target_text],
        3,
        "pg has no file system\nnext: make one on the way",
    );
    assert!(stage.list().is_empty(), "what failed leaves nothing");
    stage.done(&["attach", "pg", "--mkfs", kind, "--mount", target_text]);
    std::fs::write(target.join("before"), "before").expect("written");
    // A sync of the file, and the snapshot has it.
    File::open(target.join("before")).expect("opened").sync_all().expect("synced");
    stage.tell("snapshot pg monday");
    std::fs::write(target.join("after"), "after").expect("written");

    // The snapshot beside its volume: the same file system twice, one of them read-only and never recovered.
    stage.done(&["attach", "pg@monday", "--mount", other_text]);
    stage.tell("clone pg monday test");
    stage.fails(&["detach", "nothing"], 3, "nothing is not attached");
    let refused = std::fs::write(other.join("x"), "x").expect_err("read-only");
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    stage.done(&["detach", other_text]);
    stage.done(&["attach", "test", "--mount", other_text]);
    assert_eq!(std::fs::read_to_string(other.join("before")).expect("read"), "before");
    assert!(!other.join("after").exists(), "it came after the snapshot");
    assert_eq!(stage.list().len(), 2);
    stage.done(&["detach", "test"]);

    let held = File::open(target.join("after")).expect("opened");
    let pid = std::process::id();
    stage.fails(&["detach", "pg"], 4, "is busy, used by ");
    stage.fails(&["detach", "pg"], 4, &format!("({pid})"));
    drop(held);
    stage.done(&["detach", target_text]);
    assert!(!target.join("after").exists());
    stage.fails(&["attach", "pg", "--mkfs", "ext4"], 4, &format!("pg has {kind} on it already"));
    stage.done(&["attach", "pg", "--mount", target_text]);
    assert_eq!(std::fs::read_to_string(target.join("after")).expect("read"), "after");
    stage.done(&["detach", "pg"]);
    stage.stop();
}

#[test]
fn an_ext4_lives_on_a_volume() {
    a_file_system_lives("ext4");
}

#[test]
fn an_xfs_lives_on_a_volume() {
    a_file_system_lives("xfs");
}

#[test]
fn a_device_in_use_stays_and_who_only_looks_at_it_is_waited_for() {
    let Some(mut stage) = Stage::new(&[("pg", 16 * MIB)]) else { return };
    let device = stage.done(&["attach", "pg"]);
    let held = File::open(device).expect("opened");
    stage.fails(&["detach", "pg"], 4, "is in use, used by ");
    let mut detaching = stage.command(&["detach", "pg"]).spawn().expect("the program runs");
    pause(300);
    drop(held);
    assert!(detaching.wait().expect("it ends").success());
    assert!(stage.list().is_empty());
    stage.stop();
}

#[test]
fn what_can_not_be_attached_is_said() {
    let Some(mut stage) = Stage::new(&[("pg", 64 * MIB)]) else { return };
    stage.fails(&["attach", "nothing"], 3, "there is no export \"nothing\"");
    stage.fails(&["attach", "pg@nothing"], 3, "there is no export \"pg@nothing\"");
    stage.fails(&["attach", "pg", "--mount", "/proc/version"], 2, "/proc/version is no directory");
    stage.fails(&["attach", "pg", "--nbd", "http://x"], 2, "its scheme is none of nbd");
    let several = ["attach", "pg", "--by", "nbd", "--connections", "2"];
    stage.fails(&several, 2, "the kernel's NBD client is not used with several connections");
    stage.kill();
    stage.fails(&["attach", "pg"], 6, "next: is the server (`firn serve`) running there?");
    assert!(stage.list().is_empty());
}

/// Twenty times the server dies with writes under way that nobody flushed. The device only waits, and every write that
/// was answered is there (I8 of the design).
#[test]
fn a_writer_that_never_flushes_loses_nothing_when_the_server_is_killed() {
    const KILLS: u64 = 20;
    // An emulated machine is slow, and the kernel's NBD client has one connection.
    let (writes, connections) = if emulated::is_inside() { (40, "1") } else { (200, "2") };
    let Some(mut stage) = Stage::new(&[("pg", 64 * MIB)]) else { return };
    let device = PathBuf::from(stage.done(&["attach", "pg", "--connections", connections]));
    let writers = Writers::start(&device);
    for kill in 0..KILLS {
        let goal = writers.written() + writes + writes / 4 * kill;
        while writers.written() < goal {
            pause(1);
        }
        stage.kill();
        if kill.is_multiple_of(5) {
            stage.wait_for_state("waiting");
        }
        stage.start();
    }
    let goal = writers.written() + writes;
    while writers.written() < goal {
        pause(1);
    }
    let written = writers.stop();
    written.check(&device);
    stage.wait_for_state("connected");
    let reconnects = stage.list()[0]["reconnects"].as_u64().expect("a number");
    assert!(reconnects >= KILLS, "{reconnects} reconnects");
    stage.done(&["detach", "pg"]);
    stage.stop();
    // Not from any memory of the device's, but from the pool.
    stage.start();
    let device = PathBuf::from(stage.done(&["attach", "pg"]));
    written.check(&device);
    stage.done(&["detach", "pg"]);
}

/// A server that is stopped as a service is, and started again, is only slow too.
#[test]
fn a_restart_is_only_a_wait() {
    let Some(mut stage) = Stage::new(&[("pg", 64 * MIB)]) else { return };
    let device = PathBuf::from(stage.done(&["attach", "pg"]));
    let writers = Writers::start(&device);
    for _ in 0..if emulated::is_inside() { 2 } else { 5 } {
        let goal = writers.written() + 100;
        while writers.written() < goal {
            pause(1);
        }
        stage.stop();
        stage.start();
    }
    writers.stop().check(&device);
    stage.done(&["detach", "pg"]);
}

fn read(device: &str) -> std::io::Result<()> {
    let file = rustix::fs::open(device, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())?;
    // Somewhere that is in no cache.
    File::from(file).read_exact_at(&mut [0; 4096], 32 * MIB)
}

#[test]
fn a_volume_that_was_deleted_is_gone_and_its_name_is_not_enough() {
    let Some(mut stage) = Stage::new(&[("pg", 64 * MIB)]) else { return };
    let device = stage.done(&["attach", "pg"]);
    stage.kill();
    stage.start();
    stage.wait_for_state("connected");
    stage.tell("delete pg");
    stage.tell(&format!("create pg {}", 64 * MIB));
    stage.kill();
    stage.start();
    stage.wait_for_state("gone");
    read(&device).expect_err("an error, and no wait");
    let reason = stage.list()[0]["reason"].as_str().expect("a reason").to_owned();
    assert!(reason.contains("is not what it was"), "{reason}");
    stage.done(&["detach", "--force", "pg"]);
    assert!(stage.list().is_empty());
}

#[test]
fn requests_fail_when_the_server_is_away_for_too_long() {
    let Some(mut stage) = Stage::new(&[("pg", 64 * MIB)]) else { return };
    let device = stage.done(&["attach", "pg", "--reconnect-timeout", "200ms"]);
    stage.kill();
    stage.wait_for_state("failing");
    read(&device).expect_err("an error");
    stage.start();
    stage.wait_for_state("connected");
    read(&device).expect("read");
    stage.done(&["detach", "pg"]);
}

/// The helper is the device: with it gone there are errors, and what it left is put away.
#[test]
fn what_a_killed_helper_leaves_is_seen_and_put_away() {
    let Some(stage) = Stage::new(&[("pg", 256 * MIB)]) else { return };
    let target = stage.directory("mount");
    let target_text = target.to_str().expect("UTF-8");
    let kill_helper = || {
        let pid = stage.list()[0]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a pid");
        let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
        while rustix::process::test_kill_process(pid).is_ok() && !is_zombie(pid) {
            pause(5);
        }
    };
    stage.done(&["attach", "pg", "--mkfs", "ext4", "--mount", target_text]);
    kill_helper();
    stage.wait_for_state("dead");
    stage.fails(&["attach", "pg"], 4, "whose helper died, mounted at");
    stage.done(&["detach", "pg"]);
    assert!(stage.list().is_empty());
    assert!(std::fs::read_dir(&target).expect("read").next().is_none(), "nothing is mounted");

    stage.done(&["attach", "pg"]);
    kill_helper();
    let device = stage.done(&["attach", "pg", "--mount", target_text]);
    assert_eq!(stage.list().len(), 1, "what nobody used was put away for {device}");
    stage.done(&["detach", "pg"]);
}

/// Nobody may wait for it here, since its parent has ended. Its first thread may be dead while others still end, and
/// have its files open: the entry's lock too.
fn is_zombie(pid: rustix::process::Pid) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()));
    if threads.is_ok_and(|threads| threads.count() > 1) {
        return false;
    }
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

/// With the server away a detach would wait for it; by force it does not, and who was stuck in a request goes on.
#[test]
fn force_does_not_wait_for_a_server_that_is_away() {
    let Some(mut stage) = Stage::new(&[("pg", 512 * MIB)]) else { return };
    let target = stage.directory("mount");
    stage.done(&["attach", "pg", "--mkfs", "xfs", "--mount", target.to_str().expect("UTF-8")]);
    let file = File::create(target.join("lost")).expect("created");
    stage.kill();
    let mut sync = std::process::Command::new("sh");
    sync.args(["-c", "echo more && sync /proc/self/fd/1"]).stdout(file).stderr(std::process::Stdio::null());
    let mut stuck = sync.spawn().expect("sh runs");
    // It has the file, not this process.
    drop(sync);
    stage.wait_for_state("waiting");
    assert!(stuck.try_wait().expect("looked at").is_none(), "the sync waits for the server");
    stage.done(&["detach", "--force", "pg"]);
    assert!(!stuck.wait().expect("it ends").success(), "the sync is told");
    assert!(stage.list().is_empty());
    stage.start();
    stage.done(&["attach", "pg", "--mount", target.to_str().expect("UTF-8")]);
    stage.done(&["detach", "pg"]);
}
