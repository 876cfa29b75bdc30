//! The device, used one step after the other: while a pool is opened nobody else needs it.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use crate::checksum::checksum;
use crate::device::{Device, DeviceRequest};
use crate::error::{Error, Kind, Result};
use crate::sys::{Memory, MemorySlice};
use crate::units::{BLOCK_LEN, Lsn, PhysicalBlock};

/// Most requests in flight, and most blocks in one of them, while data is verified.
const DEPTH: usize = 32;
const READ_BLOCKS_MAX: usize = 64;

/// A device whose requests are waited for.
pub(super) struct Blocking<'a> {
    device: &'a mut dyn Device,
    in_flight: usize,
    next_token: u64,
    ended: Vec<(u64, std::io::Result<()>)>,
}

impl<'a> Blocking<'a> {
    pub(super) fn new(device: &'a mut dyn Device) -> Self {
        Self { device, in_flight: 0, next_token: 0, ended: Vec::new() }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.device.bytes()
    }

    fn submit(&mut self, request: DeviceRequest) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        self.in_flight += 1;
        self.device.submit(token, request);
        token
    }

    fn reap(&mut self) {
        let mut completions = Vec::new();
        self.device.wait(Some(Duration::from_secs(1)), &mut completions);
        self.in_flight -= completions.len();
        self.ended.extend(completions.into_iter().map(|completion| (completion.token, completion.result)));
    }

    /// Waits until nothing is in flight; the first error counts.
    pub(super) fn drain(&mut self) -> Result<()> {
        while self.in_flight > 0 {
            self.reap();
        }
        let failed = std::mem::take(&mut self.ended).into_iter().find_map(|(_, result)| result.err());
        failed.map_or(Ok(()), |source| Err(Error::io("recover pool", "the device", source)))
    }

    /// Begins a write; `drain` waits for it.
    pub(super) fn write(&mut self, offset: u64, from: MemorySlice) -> Result<()> {
        if self.in_flight >= DEPTH.min(self.device.depth()) {
            self.drain()?;
        }
        self.submit(DeviceRequest::Write { offset, from });
        Ok(())
    }

    pub(super) fn write_bytes(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let memory = Memory::heap(bytes.len());
        memory.copy_in(0, bytes);
        self.write(offset, MemorySlice::new(memory, 0, bytes.len()))
    }

    pub(super) fn sync(&mut self) -> Result<()> {
        self.drain()?;
        self.submit(DeviceRequest::Sync);
        self.drain()
    }

    pub(super) fn read(&mut self, offset: u64, length: u64) -> Result<Vec<u8>> {
        let length = usize::try_from(length)
            .map_err(|_| Error::new(Kind::Bug, "read from the device", "more than memory holds"))?;
        let memory = Memory::heap(length);
        self.drain()?;
        self.submit(DeviceRequest::Read { offset, into: MemorySlice::new(memory.clone(), 0, length) });
        self.drain()?;
        Ok(memory.bytes(0, length).to_vec())
    }

    /// The group (by its first LSN) of the first write whose data is not on the device with its checksum.
    /// `writes` are in LSN order; what can't be read counts as not there, because none of it was durable.
    pub(super) fn first_unwritten(
        &mut self,
        writes: &[(Lsn, PhysicalBlock, Vec<u32>)],
        area: &Range<u64>,
        verified: &mut u64,
    ) -> Result<Option<Lsn>> {
        self.drain()?;
        let mut bad: Option<Lsn> = None;
        let mut flying: VecDeque<(u64, Lsn, Expected)> = VecDeque::new();
        let mut batches = batches(writes).into_iter();
        loop {
            while flying.len() < DEPTH.min(self.device.depth()) && bad.is_none() {
                let Some(batch) = batches.next() else { break };
                if batch.start < area.start || batch.start + batch.checksums.len() as u64 > area.end {
                    bad = Some(batch.lsn());
                    break;
                }
                *verified += batch.checksums.len() as u64;
                let memory = Memory::heap(batch.checksums.len() * BLOCK_LEN);
                let into = MemorySlice::new(memory.clone(), 0, memory.len());
                let offset = PhysicalBlock(batch.start).offset();
                let token = self.submit(DeviceRequest::Read { offset, into });
                flying.push_back((token, batch.lsn(), Expected { memory, batch }));
            }
            if flying.is_empty() {
                return Ok(bad);
            }
            self.reap();
            for (token, result) in std::mem::take(&mut self.ended) {
                let Some(at) = flying.iter().position(|(flying, ..)| *flying == token) else { continue };
                let Some((_, lsn, expected)) = flying.remove(at) else { continue };
                let wrong = if result.is_err() { Some(lsn) } else { expected.first_wrong() };
                bad = bad.into_iter().chain(wrong).min();
            }
        }
    }
}

/// Neighbouring blocks, each with the group it belongs to.
struct Batch {
    start: u64,
    checksums: Vec<(Lsn, u32)>,
}

impl Batch {
    fn lsn(&self) -> Lsn {
        self.checksums.iter().map(|(lsn, _)| *lsn).min().unwrap_or_default()
    }
}

struct Expected {
    memory: std::sync::Arc<Memory>,
    batch: Batch,
}

impl Expected {
    fn first_wrong(&self) -> Option<Lsn> {
        let bytes = self.memory.bytes(0, self.batch.checksums.len() * BLOCK_LEN);
        let blocks = bytes.chunks_exact(BLOCK_LEN).zip(&self.batch.checksums);
        blocks.filter(|(block, (_, sum))| checksum(block) != *sum).map(|(_, (lsn, _))| *lsn).min()
    }
}

fn batches(writes: &[(Lsn, PhysicalBlock, Vec<u32>)]) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for (lsn, physical, checksums) in writes {
        let entries = checksums.iter().map(|&sum| (*lsn, sum));
        match batches.last_mut() {
            Some(last)
                if last.start + last.checksums.len() as u64 == physical.0
                    && last.checksums.len() + checksums.len() <= READ_BLOCKS_MAX =>
            {
                last.checksums.extend(entries);
            }
            _ => batches.push(Batch { start: physical.0, checksums: entries.collect() }),
        }
    }
    batches
}
