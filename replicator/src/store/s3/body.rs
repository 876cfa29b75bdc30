//! Bodies that are sent: in memory when they are small, else in a file that has no name.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use md5::{Digest, Md5};

use crate::error::{Error, Result};

/// Bytes read from the file at a time.
const FRAME_BYTES: usize = 128 << 10;

/// A body, as often as it is needed.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Memory(Bytes),
    File { file: Arc<File>, bytes: u64 },
}

impl From<&[u8]> for Body {
    fn from(bytes: &[u8]) -> Self {
        Self::Memory(Bytes::copy_from_slice(bytes))
    }
}

impl Body {
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Memory(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Self::File { bytes, .. } => *bytes,
        }
    }

    /// Its part from `offset`, `length` bytes long; both lie within it.
    pub(super) fn part(&self, offset: u64, length: u64) -> Part {
        match self {
            Self::Memory(bytes) => {
                let at = |position: u64| usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
                Part::Memory(bytes.slice(at(offset)..at(offset.saturating_add(length))))
            }
            Self::File { file, .. } => Part::File { file: Arc::clone(file), offset, end: offset + length },
        }
    }

    pub(super) fn whole(&self) -> Part {
        self.part(0, self.bytes())
    }
}

/// Bytes that one request sends.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Memory(Bytes),
    File { file: Arc<File>, offset: u64, end: u64 },
}

impl Part {
    /// It as a stream that begins anew for each attempt.
    pub(super) fn stream(&self) -> ByteStream {
        match self {
            Self::Memory(bytes) => ByteStream::from(bytes.clone()),
            Self::File { .. } => {
                let part = self.clone();
                ByteStream::new(SdkBody::retryable(move || SdkBody::from_body_1_x(part.clone())))
            }
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Memory(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Self::File { offset, end, .. } => end - offset,
        }
    }

    /// The value of `Content-MD5`, which every service holds what it received against.
    pub(super) fn md5(&self) -> Result<String> {
        let mut digest = Md5::new();
        let mut rest = self.clone();
        while let Some(bytes) =
            rest.next().map_err(|source| Error::io("read staged object", "staging file", source))?
        {
            digest.update(&bytes);
        }
        Ok(STANDARD.encode(digest.finalize()))
    }

    /// Takes the next bytes off its front; nothing at its end.
    fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        match self {
            Self::Memory(bytes) if bytes.is_empty() => Ok(None),
            Self::Memory(bytes) => Ok(Some(bytes.split_to(bytes.len()))),
            Self::File { offset, end, .. } if offset == end => Ok(None),
            Self::File { file, offset, end } => {
                let length = usize::try_from(*end - *offset).unwrap_or(usize::MAX).min(FRAME_BYTES);
                let mut frame = vec![0; length];
                file.read_exact_at(&mut frame, *offset)?;
                *offset += u64::try_from(length).unwrap_or(u64::MAX);
                Ok(Some(frame.into()))
            }
        }
    }
}

impl http_body::Body for Part {
    type Data = Bytes;
    type Error = std::io::Error;

    /// Reads the file on the client's own thread: it was written a moment ago and mostly lies in memory.
    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        Poll::Ready(self.get_mut().next().transpose().map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn collect(mut part: Part) -> Vec<u8> {
        std::iter::from_fn(|| part.next().unwrap()).flatten().collect()
    }

    #[test]
    fn parts_of_a_file_and_of_memory_are_the_same() {
        let content: Vec<u8> =
            (0..3 * FRAME_BYTES + 7).map(|index| u8::try_from(index % 251).unwrap()).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        let bytes = u64::try_from(content.len()).unwrap();
        let (memory, file) = (Body::from(content.as_slice()), Body::File { file: Arc::new(file), bytes });
        assert_eq!(memory.bytes(), file.bytes());
        for (offset, length) in [(0, bytes), (5, 0), (5, 300_000), (bytes - 1, 1), (bytes, 0)] {
            let (one, other) = (memory.part(offset, length), file.part(offset, length));
            assert_eq!(one.bytes(), length);
            assert_eq!(one.md5().unwrap(), other.md5().unwrap());
            assert_eq!(collect(one), collect(other));
        }
        // RFC 1321, A.5, in base64.
        assert_eq!(Body::from(b"abc".as_slice()).whole().md5().unwrap(), "kAFQmDzST7DWlj99KOF/cg==");
    }
}
