//! Memory that starts at a multiple of 4096, as writes past the page cache want it.

/// What it starts at a multiple of.
const ALIGNMENT: usize = 4096;

/// Bytes of a fixed number.
pub(crate) struct Aligned {
    /// Longer than what is used of it, and never longer again: its place is that of its bytes.
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    /// Zeros.
    pub(crate) fn zeroed(length: usize) -> Self {
        let memory = vec![0; length + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        Self { memory, start, length }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

/// Whether `bytes` start at a multiple of 4096.
pub(crate) fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().addr().is_multiple_of(ALIGNMENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_any_length_is_aligned() {
        for length in [0, 1, 4095, 4096, 10_000, 2 << 20] {
            let mut memory = Aligned::zeroed(length);
            memory.bytes_mut().fill(1);
            assert!(is_aligned(memory.bytes()) && memory.bytes().len() == length);
        }
        assert!(!is_aligned(&Aligned::zeroed(4096).bytes()[1..]));
    }
}
