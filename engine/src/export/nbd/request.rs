//! What a request may ask, and which error number says why not.

use super::handshake::PAYLOAD_BYTES_MAX;
use super::protocol::errno;
use super::protocol::transmission::{Mode, Request, command, command_flags};
use super::statistics::RequestKind;
use crate::error::{Error, Kind};
use crate::units::SECTOR_BYTES;

/// An error number and why, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) errno: u32,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(errno: u32, message: impl Into<String>) -> Self {
        Self { errno, message: message.into() }
    }

    /// What a client is told of an error of the engine.
    pub(super) fn of(error: &Error) -> Self {
        let errno = match error.kind() {
            Kind::Invalid => errno::EINVAL,
            Kind::OutOfSpace => errno::ENOSPC,
            _ => errno::EIO,
        };
        Self::new(errno, error.to_string())
    }
}

/// What is known of an export when a request to it is checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Serving {
    /// Its size in bytes now.
    pub(super) bytes: u64,
    pub(super) read_only: bool,
    pub(super) mode: Mode,
    /// Contexts were chosen.
    pub(super) has_contexts: bool,
}

/// How a command is counted.
pub(super) fn kind(request: &Request) -> RequestKind {
    match request.command {
        command::READ => RequestKind::Read,
        command::WRITE => RequestKind::Write,
        command::FLUSH => RequestKind::Flush,
        command::TRIM | command::WRITE_ZEROES => RequestKind::Unmap,
        _ => RequestKind::Other,
    }
}

/// Refuses what the protocol, or the export, does not allow.
pub(super) fn check(request: &Request, serving: &Serving) -> Result<(), Refusal> {
    check_flags(request, serving)?;
    if request.command == command::FLUSH {
        let empty = request.offset == 0 && request.length == 0;
        return if empty { Ok(()) } else { Err(invalid("a flush has neither offset nor length")) };
    }
    let writes = matches!(request.command, command::WRITE | command::TRIM | command::WRITE_ZEROES);
    if writes && serving.read_only {
        return Err(Refusal::new(errno::EPERM, "the export is read-only"));
    }
    check_range(request, serving.bytes)?;
    match request.command {
        command::READ if request.length > PAYLOAD_BYTES_MAX.into() => {
            let whole = request.flags & command_flags::DF != 0;
            let errno = if whole { errno::EOVERFLOW } else { errno::EINVAL };
            Err(Refusal::new(errno, "a read is longer than 32 MiB"))
        }
        command::BLOCK_STATUS if !serving.has_contexts => Err(invalid("no context was chosen")),
        _ => Ok(()),
    }
}

fn check_flags(request: &Request, serving: &Serving) -> Result<(), Refusal> {
    use command_flags::{DF, FAST_ZERO, FUA, NO_HOLE, PAYLOAD_LEN, REQ_ONE};
    // FUA is allowed on every command, also where it says nothing.
    let allowed = match request.command {
        command::READ if serving.mode >= Mode::Structured => FUA | DF,
        command::WRITE if serving.mode == Mode::Extended => FUA | PAYLOAD_LEN,
        command::READ | command::WRITE | command::FLUSH | command::TRIM | command::CACHE => FUA,
        command::WRITE_ZEROES => FUA | NO_HOLE | FAST_ZERO,
        command::BLOCK_STATUS => FUA | REQ_ONE,
        other => return Err(invalid(format!("there is no command {other}"))),
    };
    match request.flags & !allowed {
        0 => Ok(()),
        other => Err(invalid(format!("command {} has no flag {other:#x}", request.command))),
    }
}

