//! Reads and writes of any length: cut into pieces, several under way at once.

use std::sync::mpsc::{Receiver, channel};

use super::Handle;
use crate::core::{Request, Response, Target};
use crate::error::{Error, Kind, Result};
use crate::sys::MemorySlice;
use crate::units::VolumeId;

/// Pieces end at multiples of this, in bytes, so that only a request's own ends can be unaligned.
const PIECE_BYTES: u64 = 1 << 20;
/// Pieces under way at once.
const PIECES_MAX: usize = 8;

type Answers = Receiver<(usize, Result<Response>)>;

impl Handle {
    /// Fills `into` from `offset`. Several pieces of a long read may see different moments.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the range is not aligned to 512 bytes or reaches beyond the end; [`Kind::Damaged`] when
    /// a block is not what was written, and then the content of `into` is arbitrary.
    pub fn read(&self, target: Target, offset: u64, into: &mut [u8]) -> Result<()> {
        let pieces = pieces(offset, into.len());
        if let [_] = pieces[..] {
            let length = into.len() as u64;
            return copy(self.call(Request::Read { target, offset, length })?, into);
        }
        self.pipeline(
            &pieces,
            |piece| {
                let (offset, length) = (piece.offset, piece.length as u64);
                Request::Read { target, offset, length }
            },
            |piece, response| copy(response, &mut into[piece.at..piece.at + piece.length]),
        )
    }

    /// Writes `data` to `offset`; with `fua` durable on return. Each piece of at most 1 MiB takes effect by itself.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for the range as in [`read`](Self::read), [`Kind::OutOfSpace`], [`Kind::Unavailable`] on a
    /// pool that is read-only after a failure. Some of it may then have been written.
    pub fn write(&self, volume: VolumeId, offset: u64, data: &[u8], fua: bool) -> Result<()> {
        let pieces = pieces(offset, data.len());
        if let [_] = pieces[..] {
            let data = self.filled(data);
            return self.call(Request::Write { volume, offset, data, fua }).map(drop);
        }
        let request = |piece: &Piece| {
            let data = self.filled(&data[piece.at..piece.at + piece.length]);
            Request::Write { volume, offset: piece.offset, data, fua: false }
        };
        self.pipeline(&pieces, request, |_, _| Ok(()))?;
        // One flush at the end costs less than one for each piece.
        if fua { self.flush() } else { Ok(()) }
    }

    fn filled(&self, data: &[u8]) -> MemorySlice {
        let slice = self.buffer(data.len());
        slice.copy_in(0, data);
        slice
    }

    fn pipeline(
        &self,
        pieces: &[Piece],
        mut request: impl FnMut(&Piece) -> Request,
        mut take: impl FnMut(&Piece, Response) -> Result<()>,
    ) -> Result<()> {
        let (sender, answers) = channel();
        let mut result = Ok(());
        let mut under_way = 0;
        for (index, piece) in pieces.iter().enumerate() {
            if under_way == PIECES_MAX {
                result = result.and(one(&answers, pieces, &mut take));
                under_way -= 1;
            }
            if result.is_err() {
                break;
            }
            let sender = sender.clone();
            // The receiver waits below for every answer.
            self.submit(request(piece), move |result| _ = sender.send((index, result)));
            under_way += 1;
        }
        for _ in 0..under_way {
            let taken = one(&answers, pieces, &mut take);
            result = result.and(taken);
        }
        result
    }
}

fn one(
    answers: &Answers,
    pieces: &[Piece],
    take: &mut impl FnMut(&Piece, Response) -> Result<()>,
) -> Result<()> {
    let lost = |_| Error::new(Kind::Bug, "wait for the pool", "a request was never answered");
    let (index, result) = answers.recv().map_err(lost)?;
    take(&pieces[index], result?)
}

fn copy(response: Response, into: &mut [u8]) -> Result<()> {
    match response {
        Response::Data(data) if data.len() == into.len() => {
            data.copy_out(0, into);
            Ok(())
        }
        other => Err(Error::new(Kind::Bug, "read", format!("a read was answered with {other:?}"))),
    }
}

/// A part of a request: where in the volume, where in the caller's bytes, and how long.
#[derive(Debug, PartialEq, Eq)]
struct Piece {
    offset: u64,
    at: usize,
    length: usize,
}

/// At least one piece, so that the core gets to see a range that is empty or wrong.
fn pieces(offset: u64, length: usize) -> Vec<Piece> {
    if offset.checked_add(length as u64).is_none() {
        return vec![Piece { offset, at: 0, length }];
    }
    let mut pieces = Vec::with_capacity(1);
    let mut at = 0;
    loop {
        let here = offset + at as u64;
        let room = usize::try_from(PIECE_BYTES - here % PIECE_BYTES).unwrap_or(usize::MAX);
        let part = room.min(length - at);
        pieces.push(Piece { offset: here, at, length: part });
        at += part;
        if at == length {
            return pieces;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_at_multiples_and_cover_everything() {
        let piece = |offset, at, length| Piece { offset, at, length };
        assert_eq!(pieces(512, 0), [piece(512, 0, 0)]);
        assert_eq!(pieces(0, 1 << 20), [piece(0, 0, 1 << 20)]);
        let odd = (1 << 20) - 512;
        assert_eq!(pieces(512, 1 << 20), [piece(512, 0, odd), piece(1 << 20, odd, 512)]);
        assert_eq!(pieces(u64::MAX, 4096).len(), 1, "left to the core to refuse");
    }
}
