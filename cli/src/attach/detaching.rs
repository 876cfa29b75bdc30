//! `firn detach`: unmounts, takes the block device away and waits for its helper's end.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use firn_engine::error::{Error, Kind};
use firn_engine::sys::{Clock, SystemClock};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use serde::Serialize;

use super::entry::{Entry, Record, State};
use super::waiting::Process;
use super::{holders, mounts, transport};
use crate::args::attach::Detach;
use crate::output::Answer;

/// How long the kernel and the helper may take when nobody uses the device any more.
const END_TIME: Duration = Duration::from_secs(30);
/// How long somebody else may have the device open who only looks at it: another attach's `losetup` that was told the
/// same free device, or what reads the labels of new devices.
const PASSING_TIME: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Serialize)]
struct Detached<'a> {
    name: &'a str,
    device: &'a Path,
    unmounted: Vec<PathBuf>,
    /// Nothing was waited for, and what was not on stable storage may be lost.
    is_forced: bool,
}

/// Takes away what was named.
pub(crate) fn detach(detach: &Detach) -> Result<Answer> {
    let (entry, record) = find(&detach.runtime.path()?, &detach.target)?;
    let unmounted = transport::mounts(&entry, &record.device)?;
    let is_dead = entry.lock()?.is_some() && !transport::outlives_helper(&entry, &record.device)?;
    if detach.force || is_dead {
        force(&entry, &record)?;
    } else {
        take_away(&entry, &record)?;
    }
    let is_forced = detach.force;
    let text = format!("{} detached from {}", record.name, record.device.display());
    Answer::new(&Detached { name: &record.name, device: &record.device, unmounted, is_forced }, text)
}

/// The entry whose volume, device or mount is `target`.
fn find(runtime: &Path, target: &str) -> Result<(Entry, Record), Error> {
    let path = std::path::absolute(target).unwrap_or_else(|_| PathBuf::from(target));
    let path = path.canonicalize().unwrap_or(path);
    let mut found = Vec::new();
    for entry in Entry::all(runtime)? {
        let Some(record) = entry.record()? else { continue };
        if record.name == target
            || record.device == path
            || transport::mounts(&entry, &record.device)?.contains(&path)
        {
            found.push((entry, record));
        }
    }
    if found.len() > 1 && found.iter().all(|(_, record)| record.device == path) {
        // The kernel gave the number of a device that is gone to another.
        let mut owned = Vec::new();
        for (entry, record) in found {
            if transport::is_on(&entry, &record.device)? {
                owned.push((entry, record));
            }
        }
        found = owned;
    }
    match found.len() {
        0 => Err(Error::new(Kind::NotFound, "detach", format!("{target} is not attached"))
            .hint("`firn attach --list` shows what is")),
        1 => Ok(found.remove(0)),
        _ => {
            let devices: Vec<String> =
                found.iter().map(|(_, record)| record.device.display().to_string()).collect();
            let detail = format!("{target} is attached more than once: {}", devices.join(", "));
            Err(Error::new(Kind::Conflict, "detach", detail).hint("name the device"))
        }
    }
}

/// Takes a device away that nobody uses any more, with everything in the kernel's memory written to it.
pub(super) fn take_away(entry: &Entry, record: &Record) -> Result<(), Error> {
    tell_of_waiting(entry, record);
    // One that the kernel has let go of already may be somebody else's by now.
    if transport::is_on(entry, &record.device)? {
        for target in mounts::of_device(&record.device)?.iter().rev() {
            unmount(target, UnmountFlags::empty()).map_err(|errno| busy_mount(target, errno))?;
        }
        write_out(record)?;
        // Somebody else's detach by force may have come between, and its number gone to another.
        if !transport::is_on(entry, &record.device)? {
            let detail = format!("{} went away meanwhile: not all may be on stable storage", record.name);
            return Err(Error::new(Kind::Unavailable, "detach", detail));
        }
    }
    // Found before it ends: later its number may be another's.
    let helper = Process::find(record.pid);
    transport::release(entry)?;
    let ended = match helper {
        Ok(Some(helper)) => helper.has_ended_within(END_TIME),
        Ok(None) => Ok(true),
        Err(source) => Err(source),
    };
    match ended {
        Ok(true) => entry.remove(),
        Ok(false) => {
            let detail = format!("{} is still open{}", record.device.display(), used_by(record));
            Err(Error::new(Kind::Retry, "detach", detail).hint("it goes when the last one closes it"))
        }
        Err(source) => Err(Error::io("wait for helper", record.pid, source)),
    }
}

