//! Written files on their way to the disk, before anybody waits for it.

use std::fs::File;
use std::num::NonZeroU64;
use std::ops::Range;

use rustix::fs::{Advice, fadvise};

/// Begins to write the bytes `range` of `file` out of the page cache, and does not wait for it: a sync that follows
/// has the less to do. Nothing is durable by it. A file system that knows no such thing does it at the sync.
///
/// Those of the bytes that are on the disk already leave the cache.
pub fn begin_writing_out(file: &File, range: Range<u64>) {
    if let Some(bytes) = range.end.checked_sub(range.start).and_then(NonZeroU64::new) {
        // The kernel begins to write what is dirty before it looks what it can drop.
        let _ = fadvise(file, range.start, Some(bytes), Advice::DontNeed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn what_is_written_out_stays_what_it_was() {
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).expect("a file");
        file.write_all_at(&[7; 10_000], 0).expect("written");
        begin_writing_out(&file, 0..8192);
        file.write_all_at(&[9; 100], 10_000).expect("written");
        begin_writing_out(&file, 8192..1 << 40);
        begin_writing_out(&file, 5..5);
        let mut found = [0; 10_100];
        file.read_exact_at(&mut found, 0).expect("read");
        assert!(found[..10_000] == [7; 10_000] && found[10_000..] == [9; 100]);
    }
}
