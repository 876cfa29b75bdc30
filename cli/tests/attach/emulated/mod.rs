//! The same tests on a kernel that has an NBD client: Debian's, in a machine that qemu emulates.
//!
//! The machine's disk has this very test program and firn, at the same paths as here. Its first process loads the
//! kernel's module and runs [`inside`], which runs tests of `main` one after the other.

mod disk;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use firn_engine::sys::{Clock, SystemClock};

use crate::stage::pause;

/// The environment variable that is set in the machine.
pub(crate) const INSIDE: &str = "FIRN_TEST_EMULATED";
const VERDICT: &str = "firn: all is well";
/// The machine is slow: each start of a program takes seconds, and much more beside other work.
const LIMIT: Duration = Duration::from_secs(500);
/// What the machine runs: the others of `main` that the kernel's client can do take minutes more.
const TESTS: &[&str] =
    &["an_ext4_lives_on_a_volume", "a_writer_that_never_flushes_loses_nothing_when_the_server_is_killed"];

/// Whether this is the emulated machine.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Where `make machine` unpacked qemu and a kernel.
fn machine() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("machine")
}

/// A kernel and its NBD module.
struct Kernel {
    image: PathBuf,
    module: PathBuf,
}

/// Debian's kernel for clouds, which has what the machine needs built in.
fn kernel() -> Option<Kernel> {
    let folder = machine().join("boot");
    let names = std::fs::read_dir(&folder).ok()?.flatten().map(|item| item.file_name());
    let release = names.filter_map(|name| Some(name.to_str()?.strip_prefix("vmlinuz-")?.to_owned())).max()?;
    let modules = machine().join("lib/modules").join(&release);
    let image = folder.join(format!("vmlinuz-{release}"));
    Some(Kernel { image, module: modules.join("kernel/drivers/block/nbd.ko") })
}

#[test]
#[ignore = "it takes minutes, and `make machine` first"]
fn the_kernels_nbd_does_the_same_in_an_emulated_machine() {
    let (Some(kernel), true) = (kernel(), machine().join("complete").exists()) else {
        eprintln!("skipped: there is no machine to emulate; `make machine` unpacks one");
        return;
    };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder on disk");
    let disk = disk::make(folder.path(), &kernel.module);
    let console = folder.path().join("console");
    let mut machine = start(&kernel, &disk, &console);
    let began = SystemClock.monotonic();
    while machine.try_wait().expect("looked at").is_none() && SystemClock.monotonic() - began < LIMIT {
        pause(100);
    }
    let _ = machine.kill();
    machine.wait().expect("gone");
    let mut said = Vec::new();
    File::open(&console).expect("opened").read_to_end(&mut said).expect("read");
    let said = String::from_utf8_lossy(&said);
    let took = SystemClock.monotonic() - began;
    println!("{said}\n{took:?}");
    assert!(said.contains(VERDICT), "the machine's verdict is not there after {took:?}:\n{said}");
}

fn start(kernel: &Kernel, disk: &Path, console: &Path) -> Child {
    let root = machine();
    let mut command = Command::new(root.join("usr/bin/qemu-system-x86_64"));
    command.env("LD_LIBRARY_PATH", root.join("usr/lib/x86_64-linux-gnu"));
    for firmware in ["seabios", "qemu"] {
        command.arg("-L").arg(root.join("usr/share").join(firmware));
    }
    command.args([
        "-accel",
        "tcg",
        "-cpu",
        "max",
        "-smp",
        "2",
        "-m",
        "1536",
        "-no-reboot",
        "-display",
        "none",
    ]);
    command.args(["-nic", "none", "-monitor", "none", "-serial", "stdio", "-kernel"]).arg(&kernel.image);
    command.args(["-append", "console=ttyS0 root=/dev/nvme0n1 rw init=/init panic=-1 quiet loglevel=4"]);
    let drive = format!("file={},format=raw,if=none,id=disk,cache=unsafe", disk.display());
    command.args(["-drive", &drive, "-device", "nvme,drive=disk,serial=1"]);
    let log = File::create(console).expect("a file");
    command.stdin(Stdio::null()).stderr(log.try_clone().expect("the same file")).stdout(log);
    command.spawn().expect("qemu runs")
}

/// What the machine's first process runs. It never returns: the machine ends.
#[test]
#[ignore = "it is what runs in the emulated machine"]
fn inside() {
    if !is_inside() {
        return;
    }
    let module = File::open("/nbd.ko").expect("the module");
    rustix::system::finit_module(module, c"", 0).expect("the kernel takes its NBD module");
    let program = std::env::current_exe().expect("this program");
    let mut failed = Vec::new();
    for test in TESTS {
        let began = SystemClock.monotonic();
        let status = Command::new(&program).args(["--exact", test, "--nocapture"]).status().expect("it runs");
        println!("{test}: {status}, {:?}", SystemClock.monotonic() - began);
        if !status.success() {
            failed.push(*test);
        }
    }
    println!("{}", if failed.is_empty() { VERDICT.to_owned() } else { format!("failed: {failed:?}") });
}