/// Takes a device away whatever uses it: the helper is ended first, so that nothing waits.
fn force(entry: &Entry, record: &Record) -> Result<(), Error> {
    // The lock says whether it lives: its number may be another process's by now.
    if entry.lock()?.is_none() {
        end_helper(record).map_err(|source| Error::io("end helper", record.pid, source))?;
    }
    // The helper may be long dead, and its device somebody else's by now.
    if transport::is_on(entry, &record.device)? {
        for target in mounts::of_device(&record.device)?.iter().rev() {
            unmount(target, UnmountFlags::DETACH).map_err(|errno| busy_mount(target, errno))?;
        }
    }
    transport::release(entry)?;
    entry.remove()
}

fn end_helper(record: &Record) -> io::Result<()> {
    let Some(helper) = Process::find(record.pid)? else { return Ok(()) };
    helper.kill()?;
    match helper.has_ended_within(END_TIME)? {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::TimedOut, "it does not end")),
    }
}

/// Writes what the kernel has of the device in memory, and flushes it. Nobody else may have it.
fn write_out(record: &Record) -> Result<(), Error> {
    let began = SystemClock.monotonic();
    let device = loop {
        match claim(record) {
            Err(error)
                if error.kind() == Kind::Conflict
                    && SystemClock.monotonic().saturating_sub(began) < PASSING_TIME =>
            {
                std::thread::park_timeout(PAUSE);
            }
            claimed => break claimed?,
        }
    };
    device.sync_all().map_err(|source| {
        let detail = format!("{}: not everything is on stable storage", record.name);
        Error::io("detach", detail, source)
            .hint(format!("`firn detach --force {}` gives up what is not", record.name))
    })
}

/// Opens the device when nobody else has it: [`Kind::Conflict`] names who does.
fn claim(record: &Record) -> Result<File, Error> {
    let device = &record.device;
    let in_use = |holders: &[String], hint| {
        let detail = format!("{} is in use{}", device.display(), holders::text(holders));
        Error::new(Kind::Conflict, "detach", detail).hint(hint)
    };
    let access = if record.is_read_only { OFlags::RDONLY } else { OFlags::RDWR };
    let opened = rustix::fs::open(device, access | OFlags::EXCL | OFlags::CLOEXEC, Mode::empty());
    let opened = opened.map_err(|errno| match errno {
        Errno::BUSY => in_use(
            &holders::of_device(device),
            "is it mounted in another namespace, swapped on, or part of another device?",
        ),
        errno => Error::io("detach", device.display(), errno.into()),
    })?;
    let own = format!("({})", std::process::id());
    let mut others = holders::of_device(device);
    others.retain(|holder| !holder.ends_with(&own));
    match others.as_slice() {
        [] => Ok(File::from(opened)),
        others => Err(in_use(others, "stop what uses it")),
    }
}

fn busy_mount(target: &Path, errno: Errno) -> Error {
    let place = target.display();
    match errno {
        Errno::BUSY => {
            let holders = holders::text(&holders::of_mount(target));
            Error::new(Kind::Conflict, "unmount", format!("{place} is busy{holders}"))
                .hint("stop what uses it, or leave the directory")
        }
        errno => Error::io("unmount", place, errno.into()),
    }
}

fn used_by(record: &Record) -> String {
    holders::text(&holders::of_device(&record.device))
}

/// Says why it may take long.
fn tell_of_waiting(entry: &Entry, record: &Record) {
    if let Ok(Some(_)) = entry.lock() {
        eprintln!(
            "firn: the helper of {} died; if this does not end, the server did too (--force gives up what is not \
             written yet)",
            record.name
        );
    } else if let Ok(Some(health)) = entry.health()
        && health.state == State::Waiting
    {
        eprintln!(
            "firn: the server of {} is away; waiting for it to take what is not written yet (--force gives that up)",
            record.name
        );
    }
}
