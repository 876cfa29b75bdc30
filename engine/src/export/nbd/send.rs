//! What a connection has to send: headers in one buffer, data where the engine left it, passed to the kernel together.
//!
//! What keeps memory is charged for until the last byte of it is sent; the sender says how much of the charge is over.
//! What of the headers is sent is let go of even if the queue never runs empty.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use crate::sys::{MemorySlice, SEND_PARTS_MAX, Socket};

/// Most bytes that one flush sends, so that one connection never keeps the others waiting for long.
const FLUSH_BYTES_MAX: usize = 1 << 20;

/// Room for headers that is kept while there are none.
const HEADS_KEPT: usize = 64 << 10;

enum Piece {
    /// So many of the next bytes of `heads`, and what is charged for them.
    Head(usize, usize),
    /// Data, and what is charged for it.
    Data(MemorySlice, usize),
}

/// How a flush went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flushed {
    /// Charge that is over.
    pub(super) charge: usize,
    /// Bytes that went out.
    pub(super) bytes: usize,
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
        self.put(put, false);
    }

    /// Appends what may be long, as `put` writes it, and charges its length.
    pub(super) fn charged_head(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        self.put(put, true);
    }

    fn put(&mut self, put: impl FnOnce(&mut Vec<u8>), charged: bool) {
        let before = self.heads.len();
        put(&mut self.heads);
        let bytes = self.heads.len() - before;
        let charge = if charged { bytes } else { 0 };
        self.charge += charge;
        match self.pieces.back_mut() {
            Some(Piece::Head(last, before)) => (*last, *before) = (*last + bytes, *before + charge),
            _ => self.pieces.push_back(Piece::Head(bytes, charge)),
        }
    }

    /// Appends data and charges for it. That is more than its length where it keeps a larger buffer from being let go.
    pub(super) fn data(&mut self, data: MemorySlice, charge: usize) {
        self.charge += charge;
        self.pieces.push_back(Piece::Data(data, charge));
    }

    /// Sends what the socket takes.
    pub(super) fn flush(&mut self, socket: &Socket) -> io::Result<Flushed> {
        let mut flushed = Flushed { charge: 0, bytes: 0, blocked: false };
        while !self.pieces.is_empty() && flushed.bytes < FLUSH_BYTES_MAX {
            match self.send(socket) {
                Ok(bytes) => {
                    flushed.bytes += bytes;
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
                Piece::Head(bytes, _) => {
                    let rest = &self.heads[head..head + bytes - skip];
                    head += rest.len();
                    IoSlice::new(rest)
                }
                Piece::Data(data, _) => IoSlice::new(data.bytes(skip, data.len() - skip)),
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
            let (length, charge) = match piece {
                Piece::Head(bytes, charge) => (*bytes, *charge),
                Piece::Data(data, charge) => (data.len(), *charge),
            };
            let here = bytes.min(length - self.piece_sent);
            if matches!(piece, Piece::Head(..)) {
                self.heads_sent += here;
            }
            self.piece_sent += here;
            bytes -= here;
            if self.piece_sent < length {
                break;
            }
            over += charge;
            self.piece_sent = 0;
            self.pieces.pop_front();
        }
        if self.heads_sent == self.heads.len() {
            self.heads.clear();
            self.heads.shrink_to(HEADS_KEPT);
            self.heads_sent = 0;
        } else if self.heads_sent >= HEADS_KEPT {
            self.heads.drain(..self.heads_sent);
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
            sender.data(data, 10_000);
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

    /// A client that reads steadily, but never all of it, once made every header ever sent stay in memory.
    #[test]
    fn headers_that_are_sent_are_let_go_of_while_others_wait() {
        let (server, client) = Socket::pair().expect("a pair");
        let mut sender = Sender::default();
        let mut part = vec![0; 64 << 10];
        for _ in 0..200 {
            sender.charged_head(|out| out.resize(out.len() + (32 << 10), 7));
            sender.flush(&server).expect("sent");
            assert!(sender.heads.len() <= sender.head_bytes() + HEADS_KEPT, "what is sent is kept");
            while sender.head_bytes() > 128 << 10 {
                client.receive_bytes(&mut part).expect("received");
                sender.flush(&server).expect("sent");
            }
        }
        assert!(!sender.is_empty(), "the queue must never have run empty");
        assert!(sender.charge() >= sender.head_bytes(), "what waits is charged");
    }
}
