//! A disk and its handle, for tests.

use std::io;

use super::{SECTOR_LEN, SimDevice, SimDisk};
use crate::device::{Device, DeviceCompletion, DeviceRequest};
use crate::sys::{Memory, MemorySlice};
use crate::units::{BLOCK_BYTES, BLOCK_LEN};

const DEPTH: usize = 32;

/// A disk, its live handle, and whole blocks of one byte value written and read one at a time.
pub(crate) struct Bench {
    pub(crate) disk: SimDisk,
    pub(super) device: SimDevice,
}

impl Bench {
    pub(crate) fn new(seed: u64, bytes: u64) -> Self {
        let disk = SimDisk::new(bytes, seed);
        let device = SimDevice::open(&disk, DEPTH).expect("a waker");
        Self { disk, device }
    }

    pub(super) fn reopen(&mut self) {
        self.device = SimDevice::open(&self.disk, DEPTH).expect("a waker");
    }

    pub(crate) fn crash(&mut self) {
        self.disk.crash();
        self.reopen();
    }

    pub(super) fn submit_write(&mut self, token: u64, block: u64, fills: &[u8]) -> MemorySlice {
        let from = MemorySlice::whole(Memory::heap(fills.len() * BLOCK_LEN));
        for (index, fill) in fills.iter().enumerate() {
            from.copy_in(index * BLOCK_LEN, &[*fill; BLOCK_LEN]);
        }
        self.device.submit(token, DeviceRequest::Write { offset: block * BLOCK_BYTES, from: from.clone() });
        from
    }

    pub(super) fn reap(&mut self, count: usize) -> Vec<DeviceCompletion> {
        let mut completions = Vec::new();
        while completions.len() < count {
            self.device.wait(None, &mut completions);
        }
        completions
    }

    pub(super) fn reap_one(&mut self) -> io::Result<()> {
        self.reap(1).pop().expect("one completion").result
    }

    pub(crate) fn write(&mut self, block: u64, fill: u8) -> io::Result<()> {
        self.submit_write(0, block, &[fill]);
        self.reap_one()
    }

    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.device.submit(0, DeviceRequest::Sync);
        self.reap_one()
    }

    pub(crate) fn read_bytes(&mut self, block: u64) -> io::Result<Vec<u8>> {
        let into = MemorySlice::whole(Memory::heap(BLOCK_LEN));
        self.device.submit(0, DeviceRequest::Read { offset: block * BLOCK_BYTES, into: into.clone() });
        self.reap_one()?;
        let mut bytes = vec![0; BLOCK_LEN];
        into.copy_out(0, &mut bytes);
        Ok(bytes)
    }

    pub(crate) fn read(&mut self, block: u64) -> io::Result<u8> {
        Ok(self.read_bytes(block)?[0])
    }

    pub(crate) fn medium_bytes(&self, block: u64) -> Vec<u8> {
        let mut bytes = vec![0; BLOCK_LEN];
        self.disk.read_medium(block * BLOCK_BYTES, &mut bytes);
        bytes
    }

    pub(crate) fn medium(&self, block: u64) -> u8 {
        self.medium_bytes(block)[0]
    }

    /// The value of each sector on the medium. None is torn inside.
    pub(super) fn sectors(&self, block: u64) -> Vec<u8> {
        let bytes = self.medium_bytes(block);
        let whole = |sector: &[u8]| sector.iter().all(|byte| *byte == sector[0]).then_some(sector[0]);
        bytes.chunks(SECTOR_LEN).map(|sector| whole(sector).expect("a sector is never torn")).collect()
    }
}
