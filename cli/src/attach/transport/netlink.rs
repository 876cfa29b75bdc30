//! Generic netlink: questions to a part of the kernel that has a name, and its answers.
//!
//! A message is a header, a command and attributes, all in this machine's byte order and aligned to four bytes
//! (`linux/netlink.h`, `linux/genetlink.h`).

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink, recv, send, socket_with,
};

const HEADER_BYTES: usize = 16;
const COMMAND_BYTES: usize = 4;
const ATTRIBUTE_BYTES: usize = 4;
/// More than any answer that is asked for here.
const ANSWER_BYTES_MAX: usize = 32 << 10;

/// Flags of a message.
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
/// The type of the message that acknowledges, or says what failed.
const ERROR: u16 = 2;
/// What answers for the names of the others.
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// An attribute that consists of others.
const NESTED: u16 = 1 << 15;

/// Attributes, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    /// Attributes have 65531 bytes at most; what is longer is not understood by the kernel, and refused.
    fn put(mut self, kind: u16, value: &[u8]) -> Self {
        let bytes = u16::try_from(ATTRIBUTE_BYTES + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&bytes.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn u32(self, kind: u16, value: u32) -> Self {
        self.put(kind, &value.to_ne_bytes())
    }

    pub(super) fn u64(self, kind: u16, value: u64) -> Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// A text, with the zero at its end that C wants.
    pub(super) fn text(self, kind: u16, text: &str) -> Self {
        self.put(kind, &[text.as_bytes(), &[0]].concat())
    }

    pub(super) fn nested(self, kind: u16, inner: &Self) -> Self {
        self.put(kind | NESTED, &inner.0)
    }

    /// The first attribute of this kind.
    pub(super) fn get(&self, wanted: u16) -> Option<&[u8]> {
        let mut rest = self.0.as_slice();
        while let [b0, b1, k0, k1, ..] = *rest {
            let bytes = usize::from(u16::from_ne_bytes([b0, b1]));
            let value = rest.get(ATTRIBUTE_BYTES..bytes)?;
            if u16::from_ne_bytes([k0, k1]) & !NESTED == wanted {
                return Some(value);
            }
            rest = rest.get(bytes.next_multiple_of(4)..).unwrap_or_default();
        }
        None
    }
}

/// A socket to one family.
pub(super) struct Netlink {
    socket: OwnedFd,
    family: u16,
}

impl Netlink {
    /// Finds the family; an error of [`io::ErrorKind::NotFound`] when the kernel has none of this name.
    pub(super) fn open(name: &str) -> io::Result<Self> {
        let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
        let socket = socket_with(family, SocketType::RAW, flags, Some(netlink::GENERIC))?;
        bind(&socket, &netlink::SocketAddrNetlink::new(0, 0))?;
        let control = Self { socket, family: CONTROL };
        let answer = control.ask(GET_FAMILY, &Attributes::default().text(FAMILY_NAME, name))?;
        match answer.get(FAMILY_ID) {
            Some(&[low, high]) => Ok(Self { family: u16::from_ne_bytes([low, high]), ..control }),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Asks, and gives what was answered, which may be nothing, when the kernel is done.
    pub(super) fn ask(&self, command: u8, attributes: &Attributes) -> io::Result<Attributes> {
        let message = message(self.family, command, attributes);
        loop {
            match send(&self.socket, &message, SendFlags::empty()) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let mut answer = Attributes::default();
        let mut buffer = vec![0; ANSWER_BYTES_MAX];
        loop {
            let read = match recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((read, _)) => read,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if let Some(ended) = take(&buffer[..read], &mut answer) {
                return ended.map(|()| answer);
            }
        }
    }
}

fn message(family: u16, command: u8, attributes: &Attributes) -> Vec<u8> {
    let bytes = HEADER_BYTES + COMMAND_BYTES + attributes.0.len();
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    // One question is under way at a time, so nobody needs its number; the kernel knows the sender.
    let (sequence, sender) = (1_u32, 0_u32);
    let mut out = bytes.to_ne_bytes().to_vec();
    out.extend_from_slice(&family.to_ne_bytes());
    out.extend_from_slice(&(REQUEST | ACKNOWLEDGE).to_ne_bytes());
    out.extend_from_slice(&sequence.to_ne_bytes());
    out.extend_from_slice(&sender.to_ne_bytes());
    out.extend_from_slice(&[command, 1, 0, 0]);
    out.extend_from_slice(&attributes.0);
    out
}

/// Reads the messages of one datagram. `Some` when the last was the end.
fn take(mut datagram: &[u8], answer: &mut Attributes) -> Option<io::Result<()>> {
    while let Some((header, _)) = datagram.split_first_chunk::<HEADER_BYTES>() {
        let [b0, b1, b2, b3, k0, k1, ..] = *header;
        let bytes = usize::try_from(u32::from_ne_bytes([b0, b1, b2, b3])).unwrap_or_default();
        let Some(body) = datagram.get(HEADER_BYTES..bytes) else {
            return Some(Err(io::ErrorKind::InvalidData.into()));
        };
        if u16::from_ne_bytes([k0, k1]) == ERROR {
            let code = body.first_chunk().map(|code| i32::from_ne_bytes(*code));
            return Some(match code {
                Some(0) => Ok(()),
                Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                None => Err(io::ErrorKind::InvalidData.into()),
            });
        }
        answer.0.extend_from_slice(body.get(COMMAND_BYTES..).unwrap_or_default());
        datagram = datagram.get(bytes.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_again() {
        let inner = Attributes::default().u32(1, 7);
        let all = Attributes::default().text(3, "four").nested(2, &inner).u64(9, 1 << 40);
        assert_eq!(all.get(3), Some(&b"four\0"[..]));
        assert_eq!(all.get(2).map(<[u8]>::to_vec), Some(inner.0));
        assert_eq!(all.get(9), Some(&(1_u64 << 40).to_ne_bytes()[..]));
        assert_eq!(all.get(4), None);
        assert_eq!(Attributes(vec![200, 0, 4, 0, 1]).get(4), None, "longer than what there is");
        assert_eq!(Attributes(vec![0; 8]).get(4), None, "shorter than its own header");
    }

    #[test]
    fn an_answer_is_taken_until_its_end() {
        let mut answer = Attributes::default();
        let said = message(40, 1, &Attributes::default().u32(1, 5));
        assert!(take(&said, &mut answer).is_none());
        assert_eq!(answer.get(1), Some(&5_u32.to_ne_bytes()[..]));
        let end = |code: i32| {
            let mut out = 20_u32.to_ne_bytes().to_vec();
            out.extend_from_slice(&ERROR.to_ne_bytes());
            out.resize(HEADER_BYTES, 0);
            out.extend_from_slice(&code.to_ne_bytes());
            out
        };
        let both = [said, end(0)].concat();
        assert!(take(&both, &mut answer).expect("an end").is_ok());
        let error = take(&end(-22), &mut answer).expect("an end").expect_err("refused");
        assert_eq!(error.raw_os_error(), Some(22));
        assert!(take(&[255; 16], &mut answer).expect("an end").is_err());
    }

    #[test]
    fn the_kernel_knows_no_family_of_that_name() {
        // Some sandboxes have no netlink at all.
        let error = Netlink::open("firn-none").err().expect("no such family");
        assert_ne!(error.kind(), io::ErrorKind::InvalidData);
    }
}
