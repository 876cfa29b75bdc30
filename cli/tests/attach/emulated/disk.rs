//! The emulated machine's disk: a file system with the programs that the tests run, where they are on this machine.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{INSIDE, ONLY};

const BYTES: u64 = 20 << 30;
const TOOLS: &[&str] = &[
    "sh",
    "losetup",
    "mkdir",
    "mknod",
    "mount",
    "setpriv",
    "sync",
    "unshare",
    "blkid",
    "blkdiscard",
    "mkfs.ext4",
    "mkfs.xfs",
];
/// Where the kernel's modules are.
pub(super) const MODULES: &str = "/modules";

/// Makes it in `folder`. It is sparse.
pub(super) fn make(folder: &Path, modules: &[PathBuf]) -> PathBuf {
    let root = folder.join("root");
    for directory in ["proc", "sys", "dev", "run", "tmp", "etc", &MODULES[1..]] {
        fs::create_dir_all(root.join(directory)).expect("a directory");
    }
    fs::create_dir_all(inside(&root, Path::new(env!("CARGO_TARGET_TMPDIR")))).expect("a directory");
    let this = std::env::current_exe().expect("this program");
    let programs: BTreeSet<PathBuf> = [this.clone(), PathBuf::from(env!("CARGO_BIN_EXE_firn"))].into();
    let mut files = programs.clone();
    files.extend(TOOLS.iter().map(|tool| find(tool)));
    let libraries: BTreeSet<PathBuf> = files.iter().flat_map(|program| libraries(program)).collect();
    for file in files.union(&libraries) {
        let to = inside(&root, file);
        fs::create_dir_all(to.parent().expect("a parent")).expect("a directory");
        let copied =
            if programs.contains(file) { stripped(file, &to) } else { fs::copy(file, &to).map(drop) };
        copied.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
    for module in modules {
        let to = root.join(&MODULES[1..]).join(module.file_stem().expect("a name")).with_extension("ko");
        let content = match module.extension().is_some_and(|extension| extension == "xz") {
            true => Command::new("xz").args(["-dc"]).arg(module).output().expect("xz runs").stdout,
            false => fs::read(module).expect("read"),
        };
        fs::write(to, content).expect("written");
    }
    let init = root.join("init");
    fs::write(&init, script(&this)).expect("written");
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).expect("executable");
    let disk = folder.join("disk");
    fs::File::create(&disk).and_then(|file| file.set_len(BYTES)).expect("a sparse file");
    let mut mkfs = Command::new(find("mkfs.ext4"));
    mkfs.args(["-q", "-F", "-E", "lazy_itable_init=1,nodiscard", "-d"]).arg(&root).arg(&disk);
    assert!(mkfs.status().expect("mkfs.ext4 runs").success());
    fs::remove_dir_all(&root).expect("removed");
    disk
}

/// The first process. The machine ends with it.
fn script(program: &Path) -> String {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    format!(
        "#!{sh}\n\
         export PATH={path} {INSIDE}='{only}'\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sysfs /sys\n\
         mount -t devtmpfs devtmpfs /dev\n\
         mkdir -p /dev/shm 2>/dev/null\n\
         mount -t tmpfs tmpfs /dev/shm\n\
         {program} --exact emulated::inside::inside --ignored --nocapture\n\
         echo the tests ended with $?\n\
         echo o > /proc/sysrq-trigger\n\
         while :; do sync; done\n",
        sh = find("sh").display(),
        only = std::env::var(ONLY).unwrap_or_default(),
        program = program.display(),
    )
}

/// A copy without what debuggers want, which is most of it.
fn stripped(program: &Path, to: &Path) -> std::io::Result<()> {
    let status = Command::new("strip").arg("-o").arg(to).arg(program).status();
    if status.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    fs::copy(program, to).map(drop)
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").expect("an absolute path"))
}

fn find(tool: &str) -> PathBuf {
    let folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let mut paths = folders.iter().map(|folder| Path::new(folder).join(tool));
    paths.find(|path| path.exists()).unwrap_or_else(|| panic!("{tool} is not installed"))
}

/// The libraries that a program is linked with, and the loader.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let told = Command::new("ldd").arg(program).output().expect("ldd runs");
    let told = String::from_utf8(told.stdout).expect("UTF-8");
    told.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}
