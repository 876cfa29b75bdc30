//! The same requests, waited for, and of any length.

use std::sync::mpsc::{channel, sync_channel};

use super::super::protocol::allocation;
use super::{Client, Request, Response, StatusExtent, closed};
use crate::error::{Error, Kind, Result};

/// Requests of one call that are under way at once.
const UNDER_WAY_MAX: usize = 8;

/// A run of bytes of which the server says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it starts.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// It reads as zeros.
    pub is_zero: bool,
}

impl Client {
    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// As [`Client::submit`] hands to its callback.
    pub fn call(&self, request: Request) -> Result<Response> {
        let (sender, receiver) = sync_channel(1);
        // Nobody else sends, so there is room; and the receiver waits right here.
        self.submit(request, Box::new(move |result| _ = sender.send(result)));
        receiver.recv().unwrap_or_else(|_| Err(closed()))
    }

    /// Fills `into` from `offset`, by as many requests as that takes, several at once.
    ///
    /// # Errors
    /// As [`Client::submit`] hands to its callback; `into` is then filled in part.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<()> {
        let (longest, length) = (self.longest(), into.len());
        let requests = (0..length).step_by(longest).map(|at| Request::Read {
            offset: offset.saturating_add(at as u64),
            bytes: u32::try_from(longest.min(length - at)).unwrap_or(u32::MAX),
        });
        self.pipeline(requests, |number, response| match response {
            Response::Data(data) => {
                into[number * longest..][..data.len()].copy_from_slice(&data);
                Ok(())
            }
            other => Err(unexpected(&other)),
        })
    }

    /// Writes `data` at `offset`, by as many requests as that takes, several at once. It is durable after the next
    /// [`flush`](Client::flush).
    ///
    /// # Errors
    /// As [`Client::submit`] hands to its callback; some parts may then be written and others not.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        let longest = self.longest();
        let requests = data.chunks(longest).enumerate().map(|(number, part)| Request::Write {
            offset: offset.saturating_add((number * longest) as u64),
            data: part.to_vec(),
            is_durable: false,
        });
        self.pipeline(requests, |_, _| Ok(()))
    }

    /// Sends the requests in their order and gives `take` each answer with its request's number. After an error
    /// nothing more is sent, and what is under way is waited for.
    fn pipeline(
        &self,
        requests: impl Iterator<Item = Request>,
        mut take: impl FnMut(usize, Response) -> Result<()>,
    ) -> Result<()> {
        let mut requests = requests.enumerate();
        let (sender, answers) = channel();
        let (mut result, mut under_way) = (Ok(()), 0);
        loop {
            while under_way < UNDER_WAY_MAX && result.is_ok() {
                let Some((number, request)) = requests.next() else { break };
                let sender = sender.clone();
                // The receiver waits below for every answer.
                self.submit(request, Box::new(move |answer| _ = sender.send((number, answer))));
                under_way += 1;
            }
            if under_way == 0 {
                return result;
            }
            let (number, answer) = answers.recv().map_err(|_| closed())?;
            under_way -= 1;
            result = result.and(answer.and_then(|response| take(number, response)));
        }
    }

    /// Makes a range zeros, as holes where the server can.
    ///
    /// # Errors
    /// As [`Client::submit`] hands to its callback; a part may then be zeros.
    pub fn zero(&self, offset: u64, bytes: u64) -> Result<()> {
        self.each_piece(offset, bytes, |offset, bytes| self.call(Request::Zero { offset, bytes }).map(drop))
    }

    /// Makes durable what was written before.
    ///
    /// # Errors
    /// What the server says.
    pub fn flush(&self) -> Result<()> {
        self.call(Request::Flush).map(drop)
    }

    /// Shows `visit` what a range is, in order and without gaps. A server that does not say is taken to have data
    /// everywhere.
    ///
    /// # Errors
    /// What the server or `visit` says; [`Kind::Unavailable`] for an answer that makes no sense.
    pub fn extents(
        &self,
        offset: u64,
        bytes: u64,
        mut visit: impl FnMut(Extent) -> Result<()>,
    ) -> Result<()> {
        if self.export().allocation.is_none() {
            return visit(Extent { offset, bytes, is_zero: false });
        }
        self.each_piece(offset, bytes, |mut offset, bytes| {
            let end = offset + u64::from(bytes);
            while offset < end {
                let rest = u32::try_from(end - offset).unwrap_or(u32::MAX);
                let extents = match self.call(Request::Status { offset, bytes: rest })? {
                    Response::Status(extents) => extents,
                    other => return Err(unexpected(&other)),
                };
                for StatusExtent { bytes, status } in extents {
                    // The last may go beyond the question.
                    let bytes = bytes.min(end - offset);
                    if bytes == 0 && offset < end {
                        return Err(Error::new(
                            Kind::Unavailable,
                            "use NBD export",
                            "the server sent an empty extent",
                        ));
                    }
                    if bytes > 0 {
                        visit(Extent { offset, bytes, is_zero: status & allocation::ZERO != 0 })?;
                    }
                    offset += bytes;
                }
            }
            Ok(())
        })
    }

    /// The longest read or write, a multiple of 4 KiB where the export allows as much.
    fn longest(&self) -> usize {
        let maximum = self.export().maximum.min(1 << 20);
        usize::try_from(maximum & !4095).ok().filter(|bytes| *bytes > 0).unwrap_or(512)
    }

    /// Cuts a range into what one request without data may have.
    fn each_piece(
        &self,
        offset: u64,
        bytes: u64,
        mut work: impl FnMut(u64, u32) -> Result<()>,
    ) -> Result<()> {
        const PIECE: u32 = 1 << 30;
        let (mut at, mut left) = (offset, bytes);
        while left > 0 {
            let piece = u32::try_from(left).unwrap_or(u32::MAX).min(PIECE);
            work(at, piece)?;
            at = at.saturating_add(piece.into());
            left -= u64::from(piece);
        }
        Ok(())
    }
}

fn unexpected(response: &Response) -> Error {
    Error::new(Kind::Bug, "use NBD export", format!("an answer of another kind: {response:?}"))
}
