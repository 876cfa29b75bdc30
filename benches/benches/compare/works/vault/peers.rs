//! The peers: restic, borg and qemu-img, each as a user would run it on the raw image.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A program that keeps an image somewhere and brings it back.
pub(super) trait Peer {
    /// Its name for the table.
    fn name(&self) -> &'static str;

    /// Makes its store.
    fn create(&self) -> Result<()>;

    /// Keeps the image as it is now; the first time all of it.
    fn keep(&self, number: usize) -> Result<()>;

    /// Brings back what it kept last, as the file that is returned.
    fn restore(&self) -> Result<PathBuf>;

    /// The directory of its store.
    fn store(&self) -> &Path;
}

fn run<A: AsRef<OsStr>>(program: &str, folder: &Path, arguments: impl IntoIterator<Item = A>) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
    command.env("RESTIC_PASSWORD", "bench").env("BORG_PASSPHRASE", "bench");
    command.env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes").env("HOME", folder);
    let output = command.stderr(Stdio::piped()).output().with_context(|| format!("{program} is needed"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// restic, which chunks by content and always encrypts.
pub(super) struct Restic {
    folder: PathBuf,
    image: PathBuf,
    store: PathBuf,
}

/// borg with chunks of one size, which suits an image best, and its fastest zstd.
pub(super) struct Borg {
    folder: PathBuf,
    image: PathBuf,
    store: PathBuf,
}

/// qemu-img, a compressed copy of everything each time.
pub(super) struct QemuImg {
    folder: PathBuf,
    image: PathBuf,
    store: PathBuf,
}

/// All of them, keeping `image` below `folder`.
pub(super) fn all(folder: &Path, image: &Path) -> Result<Vec<Box<dyn Peer>>> {
    let place = |name: &str| -> Result<(PathBuf, PathBuf, PathBuf)> {
        let own = folder.join(name);
        std::fs::create_dir_all(&own)?;
        Ok((own.clone(), image.to_owned(), own.join("store")))
    };
    let (folder, image, store) = place("restic")?;
    let restic = Restic { folder, image, store };
    let (folder, image, store) = place("borg")?;
    let borg = Borg { folder, image, store };
    let (folder, image, store) = place("qemu-img")?;
    Ok(vec![Box::new(restic), Box::new(borg), Box::new(QemuImg { folder, image, store })])
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

impl Peer for Restic {
    fn name(&self) -> &'static str {
        "restic"
    }

    fn create(&self) -> Result<()> {
        run("restic", &self.folder, ["-q", "-r", text(&self.store)?, "init"])
    }

    fn keep(&self, _: usize) -> Result<()> {
        // The image changes in place, which its time stamp may not show within a second.
        run("restic", &self.folder, ["-q", "-r", text(&self.store)?, "backup", "--force", text(&self.image)?])
    }

    fn restore(&self) -> Result<PathBuf> {
        let target = self.folder.join("restored");
        run(
            "restic",
            &self.folder,
            ["-q", "-r", text(&self.store)?, "restore", "latest", "--target", text(&target)?],
        )?;
        Ok(target.join(self.image.strip_prefix("/")?))
    }

    fn store(&self) -> &Path {
        &self.store
    }
}

impl Peer for Borg {
    fn name(&self) -> &'static str {
        "borg"
    }

    fn create(&self) -> Result<()> {
        run("borg", &self.folder, ["init", "--encryption=none", text(&self.store)?])
    }

    fn keep(&self, number: usize) -> Result<()> {
        let archive = format!("{}::{number}", text(&self.store)?);
        let image = text(&self.image)?;
        let options =
            ["create", "--compression=zstd,1", "--chunker-params=fixed,4194304", "--files-cache=disabled"];
        run("borg", &self.folder, options.into_iter().chain([archive.as_str(), image]))
    }

    fn restore(&self) -> Result<PathBuf> {
        let target = self.folder.join("restored");
        std::fs::create_dir_all(&target)?;
        let newest = std::process::Command::new("borg")
            .args(["list", "--short", "--last", "1", text(&self.store)?])
            .env("HOME", &self.folder)
            .env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes")
            .output()?;
        let newest = String::from_utf8(newest.stdout)?;
        let archive = format!("{}::{}", text(&self.store)?, newest.trim());
        run("borg", &target, ["extract", "--sparse", &archive])?;
        Ok(target.join(self.image.strip_prefix("/")?))
    }

    fn store(&self) -> &Path {
        &self.store
    }
}

impl Peer for QemuImg {
    fn name(&self) -> &'static str {
        "qemu-img"
    }

    fn create(&self) -> Result<()> {
        Ok(std::fs::create_dir_all(&self.store)?)
    }

    fn keep(&self, number: usize) -> Result<()> {
        let copy = self.store.join(format!("{number}.qcow2"));
        let options =
            ["convert", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd", "-W", "-m", "8"];
        run("qemu-img", &self.folder, options.into_iter().chain([text(&self.image)?, text(&copy)?]))
    }

    fn restore(&self) -> Result<PathBuf> {
        let newest = std::fs::read_dir(&self.store)?.filter_map(Result::ok).map(|entry| entry.path()).max();
        let newest = newest.context("nothing was kept")?;
        let target = self.folder.join("restored");
        run("qemu-img", &self.folder, ["convert", "-O", "raw", text(&newest)?, text(&target)?])?;
        Ok(target)
    }

    fn store(&self) -> &Path {
        &self.store
    }
}
