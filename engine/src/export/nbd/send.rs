//! What a connection has to send: headers in one buffer, data where the engine left it, passed to the kernel together.
//!
//! Data is charged for until the last byte of it is sent; the sender says how much of the charge is over.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use crate::sys::{MemorySlice, SEND_PARTS_MAX, Socket};

/// Most bytes that one flush sends, so that one connection never keeps the others waiting for long.
const FLUSH_BYTES_MAX: usize = 1 << 20;

/// Room for headers that is kept while there are none.
const HEADS_KEPT: usize = 64 << 10;

enum Piece {
    /// So many of the next bytes of `heads`.
    Head(usize),
    Data(MemorySlice),
}

/// How a flush went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flushed {
    /// Charge that is over.
    pub(super) charge: usize,
    /// Whether something went out.
    pub(super) moved: bool,
    /// Whether the socket takes no more.
    pub(super) blocked: bool,
}

/// A connection's bytes to be sent.
#[derive(Default)]
pub(super) struct Sender {
    heads: Vec<u8>,
    /// Bytes of `heads` that are sent.
    heads_sent: usize,
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that are sent.
    piece_sent: usize,
    charge: usize,
}

impl Sender {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// What is charged for the data that waits.
    pub(super) fn charge(&self) -> usize {
        self.charge
    }

    /// Bytes of headers, errors and block status that wait.
    pub(super) fn head_bytes(&self) -> usize {
        self.heads.len() - self.heads_sent
    }

    /// Appends a header, or several, as `put` writes them.
    pub(super) fn head(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        let before = self.heads.len();
        put(&mut self.heads);
        let bytes = self.heads.len() - before;
        match self.pieces.back_mut() {
            Some(Piece::Head(last)) => *last += bytes,
            _ => self.pieces.push_back(Piece::Head(bytes)),
        }
    }

    /// Appends data, for which its length is charged.
    pub(super) fn data(&mut self, data: MemorySlice) {
        self.charge += data.len();
        self.pieces.push_back(Piece::Data(data));
    }

    /// Sends what the socket takes.
    pub(super) fn flush(&mut self, socket: &Socket) -> io::Result<Flushed> {
        let mut flushed = Flushed { charge: 0, moved: false, blocked: false };
        let mut sent = 0;
        while !self.pieces.is_empty() && sent < FLUSH_BYTES_MAX {
            match self.send(socket) {
                Ok(bytes) => {
                    sent += bytes;
                    flushed.moved = true;
                    flushed.charge += self.passed(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    flushed.blocked = true;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(flushed)
    }

    fn send(&self, socket: &Socket) -> io::Result<usize> {
        let mut parts: [IoSlice<'_>; SEND_PARTS_MAX] = [IoSlice::new(&[]); SEND_PARTS_MAX];
        let (mut count, mut head, mut skip) = (0, self.heads_sent, self.piece_sent);
        for (part, piece) in parts.iter_mut().zip(&self.pieces) {
            *part = match piece {
                Piece::Head(bytes) => {
                    let rest = &self.heads[head..head + bytes - skip];
                    head += rest.len();
                    IoSlice::new(rest)
                }
                Piece::Data(data) => IoSlice::new(data.bytes(skip, data.len() - skip)),
            };
            skip = 0;
            count += 1;
        }
        socket.send(&parts[..count])
    }

    /// Takes note of bytes that are sent; says what charge is over.
    fn passed(&mut self, mut bytes: usize) -> usize {
        let mut over = 0;
        while let Some(piece) = self.pieces.front() {
            let length = match piece {
                Piece::Head(bytes) => *bytes,
                Piece::Data(data) => data.len(),
            };
            let here = bytes.min(length - self.piece_sent);
            if matches!(piece, Piece::Head(_)) {
                self.heads_sent += here;
            }
            self.piece_sent += here;
            bytes -= here;
            if self.piece_sent < length {
                break;
            }
            if matches!(piece, Piece::Data(_)) {
                over += length;
            }
            self.piece_sent = 0;
            self.pieces.pop_front();
        }
        if self.heads_sent == self.heads.len() {
            self.heads.clear();
            self.heads.shrink_to(HEADS_KEPT);
            self.heads_sent = 0;
        }
        self.charge -= over;
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Memory;

    #[test]
    fn everything_arrives_in_order_through_a_socket_that_is_full() {
        let (server, client) = Socket::pair().expect("a pair");
        let mut sender = Sender::default();
        let mut expected = Vec::new();
        for number in 0..100_u8 {
            sender.head(|out| out.extend([number; 28]));
            sender.head(|out| out.extend([0xee; 16]));
            let data = MemorySlice::whole(Memory::heap(10_000));
            data.copy_in(0, &[number; 10_000]);
            sender.data(data);
            expected.extend([&[number; 28][..], &[0xee; 16], &[number; 10_000]].concat());
        }
        assert_eq!(sender.charge(), 1_000_000);
        let (mut found, mut charge, mut blocked) = (Vec::<u8>::new(), 0, false);
        while !sender.is_empty() {
            let flushed = sender.flush(&server).expect("sent");
            charge += flushed.charge;
            blocked |= flushed.blocked;
            let mut part = vec![0; 30_000];
            let bytes = client.receive_bytes(&mut part).expect("received");
            found.extend(&part[..bytes]);
        }
        loop {
            let mut part = vec![0; 1 << 20];
            let Ok(bytes) = client.receive_bytes(&mut part) else { break };
            found.extend(&part[..bytes]);
        }
        assert!(blocked, "the socket was never full");
        assert!(found == expected, "{} of {} bytes", found.len(), expected.len());
        assert_eq!((charge, sender.charge()), (1_000_000, 0));
    }
}
