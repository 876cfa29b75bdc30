//! What an export can be asked, and its answers.

use super::super::protocol::transmission::{StatusExtent, command, command_flags};
use super::super::protocol::{errno, transmission::Request as Wire};
use super::Callback;
use super::handshake::Export;
use crate::error::{Error, Kind, Result};

/// Something to do. Offsets and lengths are in bytes, multiples of the export's smallest block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Read; answered with [`Response::Data`].
    Read {
        /// From where.
        offset: u64,
        /// How much, at most the export's longest request.
        bytes: u32,
    },
    /// Write.
    Write {
        /// Where.
        offset: u64,
        /// What, at most the export's longest request.
        data: Vec<u8>,
        /// Durable when answered.
        is_durable: bool,
    },
    /// Make durable what was answered before.
    Flush,
    /// Say that the range is not needed. What it reads as afterwards is the server's choice.
    Trim {
        /// From where.
        offset: u64,
        /// How much.
        bytes: u32,
    },
    /// Make the range zeros, as a hole where the server can.
    Zero {
        /// From where.
        offset: u64,
        /// How much.
        bytes: u32,
    },
    /// Which parts are holes or zeros (`base:allocation`); answered with [`Response::Status`], which may end sooner
    /// than the range.
    Status {
        /// From where.
        offset: u64,
        /// How much.
        bytes: u32,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// It is done.
    Done,
    /// What was read, as long as was asked.
    Data(Vec<u8>),
    /// Extents from the asked offset on, in order.
    Status(Vec<StatusExtent>),
}

impl Request {
    /// Command, offset and length.
    fn range(&self) -> (u16, u64, u32) {
        match *self {
            Self::Read { offset, bytes } => (command::READ, offset, bytes),
            // A write longer than 4 GiB is longer than any export takes, which `check` has seen.
            Self::Write { offset, ref data, .. } => {
                (command::WRITE, offset, u32::try_from(data.len()).unwrap_or(u32::MAX))
            }
            Self::Flush => (command::FLUSH, 0, 0),
            Self::Trim { offset, bytes } => (command::TRIM, offset, bytes),
            Self::Zero { offset, bytes } => (command::WRITE_ZEROES, offset, bytes),
            Self::Status { offset, bytes } => (command::BLOCK_STATUS, offset, bytes),
        }
    }

    /// Its bytes on the wire, without what is written.
    pub(super) fn encode(&self, cookie: u64) -> Vec<u8> {
        let (command, offset, length) = self.range();
        let flags = match self {
            Self::Write { is_durable: true, .. } => command_flags::FUA,
            _ => 0,
        };
        Wire { extended: false, flags, command, cookie, offset, length: length.into() }.encode()
    }

    /// Whether the export can be asked this.
    pub(super) fn check(&self, export: &Export) -> Result<()> {
        let (_, offset, length) = self.range();
        let refused = |why: String| Err(Error::new(Kind::Invalid, "use NBD export", why));
        let needed = match self {
            Self::Flush => return Ok(()),
            Self::Read { .. } => None,
            Self::Write { is_durable: true, .. } => {
                Some((Export::SEND_FUA, "writes that are durable at once"))
            }
            Self::Write { .. } => None,
            Self::Trim { .. } => Some((Export::SEND_TRIM, "trim")),
            Self::Zero { .. } => Some((Export::SEND_WRITE_ZEROES, "write zeroes")),
            Self::Status { .. } if export.allocation.is_none() => {
                return refused("the server does not say what is allocated".to_owned());
            }
            Self::Status { .. } => None,
        };
        if let Some((flag, what)) = needed
            && !export.has(flag)
        {
            return refused(format!("the server does not do {what}"));
        }
        if export.has(Export::READ_ONLY)
            && matches!(self, Self::Write { .. } | Self::Trim { .. } | Self::Zero { .. })
        {
            return refused("the export is read-only".to_owned());
        }
        let carries = matches!(self, Self::Read { .. } | Self::Write { .. });
        if length == 0 || carries && length > export.maximum {
            return refused(format!("{length} bytes are not between 1 and {}", export.maximum));
        }
        let minimum = u64::from(export.minimum);
        if !offset.is_multiple_of(minimum) || !u64::from(length).is_multiple_of(minimum) {
            return refused(format!("{length} bytes at {offset} are not multiples of {minimum}"));
        }
        match offset.checked_add(length.into()) {
            Some(end) if end <= export.bytes => Ok(()),
            _ => refused(format!(
                "{length} bytes at {offset} end beyond the {} bytes of the export",
                export.bytes
            )),
        }
    }
}

/// A request that is not answered, and what of its answer is there.
pub(super) struct Pending {
    pub(super) request: std::sync::Arc<Request>,
    pub(super) callback: Callback,
    pub(super) answer: Answer,
}

/// The parts of an answer that have come so far.
#[derive(Default)]
pub(super) struct Answer {
    data: Vec<u8>,
    filled_bytes: u64,
    status: Vec<StatusExtent>,
    error: Option<Error>,
}

