//! Answers to requests, as the client has chosen to hear them.

use super::protocol::transmission::{
    Chunks, Mode, Request, SimpleReply, StatusExtent, chunk, command, command_flags,
};
use super::request::Refusal;
use super::send::Sender;
use crate::sys::MemorySlice;
use crate::units::{BLOCK_BYTES, BLOCK_LEN};

/// Shortest run of zeros within a read that is told instead of sent.
const HOLE_BLOCKS_MIN: usize = 16;

/// Answers one request.
pub(super) struct Reply<'a> {
    pub(super) sender: &'a mut Sender,
    pub(super) request: &'a Request,
    pub(super) mode: Mode,
}

impl Reply<'_> {
    fn chunks(&self) -> Chunks {
        let Request { cookie, offset, .. } = *self.request;
        Chunks { extended: self.mode == Mode::Extended, cookie, offset }
    }

    fn simple(self, error: u32) {
        let reply = SimpleReply { error, cookie: self.request.cookie };
        self.sender.head(|out| out.extend_from_slice(&reply.encode()));
    }

    /// It is done, and there is nothing to say.
    pub(super) fn done(self) {
        let chunks = self.chunks();
        match self.mode {
            Mode::Extended => self.sender.head(|out| chunks.put_none(out, chunk::DONE)),
            // Shorter, and as good.
            Mode::Simple | Mode::Structured => self.simple(0),
        }
    }

    /// It was not done.
    pub(super) fn refused(self, refusal: &Refusal) {
        let chunks = self.chunks();
        match self.mode {
            Mode::Simple => self.simple(refusal.errno),
            _ => self.sender.head(|out| chunks.put_error(out, refusal.errno, &refusal.message)),
        }
    }

    /// What was read, in a buffer of `charge` bytes. Long runs of zeros are told, unless the client wants one piece.
    pub(super) fn data(self, data: MemorySlice, charge: usize) {
        debug_assert_eq!(self.request.command, command::READ);
        let (chunks, offset) = (self.chunks(), self.request.offset);
        if self.mode == Mode::Simple {
            let reply = SimpleReply { error: 0, cookie: self.request.cookie };
            self.sender.head(|out| out.extend_from_slice(&reply.encode()));
            self.sender.data(data, charge);
            return;
        }
        let fragments = self.request.flags & command_flags::DF == 0;
        let runs = if fragments { runs(&data, offset) } else { vec![(data.len(), false)] };
        let last_data = runs.iter().rposition(|&(_, zero)| !zero);
        // The slices keep the whole buffer, holes included, until the last of them is sent.
        let mut uncharged = charge.max(data.len());
        let mut at = 0;
        for (index, &(length, zero)) in runs.iter().enumerate() {
            let flags = if index + 1 == runs.len() { chunk::DONE } else { 0 };
            let place = offset + at as u64;
            let bytes = u32::try_from(length).expect("at most 32 MiB");
            if zero {
                self.sender.head(|out| chunks.put_hole(out, flags, place, bytes));
            } else {
                self.sender.head(|out| chunks.put_data_header(out, flags, place, bytes));
                let charge = if Some(index) == last_data { uncharged } else { length };
                uncharged -= charge;
                self.sender.data(data.slice(at, length), charge);
            }
            at += length;
        }
    }

    /// What each context says; its number is its place.
    pub(super) fn status(self, contexts: &[Vec<StatusExtent>]) {
        let chunks = self.chunks();
        for (id, extents) in (0_u32..).zip(contexts) {
            let last = usize::try_from(id).is_ok_and(|id| id + 1 == contexts.len());
            let flags = if last { chunk::DONE } else { 0 };
            self.sender.charged_head(|out| chunks.put_status(out, flags, id, extents));
        }
    }
}

/// Cuts data read from `offset` into runs of (bytes, whether they are zeros). Zeros are whole blocks: all there is, or
/// at least [`HOLE_BLOCKS_MIN`] in a row.
fn runs(data: &MemorySlice, offset: u64) -> Vec<(usize, bool)> {
    if !offset.is_multiple_of(BLOCK_BYTES) || data.len() < BLOCK_LEN {
        return vec![(data.len(), false)];
    }
    let mut runs: Vec<(usize, bool)> = Vec::with_capacity(1);
    for at in (0..data.len()).step_by(BLOCK_LEN) {
        let length = BLOCK_LEN.min(data.len() - at);
        let zero = is_zero(data.bytes(at, length));
        match runs.last_mut() {
            Some((bytes, same)) if *same == zero => *bytes += length,
            _ => runs.push((length, zero)),
        }
    }
    if runs.len() == 1 {
        return runs;
    }
    let mut joined: Vec<(usize, bool)> = Vec::with_capacity(runs.len());
    for (bytes, zero) in runs {
        let zero = zero && bytes >= HOLE_BLOCKS_MIN * BLOCK_LEN;
        match joined.last_mut() {
            Some((before, false)) if !zero => *before += bytes,
            _ => joined.push((bytes, zero)),
        }
    }
    joined
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().take(16).all(|&byte| byte == 0)
        && bytes.chunks(64).all(|part| part.iter().fold(0, |or, &byte| or | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Memory;

    /// One block of data in a large buffer once cost a client that does not read only the block.
    #[test]
    fn data_with_holes_is_charged_for_the_buffer_it_keeps() {
        let data = MemorySlice::whole(Memory::heap(64 * BLOCK_LEN));
        data.copy_in(20 * BLOCK_LEN, b"x");
        data.copy_in(50 * BLOCK_LEN, b"x");
        let mut sender = Sender::default();
        let request = Request {
            extended: false,
            flags: 0,
            command: command::READ,
            cookie: 1,
            offset: 0,
            length: 64 * 4096,
        };
        let reply = Reply { sender: &mut sender, request: &request, mode: Mode::Structured };
        reply.data(data, 128 * BLOCK_LEN);
        assert_eq!(sender.charge(), 128 * BLOCK_LEN);
    }

    #[test]
    fn only_long_runs_of_zeros_are_told() {
        let data = MemorySlice::whole(Memory::heap(40 * BLOCK_LEN));
        assert_eq!(runs(&data, 0), [(40 * BLOCK_LEN, true)]);
        data.copy_in(0, b"x");
        data.copy_in(3 * BLOCK_LEN, b"x");
        data.copy_in(20 * BLOCK_LEN + 4095, b"x");
        let expected = [(4 * BLOCK_LEN, false), (16 * BLOCK_LEN, true), (BLOCK_LEN, false)];
        assert_eq!(runs(&data, 4096), [&expected[..], &[(19 * BLOCK_LEN, true)]].concat());
        assert_eq!(runs(&data, 512), [(40 * BLOCK_LEN, false)], "unaligned: blocks are not where they seem");
    }
}
