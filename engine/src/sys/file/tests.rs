use std::os::unix::fs::MetadataExt;

use super::*;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/var/tmp").expect("a directory on disk")
}

fn create(path: &Path, bytes: u64, preallocate: bool, overwrite: bool) -> Result<Arc<DeviceFile>> {
    DeviceFile::create(path, &CreateOptions { bytes: Some(bytes), preallocate, overwrite })
}

#[test]
fn a_created_file_has_its_size_and_reads_as_zeros() {
    let directory = directory();
    for preallocate in [false, true] {
        let path = directory.path().join(format!("pool-{preallocate}"));
        let file = create(&path, 9 << 20, preallocate, false).expect("created");
        assert_eq!(file.bytes().expect("size"), 9 << 20);
        assert!(!file.is_block_device());
        let allocated = fs::metadata(&path).expect("metadata").blocks() * 512;
        assert_eq!(allocated >= 9 << 20, preallocate, "{allocated} bytes allocated");
        let slice = MemorySlice::whole(Memory::heap(1 << 20));
        slice.copy_in(0, &[1; 4096]);
        file.read_at(8 << 20, &slice).expect("read");
        assert!(slice.bytes(0, 1 << 20).iter().all(|byte| *byte == 0));
    }
}

#[test]
fn what_is_not_empty_is_taken_only_when_told() {
    let directory = directory();
    let path = directory.path().join("pool");
    fs::write(&path, vec![7; 8192]).expect("written");
    assert_eq!(create(&path, 4096, false, false).expect_err("not empty").kind(), Kind::Conflict);
    assert_eq!(fs::read(&path).expect("read"), vec![7; 8192]);
    drop(create(&path, 4096, false, true).expect("overwritten"));
    assert_eq!(fs::read(&path).expect("read"), vec![0; 4096]);
    fs::write(&path, b"").expect("written");
    assert_eq!(create(&path, 4096, false, false).expect("an empty file").bytes().expect("size"), 4096);
}

#[test]
fn impossible_sizes_and_things_are_refused() {
    let directory = directory();
    let path = directory.path().join("pool");
    for bytes in [0, 100, 4097, 1 << 63] {
        assert_eq!(create(&path, bytes, false, false).expect_err("no size").kind(), Kind::Invalid);
    }
    assert_eq!(
        DeviceFile::create(&path, &CreateOptions::default()).expect_err("no size").kind(),
        Kind::Invalid
    );
    let kind = |path: &Path| DeviceFile::open(path, OpenMode::ReadWrite).expect_err("refused").kind();
    assert_eq!(kind(&path), Kind::NotFound);
    assert_eq!(kind(directory.path()), Kind::Invalid);
    assert_eq!(kind(Path::new("/dev/null")), Kind::Invalid);
    assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 0);
}

#[test]
fn a_file_that_does_not_fit_is_an_error_and_is_not_left_behind() {
    let directory = directory();
    let path = directory.path().join("pool");
    let error = create(&path, 8 << 40, true, false).expect_err("8 TiB do not fit");
    assert_eq!(error.kind(), Kind::OutOfSpace, "{error}");
    assert!(!path.exists());
}

#[test]
fn it_grows_and_keeps_what_was_in_it() {
    let directory = directory();
    let file = create(&directory.path().join("pool"), 8192, true, false).expect("created");
    let slice = MemorySlice::whole(Memory::heap(4096));
    slice.copy_in(0, b"kept");
    file.write_at(4096, &slice).expect("written");
    file.grow(8192, false).expect("as it is");
    file.grow(5 << 20, true).expect("grown");
    file.sync().expect("synced");
    assert_eq!(file.bytes().expect("size"), 5 << 20);
    assert_eq!(file.grow(8192, false).expect_err("shrunk").kind(), Kind::Invalid);
    slice.fill_zero(0, 4096);
    file.read_at(4096, &slice).expect("read");
    assert_eq!(slice.bytes(0, 4), b"kept");
    assert_eq!(file.grow(8 << 40, true).expect_err("no room").kind(), Kind::OutOfSpace);
    assert_eq!(file.bytes().expect("size"), 5 << 20, "a failed growth leaves the old size");
    file.write_zeros(4096, 4096).expect("zeroed");
    file.read_at(4096, &slice).expect("read");
    assert_eq!(slice.bytes(0, 4), [0; 4]);
}

#[test]
fn progress_counts_whole_blocks_and_the_very_end() {
    for (done, count, length, expected) in [
        (0, 4096, 8192, Some(4096)),
        (0, 5000, 8192, Some(4096)),
        (4096, 4096, 8192, Some(8192)),
        (4096, 100, 8192, None),
        (0, 0, 8192, None),
        (0, usize::MAX, 8192, Some(8192)),
    ] {
        assert_eq!(progress(done, count, length), expected);
    }
}
