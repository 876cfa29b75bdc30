//! The same tests on a kernel that has an NBD client: Debian's, in a machine that qemu emulates.
//!
//! The machine's disk has this very test program and firn, at the same paths as here. Its first process runs [`inside`],
//! which loads the kernel's modules and runs tests of `main` and `kernel_nbd`.

mod disk;
mod inside;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use firn_engine::sys::{Clock, SystemClock};

use crate::stage::pause;

/// The environment variable that is set in the machine: to a part of the names of the tests that are to run there.
const INSIDE: &str = "FIRN_TEST_EMULATED";
/// The one that says so here; without it all of them run.
const ONLY: &str = "FIRN_TEST_EMULATED_ONLY";
/// What the machine's console shows when every test there passed.
const VERDICT: &str = "firn: all is well";
/// Three times what an idle machine of two cores takes.
const LIMIT: Duration = Duration::from_secs(540);

/// Whether this is the emulated machine.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Where `make machine` unpacked qemu and a kernel.
fn machine() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("machine")
}

/// A kernel and its modules: those that are not built in.
struct Kernel {
    image: PathBuf,
    modules: Vec<PathBuf>,
}

/// Debian's kernel for clouds, which has what the machine needs built in.
fn kernel() -> Option<Kernel> {
    let folder = machine().join("boot");
    let names = std::fs::read_dir(&folder).ok()?.flatten().map(|item| item.file_name());
    let release = names.filter_map(|name| Some(name.to_str()?.strip_prefix("vmlinuz-")?.to_owned())).max()?;
    let image = folder.join(format!("vmlinuz-{release}"));
    let folders = ["lib", "usr/lib"].map(|lib| machine().join(lib).join("modules").join(&release));
    let places = inside::MODULES.iter().flat_map(|module| {
        let names = [format!("kernel/{module}.ko"), format!("kernel/{module}.ko.xz")];
        folders.iter().flat_map(move |folder| names.clone().map(|name| folder.join(name)))
    });
    Some(Kernel { image, modules: places.filter(|path| path.exists()).collect() })
}

#[test]
fn the_kernels_nbd_does_the_same_in_an_emulated_machine() {
    let (Some(kernel), true) = (kernel(), machine().join("complete").exists()) else {
        eprintln!("skipped: there is no machine to emulate; `make machine` unpacks one");
        return;
    };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder on disk");
    let disk = disk::make(folder.path(), &kernel.modules);
    let console = folder.path().join("console");
    let began = SystemClock.monotonic();
    let mut machine = start(&kernel, &disk, &console);
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
    // An older processor has less that is dear to emulate.
    command.args(["-accel", "tcg,thread=multi", "-cpu", "Nehalem", "-smp", "2", "-m", "1536", "-no-reboot"]);
    command.args(["-display", "none", "-nic", "none", "-monitor", "none", "-serial", "stdio"]);
    // What the emulator translated of a program is used again only where the program is at the same address again.
    let quick = "norandmaps nokaslr mitigations=off tsc=reliable";
    let boot = "console=ttyS0 root=/dev/nvme0n1 rw init=/init panic=-1 quiet loglevel=4";
    command.arg("-kernel").arg(&kernel.image).arg("-append").arg(format!("{boot} {quick}"));
    let drive = format!("file={},format=raw,if=none,id=disk,cache=unsafe", disk.display());
    command.args(["-drive", &drive, "-device", "nvme,drive=disk,serial=1"]);
    let log = File::create(console).expect("a file");
    command.stdin(Stdio::null()).stderr(log.try_clone().expect("the same file")).stdout(log);
    command.spawn().expect("qemu runs")
}
