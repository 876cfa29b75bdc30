//! One io_uring, bound to the thread that uses it.
//!
//! A ring is made disabled, on any thread, and enabled by the first that uses it: with `SINGLE_ISSUER` and
//! `DEFER_TASKRUN` the kernel refuses every other thread from then on, and in return takes no locks for others and
//! does its completion work only when the owner enters, not by interrupting it.

#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::thread::{self, ThreadId};
use std::time::Duration;

use io_uring::{IoUring, cqueue, squeue, types};
use rustix::io::Errno;

use super::Memory;
use super::waker::SLEEP_MAX;

/// A completion: whose, with what result, and whether more will follow for the same entry.
#[derive(Clone, Copy)]
pub(super) struct Completed {
    pub(super) user_data: u64,
    pub(super) result: i32,
    pub(super) more: bool,
}

pub(super) struct Ring {
    uring: IoUring,
    owner: Option<ThreadId>,
}

impl Ring {
    /// A ring for `entries` requests, not yet bound to a thread.
    ///
    /// # Errors
    /// `Unsupported` from a kernel before 5.13, else what the kernel said (`EPERM` where it is forbidden).
    pub(super) fn new(entries: u32) -> io::Result<Self> {
        let uring = match Self::best().build(entries) {
            // Kernels before 6.1 do not know the flags.
            Err(error) if is(&error, Errno::INVAL) => IoUring::builder().setup_r_disabled().build(entries),
            done => done,
        }?;
        let parameters = uring.params();
        // Waiting with a timeout came in 5.11; polls that stay armed in 5.13, and so did the tags.
        let fits = parameters.is_feature_ext_arg() && parameters.is_feature_resource_tagging();
        if !fits || !parameters.is_feature_nodrop() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the kernel's io_uring is older than 5.13",
            ));
        }
        Ok(Self { uring, owner: None })
    }

    fn best() -> io_uring::Builder {
        let mut builder = IoUring::builder();
        builder.setup_r_disabled().setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun();
        builder.setup_taskrun_flag().setup_submit_all();
        builder
    }

    pub(super) fn is_bound(&self) -> bool {
        self.owner.is_some()
    }

    pub(super) fn is_bound_here(&self) -> bool {
        self.owner == Some(thread::current().id())
    }

    /// Binds the ring to this thread, once.
    pub(super) fn bind(&mut self) -> io::Result<()> {
        self.uring.submitter().register_enable_rings()?;
        self.owner = Some(thread::current().id());
        Ok(())
    }

    /// Has the kernel look up and hold the pages of `memory` once, not for each write; `false` where it may not (they
    /// count against the limit of locked memory).
    ///
    /// # Safety
    /// The memory lives as long as the ring.
    pub(super) unsafe fn register(&self, memory: &Memory) -> bool {
        let whole = [IoSlice::new(memory.bytes(0, memory.len()))];
        // An `IoSlice` is an `iovec`, says its documentation.
        let vectors = whole.as_ptr().cast();
        // SAFETY: one vector, whose memory lives as long as the ring, says our caller.
        unsafe {
            self.uring.submitter().register_buffers(std::slice::from_raw_parts(vectors, whole.len())).is_ok()
        }
    }

    /// Queues an entry; `false` if there is no room until the next `enter`.
    ///
    /// # Safety
    /// Whatever the entry points to stays valid, and for a read untouched, until its last completion was reaped.
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the entry's parameters are valid for the whole operation, says our caller.
        unsafe { self.uring.submission().push(entry).is_ok() }
    }

    /// Whether the kernel waits to be entered: entries were left over, completion work is due, or completions did not
    /// fit.
    pub(super) fn is_work_due(&mut self) -> bool {
        let queue = self.uring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    /// Hands over what is queued, does the completion work that is due and waits for `want` completions or until
    /// `timeout` is over. May return early: then what is not handed over yet stays queued.
    pub(super) fn enter(&self, want: usize, timeout: Option<Duration>) -> io::Result<()> {
        let submitter = self.uring.submitter();
        let entered = match timeout {
            Some(timeout) if want > 0 => {
                let limit = types::Timespec::from(timeout.min(SLEEP_MAX));
                submitter.submit_with_args(want, &types::SubmitArgs::new().timespec(&limit))
            }
            _ => submitter.submit_and_wait(want),
        };
        match entered {
            Ok(_) => Ok(()),
            Err(error) if is(&error, Errno::TIME) || is(&error, Errno::INTR) => Ok(()),
            // Short of memory, or completions have to be reaped first: the caller does that and comes again.
            Err(error) if is(&error, Errno::AGAIN) || is(&error, Errno::BUSY) => {
                thread::yield_now();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Takes all completions that are there.
    pub(super) fn reap(&mut self, into: &mut Vec<Completed>) {
        into.extend(self.uring.completion().map(|entry| Completed {
            user_data: entry.user_data(),
            result: entry.result(),
            more: cqueue::more(entry.flags()),
        }));
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}