fn check_range(request: &Request, bytes: u64) -> Result<(), Refusal> {
    let (offset, length) = (request.offset, request.length);
    if length == 0 {
        return Err(invalid("the length is 0"));
    }
    if !offset.is_multiple_of(SECTOR_BYTES) || !length.is_multiple_of(SECTOR_BYTES) {
        return Err(invalid(format!("{length} bytes at {offset} are not aligned to 512")));
    }
    if offset.checked_add(length).is_none_or(|end| end > bytes) {
        let is_write = matches!(request.command, command::WRITE | command::WRITE_ZEROES);
        let errno = if is_write { errno::ENOSPC } else { errno::EINVAL };
        let message = format!("{length} bytes at {offset} reach beyond the end at {bytes}");
        return Err(Refusal::new(errno, message));
    }
    Ok(())
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(errno::EINVAL, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVING: Serving =
        Serving { bytes: 1 << 33, read_only: false, mode: Mode::Structured, has_contexts: true };

    /// A little longer than a read may be.
    const LONG: u64 = PAYLOAD_BYTES_MAX as u64 + 512;

    fn refused(request: Request, serving: Serving) -> u32 {
        check(&request, &serving).err().map_or(0, |refusal| refusal.errno)
    }

    fn request(command: u16, flags: u16, offset: u64, length: u64) -> Request {
        Request { extended: false, flags, command, cookie: 1, offset, length }
    }

    #[test]
    fn each_command_has_its_flags() {
        use command_flags::{DF, FAST_ZERO, FUA, NO_HOLE, REQ_ONE};
        let table = [
            (command::READ, FUA | DF),
            (command::WRITE, FUA),
            (command::TRIM, FUA),
            (command::CACHE, FUA),
            (command::WRITE_ZEROES, FUA | NO_HOLE | FAST_ZERO),
            (command::BLOCK_STATUS, FUA | REQ_ONE),
        ];
        for (command, allowed) in table {
            for bit in 0..16 {
                let expected = if allowed >> bit & 1 == 1 { 0 } else { errno::EINVAL };
                assert_eq!(refused(request(command, 1 << bit, 0, 512), SERVING), expected, "{command} {bit}");
            }
        }
        let simple = Serving { mode: Mode::Simple, ..SERVING };
        assert_eq!(refused(request(command::READ, DF, 0, 512), simple), errno::EINVAL);
        assert_eq!(refused(request(8, 0, 0, 512), SERVING), errno::EINVAL);
        let extended = Serving { mode: Mode::Extended, ..SERVING };
        let with_payload = |command| request(command, command_flags::PAYLOAD_LEN | FUA, 0, 512);
        assert_eq!(refused(with_payload(command::WRITE), extended), 0);
        for command in [command::READ, command::TRIM, command::BLOCK_STATUS] {
            assert_eq!(refused(with_payload(command), extended), errno::EINVAL, "{command}");
        }
    }

    #[test]
    fn ranges_are_aligned_and_inside() {
        let end = SERVING.bytes;
        let table = [
            (command::READ, 0, 0, errno::EINVAL),
            (command::READ, 1, 512, errno::EINVAL),
            (command::READ, 0, 511, errno::EINVAL),
            (command::READ, end - 512, 512, 0),
            (command::READ, end - 512, 1024, errno::EINVAL),
            (command::READ, u64::MAX - 511, 512, errno::EINVAL),
            (command::WRITE, end, 512, errno::ENOSPC),
            (command::WRITE_ZEROES, end, 512, errno::ENOSPC),
            (command::TRIM, end, 512, errno::EINVAL),
            (command::READ, 0, LONG, errno::EINVAL),
            (command::TRIM, 0, LONG, 0),
            (command::TRIM, 0, end, 0),
            (command::TRIM, 512, end, errno::EINVAL),
            (command::TRIM, 512, u64::MAX - 511, errno::EINVAL),
            (command::FLUSH, 0, 0, 0),
            (command::FLUSH, 512, 0, errno::EINVAL),
        ];
        for (command, offset, length, expected) in table {
            assert_eq!(refused(request(command, 0, offset, length), SERVING), expected, "{command} {offset}");
        }
        let whole = request(command::READ, command_flags::DF, 0, LONG);
        assert_eq!(refused(whole, SERVING), errno::EOVERFLOW);
    }

    #[test]
    fn a_snapshot_is_not_written_to() {
        let serving = Serving { read_only: true, has_contexts: false, ..SERVING };
        for command in [command::WRITE, command::TRIM, command::WRITE_ZEROES] {
            assert_eq!(refused(request(command, 0, 0, 512), serving), errno::EPERM);
        }
        assert_eq!(refused(request(command::READ, 0, 0, 512), serving), 0);
        assert_eq!(refused(request(command::BLOCK_STATUS, 0, 0, 512), serving), errno::EINVAL);
    }
}
