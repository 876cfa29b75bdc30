//! Replies: read, put together, and handed to those who wait.

use std::io::{self, Read};

use super::connection::ReadHalf;
use super::link::State;
use super::request::{Pending, Request};
use crate::error::{Error, Kind};
use crate::export::nbd::protocol::transmission::{
    self, CHUNK_HEADER_BYTES, CHUNK_MAGIC, ChunkHeader, SIMPLE_REPLY_BYTES, SIMPLE_REPLY_MAGIC, SimpleReply,
    chunk,
};
use crate::export::nbd::protocol::{Malformed, Reader, errno};

/// Longest payload of a chunk that is no data: an error's message or a list of extents.
const PAYLOAD_BYTES_MAX: u32 = 64 << 10;

/// Why no more replies come.
enum Broken {
    Stream(io::Error),
    Malformed(&'static str),
    /// The server said that it ends. What it did not do is asked of its successor.
    ServerEnds,
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Stream(error)
    }
}

impl From<Malformed> for Broken {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error.0)
    }
}

impl State {
    /// Hands out answers until the connection breaks.
    pub(super) fn receive(&self, from: &mut ReadHalf) -> Error {
        let broken = loop {
            if let Err(broken) = self.reply(from) {
                break broken;
            }
        };
        match broken {
            Broken::Stream(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
                Error::new(Kind::Unavailable, "use NBD export", "the server closed the connection")
            }
            Broken::Stream(source) => Error::io("use NBD export", "the connection broke", source),
            Broken::Malformed(why) => Error::new(Kind::Unavailable, "use NBD export", why),
            Broken::ServerEnds => Error::new(Kind::Unavailable, "use NBD export", "the server is ending"),
        }
    }

    fn reply(&self, from: &mut ReadHalf) -> Result<(), Broken> {
        let mut header = [0; CHUNK_HEADER_BYTES];
        let (magic, rest) = header.split_at_mut(4);
        from.read_exact(magic)?;
        match Reader::new(magic).u32()? {
            SIMPLE_REPLY_MAGIC => {
                let mut reply = [0; SIMPLE_REPLY_BYTES];
                reply[..4].copy_from_slice(magic);
                from.read_exact(&mut reply[4..])?;
                let reply = SimpleReply::decode(&reply)?;
                self.with(reply.cookie, |pending| simple(pending, &reply, from))
            }
            CHUNK_MAGIC => {
                from.read_exact(rest)?;
                let header = ChunkHeader::decode(&header)?;
                self.with(header.cookie, |pending| chunk(pending, &header, from))
            }
            _ => Err(Broken::Malformed("a reply starts with a wrong magic")),
        }
    }

    /// Lets `read` add to what there is of an answer; it says whether that is the end of it.
    fn with(
        &self,
        cookie: u64,
        read: impl FnOnce(&mut Pending) -> Result<bool, Broken>,
    ) -> Result<(), Broken> {
        let unknown = Broken::Malformed("a reply is to no request");
        let mut pending = self.take(cookie).ok_or(unknown)?;
        match read(&mut pending) {
            Ok(false) => {
                self.put_back(cookie, pending);
                Ok(())
            }
            Ok(true) => {
                let Pending { request, callback, answer } = pending;
                match answer.finish(&request) {
                    Some(result) => {
                        self.answer(callback, result);
                        Ok(())
                    }
                    None => {
                        let answer = super::request::Answer::default();
                        self.put_back(cookie, Pending { request, callback, answer });
                        Err(Broken::Malformed("a reply ended before all of it was there"))
                    }
                }
            }
            Err(broken) => {
                self.put_back(cookie, pending);
                Err(broken)
            }
        }
    }
}

fn simple(pending: &mut Pending, reply: &SimpleReply, from: &mut ReadHalf) -> Result<bool, Broken> {
    match (reply.error, &*pending.request) {
        (errno::ESHUTDOWN, _) => return Err(Broken::ServerEnds),
        (0, &Request::Read { offset, bytes }) => data(pending, offset, bytes, from)?,
        (0, _) => {}
        (error, _) => pending.answer.fail(error, ""),
    }
    Ok(true)
}

fn chunk(pending: &mut Pending, header: &ChunkHeader, from: &mut ReadHalf) -> Result<bool, Broken> {
    match header.kind {
        chunk::NONE if header.length == 0 => {}
        chunk::OFFSET_DATA if header.length > 8 => {
            let mut offset = [0; 8];
            from.read_exact(&mut offset)?;
            data(pending, u64::from_be_bytes(offset), header.length - 8, from)?;
        }
        chunk::OFFSET_HOLE if header.length == 12 => {
            let payload = payload(header, from)?;
            let mut reader = Reader::new(&payload);
            let (offset, bytes) = (reader.u64()?, reader.u32()?);
            let request = pending.request.clone();
            pending.answer.part(&request, offset, bytes).ok_or(OUT_OF_RANGE)?.fill(0);
        }
        chunk::BLOCK_STATUS => {
            let payload = payload(header, from)?;
            pending.answer.add_status(transmission::read_status(&payload)?.1);
        }
        kind if kind >= chunk::ERRORS => {
            let payload = payload(header, from)?;
            let (error, message) = transmission::read_error(&payload)?;
            if error == errno::ESHUTDOWN {
                return Err(Broken::ServerEnds);
            }
            pending.answer.fail(error, message);
        }
        _ => return Err(Broken::Malformed("a chunk has an unknown kind or a wrong length")),
    }
    Ok(header.flags & chunk::DONE != 0)
}

const OUT_OF_RANGE: Broken = Broken::Malformed("a chunk is not in the range that was asked for");

fn data(pending: &mut Pending, offset: u64, bytes: u32, from: &mut ReadHalf) -> Result<(), Broken> {
    let request = pending.request.clone();
    let into = pending.answer.part(&request, offset, bytes).ok_or(OUT_OF_RANGE)?;
    Ok(from.read_exact(into)?)
}

fn payload(header: &ChunkHeader, from: &mut ReadHalf) -> Result<Vec<u8>, Broken> {
    if header.length > PAYLOAD_BYTES_MAX {
        return Err(Broken::Malformed("a chunk is too long"));
    }
    let mut payload = vec![0; usize::try_from(header.length).unwrap_or_default()];
    from.read_exact(&mut payload)?;
    Ok(payload)
}
