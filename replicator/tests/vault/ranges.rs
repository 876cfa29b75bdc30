//! Single ranges and streams.

use std::sync::Arc;

use firn_replicator::error::Kind;
use firn_replicator::format::settings::Cipher;
use firn_replicator::store::MemoryStore;

use crate::model::{Random, Volume};
use crate::place::{START_MS, init, send};
use crate::random::change;

#[test]
fn ranges_and_streams_are_parts_of_the_whole() {
    let store = Arc::new(MemoryStore::new(START_MS));
    let vault = init(&store, Cipher::None);
    let mut random = Random(7);
    // Larger than what is gathered at once.
    let mut volume = Volume::new(1, 3000);
    for _ in 0..3 {
        for _ in 0..40 {
            let first = random.below(2900);
            (first..first + random.below(100)).for_each(|block| volume.write(block, random.block()));
        }
        send(&vault, &volume.snapshot()).unwrap();
    }
    change(&mut volume, &mut random);
    let snapshot = volume.snapshot();
    let content = snapshot.content();
    let reader = vault.open_point(send(&vault, &snapshot).unwrap().points[0].id).unwrap();
    for _ in 0..200 {
        let start = usize::try_from(random.below(content.len() as u64)).unwrap();
        let length = usize::try_from(random.below(1 << 20)).unwrap().min(content.len() - start);
        let mut read = vec![0xaa; length];
        reader.read_at(start as u64, &mut read).unwrap();
        assert!(read == content[start..start + length], "{length} bytes from {start}");
    }
    let beyond = reader.read_at(content.len() as u64, &mut [0]);
    assert_eq!(beyond.unwrap_err().kind(), Kind::Invalid);
    let mut stream = Vec::new();
    let report = reader.restore_to_stream(&mut stream, &()).unwrap();
    assert!(stream == content);
    assert_eq!((report.bytes, report.lost_bytes), (content.len() as u64, 0));
    assert_eq!(report.data_bytes, snapshot.data_bytes());
}
