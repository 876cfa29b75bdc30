//! What the emulated machine's first process runs.
//!
//! Much of the time is spent waiting for the kernel, so two lanes of tests run side by side. Each test is a process.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::thread;

use firn_engine::sys::{Clock, SystemClock};

use super::disk::MODULES as FOLDER;
use super::{INSIDE, VERDICT, is_inside};

/// What is loaded, where it is not built in.
pub(super) const MODULES: [&str; 5] =
    ["lib/libcrc32c", "fs/xfs/xfs", "drivers/block/nbd", "fs/fuse/fuse", "drivers/block/loop"];
const NBD: &str = "nbd";

/// Side by side with the others, since it waits longest.
const KILLS: &[&str] = &["a_writer_that_never_flushes_loses_nothing_when_the_server_is_killed"];
const OTHERS: &[&str] = &[
    "a_device_in_use_stays_and_who_only_looks_at_it_is_waited_for",
    "a_restart_is_only_a_wait",
    "a_volume_that_was_deleted_is_gone_and_its_name_is_not_enough",
    "an_ext4_lives_on_a_volume",
    "an_xfs_lives_on_a_volume",
    "force_does_not_wait_for_a_server_that_is_away",
    "what_can_not_be_attached_is_said",
    "zeros_and_discards_read_as_zeros",
];
/// They count the kernel's devices, so nothing else runs.
const ALONE: &[&str] = &[
    "kernel_nbd::a_detach_that_waits_for_ever_is_ended_by_force",
    "kernel_nbd::a_device_outlives_its_helper",
    "kernel_nbd::a_device_that_lingers_is_not_the_next_one",
    "kernel_nbd::a_device_that_nobody_wrote_down_is_put_away",
    "kernel_nbd::a_device_without_helper_and_server_goes_by_force",
    "kernel_nbd::a_kernel_that_refuses_is_heard",
    "kernel_nbd::a_wide_discard_reads_as_zeros",
    "kernel_nbd::several_are_attached_at_once_and_more_than_the_module_has",
    "kernel_nbd::the_number_of_a_device_that_is_gone_is_the_next_ones",
];
/// With a module that makes no devices until it is asked.
const BARE: &[&str] = &["a_volume_becomes_a_device_and_keeps_what_is_written"];
/// With FUSE, which is taken where kernel NBD is not enough.
const BESIDE_FUSE: &[&str] = &[
    "kernel_nbd::fuse_is_taken_where_the_kernel_refuses",
    "requests_fail_when_the_server_is_away_for_too_long",
];

/// It never returns: the machine ends.
#[test]
#[ignore = "it is what runs in the emulated machine"]
fn inside() {
    if !is_inside() {
        return;
    }
    let mut failed = Vec::new();
    failed.extend(without_a_module());
    load("libcrc32c", c"");
    load("xfs", c"");
    load(NBD, c"nbds_max=1");
    thread::scope(|scope| {
        let kills = scope.spawn(|| run(KILLS));
        failed.extend(run(OTHERS));
        failed.extend(kills.join().expect("it ends"));
    });
    failed.extend(run(ALONE));
    rustix::system::delete_module(c"nbd", 0).expect("the kernel lets its NBD module go");
    load(NBD, c"nbds_max=0");
    failed.extend(run(BARE));
    load("fuse", c"");
    load("loop", c"");
    failed.extend(run(BESIDE_FUSE));
    println!("{}", if failed.is_empty() { VERDICT.to_owned() } else { format!("failed: {failed:?}") });
}

/// One that is not there is built in.
fn load(module: &str, parameters: &std::ffi::CStr) {
    let path = Path::new(FOLDER).join(module).with_extension("ko");
    let Ok(file) = File::open(&path) else { return };
    rustix::system::finit_module(&file, parameters, 0)
        .unwrap_or_else(|error| panic!("the kernel does not take {}: {error}", path.display()));
}

/// Runs them, and gives those that failed.
fn run(tests: &[&'static str]) -> Vec<&'static str> {
    let program = std::env::current_exe().expect("this program");
    let mut failed = Vec::new();
    let only = std::env::var(INSIDE).unwrap_or_default();
    for test in tests.iter().filter(|test| test.contains(&only)) {
        let began = SystemClock.monotonic();
        let output = Command::new(&program)
            .args(["--exact", test, "--include-ignored", "--nocapture"])
            .output()
            .expect("it runs");
        let status = output.status;
        println!("{test}: {status}, {:.1?}", SystemClock.monotonic() - began);
        if !status.success() || !String::from_utf8_lossy(&output.stdout).contains("1 passed") {
            let [stdout, stderr] =
                [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
            println!("{stdout}\n{stderr}");
            failed.push(*test);
        }
    }
    failed
}

/// A kernel without an NBD client, and without FUSE: what is said must be of use.
fn without_a_module() -> Option<&'static str> {
    let says = |arguments: &[&str], expected: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firn"));
        command.args(arguments).env("FIRN_RUNTIME", "/tmp/run").env("FIRN_NBD", "/tmp/nbd.sock");
        let output = command.output().expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr);
        println!("without a module: {said}");
        !output.status.success() && said.contains(expected)
    };
    let is_said = says(&["attach", "pg", "--by", "nbd"], "load the module with `modprobe nbd`")
        && says(&["attach", "pg"], "load the kernel modules fuse and loop, or nbd");
    (!is_said).then_some("a kernel without a module")
}