impl Answer {
    /// The part of the data that a chunk fills, or nothing when it is not in the request's range.
    pub(super) fn part(&mut self, request: &Request, offset: u64, bytes: u32) -> Option<&mut [u8]> {
        let Request::Read { offset: from, bytes: asked } = *request else { return None };
        let start = offset.checked_sub(from)?;
        let end = start.checked_add(bytes.into())?;
        if bytes == 0 || end > u64::from(asked) {
            return None;
        }
        self.filled_bytes += u64::from(bytes);
        let (start, end) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
        if self.data.is_empty() {
            self.data = vec![0; usize::try_from(asked).ok()?];
        }
        self.data.get_mut(start..end)
    }

    pub(super) fn add_status(&mut self, extents: Vec<StatusExtent>) {
        self.status.extend(extents);
    }

    /// The first error is the one that is told.
    pub(super) fn fail(&mut self, number: u32, message: &str) {
        self.error.get_or_insert_with(|| explain(number, message));
    }

    /// The whole answer, or nothing when parts of it are missing.
    pub(super) fn finish(self, request: &Request) -> Option<Result<Response>> {
        if let Some(error) = self.error {
            return Some(Err(error));
        }
        match request {
            // Chunks don't overlap, so the sum of their lengths says whether all is there.
            Request::Read { bytes, .. } if self.filled_bytes == u64::from(*bytes) => {
                Some(Ok(Response::Data(self.data)))
            }
            Request::Status { .. } if !self.status.is_empty() => Some(Ok(Response::Status(self.status))),
            Request::Read { .. } | Request::Status { .. } => None,
            _ => Some(Ok(Response::Done)),
        }
    }
}

/// A server's error number as an error.
fn explain(number: u32, message: &str) -> Error {
    let (kind, meaning) = match number {
        errno::EPERM => (Kind::Invalid, "not permitted"),
        errno::EINVAL => (Kind::Invalid, "invalid request"),
        errno::ENOTSUP => (Kind::Invalid, "not supported"),
        errno::EOVERFLOW => (Kind::Invalid, "too long"),
        errno::ENOSPC => (Kind::OutOfSpace, "no room left"),
        errno::ENOMEM => (Kind::Retry, "the server has no memory left"),
        errno::EIO => (Kind::Unavailable, "input/output error"),
        _ => (Kind::Unavailable, "unknown error"),
    };
    let detail = match message {
        "" => format!("the server says: {meaning} ({number})"),
        message => format!("the server says: {message} ({meaning}, {number})"),
    };
    Error::new(kind, "use NBD export", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export() -> Export {
        Export {
            bytes: 1 << 20,
            flags: 0,
            minimum: 512,
            preferred: 4096,
            maximum: 65536,
            ..Export::default()
        }
    }

    fn check(request: Request, export: &Export, expected: &str) {
        let said = request.check(export).map_or_else(|error| error.to_string(), |()| String::new());
        assert!(said.ends_with(expected) && said.is_empty() == expected.is_empty(), "{request:?}: {said}");
    }

    #[test]
    fn what_the_export_can_not_do_is_refused() {
        let mut export = export();
        let write = |offset, bytes| Request::Write { offset, data: vec![1; bytes], is_durable: false };
        check(Request::Read { offset: 0, bytes: 65536 }, &export, "");
        check(Request::Read { offset: 0, bytes: 66048 }, &export, "66048 bytes are not between 1 and 65536");
        check(Request::Read { offset: 0, bytes: 0 }, &export, "0 bytes are not between 1 and 65536");
        check(write(100, 512), &export, "512 bytes at 100 are not multiples of 512");
        check(write((1 << 20) - 512, 512), &export, "");
        check(write((1 << 20) - 512, 1024), &export, "end beyond the 1048576 bytes of the export");
        check(write(u64::MAX - 511, 512), &export, "end beyond the 1048576 bytes of the export");
        check(Request::Trim { offset: 0, bytes: 512 }, &export, "the server does not do trim");
        check(Request::Zero { offset: 0, bytes: 1 << 20 }, &export, "the server does not do write zeroes");
        check(
            Request::Status { offset: 0, bytes: 512 },
            &export,
            "the server does not say what is allocated",
        );
        export.flags = Export::SEND_WRITE_ZEROES;
        check(Request::Zero { offset: 0, bytes: 1 << 20 }, &export, "");
        export.flags = Export::READ_ONLY;
        check(write(0, 512), &export, "the export is read-only");
        check(Request::Flush, &export, "");
    }

    #[test]
    fn an_answer_is_whole_or_none() {
        let read = Request::Read { offset: 4096, bytes: 1024 };
        let mut answer = Answer::default();
        assert!(answer.part(&read, 4095, 1).is_none(), "before the range");
        assert!(answer.part(&read, 4096, 1025).is_none(), "beyond the range");
        assert!(answer.part(&read, u64::MAX, 2).is_none());
        answer.part(&read, 4608, 512).expect("the second half").fill(7);
        let mut half = Answer::default();
        half.part(&read, 4608, 512).expect("a part");
        assert!(half.finish(&read).is_none(), "the first half is missing");
        answer.part(&read, 4096, 512).expect("the first half").fill(3);
        let Some(Ok(Response::Data(data))) = answer.finish(&read) else { panic!("an answer") };
        assert!(data[..512] == [3; 512] && data[512..] == [7; 512]);
        let mut failed = Answer::default();
        failed.fail(28, "");
        failed.fail(5, "later");
        let error = failed.finish(&read).expect("an answer").expect_err("an error");
        assert_eq!(error.kind(), Kind::OutOfSpace);
    }
}
