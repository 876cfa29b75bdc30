//! Files that somebody else opened, past the page cache.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

/// The same file, opened once more for writes past the page cache; nothing where that can't be had. Offsets, lengths and
/// the memory that is written from are then multiples of 4096. `file` stays as it is.
pub fn open_again_direct(file: &File) -> Option<File> {
    let flags = i32::try_from(OFlags::DIRECT.bits()).ok()?;
    // The name in /proc leads to the file itself, also when it has no other name, or another one by now.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::options().write(true).custom_flags(flags).open(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Memory, MemorySlice};
    use std::io::Read;
    use std::os::unix::fs::FileExt;

    /// Build directories lie on file systems that have direct I/O.
    #[test]
    fn a_file_without_a_name_is_written_past_the_cache() {
        let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).expect("a file");
        let direct = open_again_direct(&file).expect("opened again");
        let memory = MemorySlice::whole(Memory::heap(8192));
        memory.copy_in(4096, &[7; 4096]);
        direct.write_all_at(memory.bytes(4096, 4096), 4096).expect("written");
        let odd = direct.write_all_at(memory.bytes(1, 4096), 0).expect_err("its memory is not aligned");
        assert_eq!(odd.kind(), std::io::ErrorKind::InvalidInput);
        let mut found = Vec::new();
        file.read_to_end(&mut found).expect("read");
        assert!(found[..4096] == [0; 4096] && found[4096..] == [7; 4096]);
    }
}
