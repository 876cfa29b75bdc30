//! The engine's formats on disk: what is read back is what was written, or is refused.

use crate::checksum::checksum;
use crate::format::{dead, head, journal, keys, page, superblock, undo};
use crate::units::{BLOCK_LEN, BlockIndex, Epoch, LayerId, Lsn, PageIndex, PhysicalBlock, PoolId};

/// Where a superblock has its checksum.
const SUPERBLOCK_SUM: std::ops::Range<usize> = 12..16;

/// Gives the input to the decoder that its first byte names.
pub fn engine_formats(data: &[u8]) {
    let Some((&decoder, data)) = data.split_first() else { return };
    match decoder % 7 {
        0 => superblock(data),
        1 => journal(data),
        2 => {
            if let Ok(read) = head::decode(data) {
                assert_eq!(head::decode(&head::encode(&read)).as_ref(), Ok(&read));
            }
        }
        3 => {
            if let Ok(read) = undo::decode(data) {
                assert_eq!(undo::decode(&undo::encode(&read)).as_ref(), Ok(&read));
            }
        }
        4 => {
            if let Ok(read) = undo::decode_changed(data) {
                assert_eq!(undo::decode_changed(&undo::encode_changed(&read)), Ok(read));
            }
        }
        5 => {
            if let Ok(read) = dead::decode(data) {
                assert_eq!(dead::decode(&dead::encode(&read)).as_ref(), Ok(&read));
            }
        }
        _ => all_keys(data),
    }
}

/// A block of the data, as far as it goes, and zeros.
fn block(data: &[u8]) -> Vec<u8> {
    let mut block = data[..data.len().min(BLOCK_LEN)].to_vec();
    block.resize(BLOCK_LEN, 0);
    block
}

fn superblock(data: &[u8]) {
    // As it is, which a checksum that does not fit refuses, and with one that does.
    let _ = superblock::Superblock::decode(data);
    let mut block = block(data);
    block[SUPERBLOCK_SUM].fill(0);
    let sum = checksum(&block);
    block[SUPERBLOCK_SUM].copy_from_slice(&sum.to_le_bytes());
    if let Ok(read) = superblock::Superblock::decode(&block) {
        assert_eq!(superblock::Superblock::decode(&read.encode()).as_ref(), Ok(&read));
    }
}

fn journal(data: &[u8]) {
    let _ = journal::open(data);
    let mut block = block(data);
    let Ok((header, _)) = journal::Header::decode(&block) else { return };
    journal::seal(&mut block, &header);
    let (read, _) = journal::open(&block).expect("it was sealed");
    assert_eq!(read, header);
    let Ok(records) = journal::records(&block, header.count, header.bytes) else { return };
    let mut again = vec![0; journal::HEADER_LEN];
    records.iter().for_each(|record| record.encode(&mut again));
    let bytes = u32::try_from(again.len() - journal::HEADER_LEN).expect("at most what was read");
    assert_eq!(journal::records(&again, header.count, bytes), Ok(records));
}

fn all_keys(data: &[u8]) {
    if let Ok((layer, page)) = keys::read_head(data) {
        assert_eq!(keys::head(layer, page), data);
    }
    if let Ok((layer, page, end)) = keys::read_history(data) {
        assert_eq!(keys::history(layer, page, end), data);
    }
    if let Ok((layer, end, page)) = keys::read_changed(data) {
        assert_eq!(keys::changed(layer, end, page), data);
    }
    if let Ok((layer, end, birth, page)) = keys::read_dead(data) {
        assert_eq!(keys::dead(layer, end, birth, page), data);
    }
    if let Ok(chunk) = keys::read_space(data) {
        assert_eq!(keys::space(chunk), data);
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut page = page::Page::default();
    for (slot, physical) in [(0, 700), (1, 701), (9, 20), (63, 1 << 30)] {
        page.0[slot] = page::Entry::data(physical, 3, 0xdead_beef);
    }
    let superblock = superblock::Superblock {
        pool_id: PoolId([7; 16]),
        sequence: 3,
        incarnation: 2,
        created_ms: 1 << 40,
        journal_start: 256,
        journal_blocks: 1024,
        data_start: 1280,
        pool_blocks: 1 << 20,
        region_blocks: 4096,
        clean: None,
    };
    let undo = undo::Undo { displaced: page.mapped(), keyframe: false, page: page.clone() };
    let changed = undo::Changed { changed: 7, before: 3, after: 7 };
    let runs = [dead::PhysicalRun { start: PhysicalBlock(9), blocks: 4 }];
    let head = head::HeadPage { page, displaced_since_keyframe: 2 };
    let (layer, page, epoch) = (LayerId(1), PageIndex(2), Epoch(3));
    let all = [
        (0, superblock.encode()),
        (1, journal_block()),
        (2, head::encode(&head)),
        (3, undo::encode(&undo)),
        (4, undo::encode_changed(&changed)),
        (5, dead::encode(&runs)),
        (6, keys::head(layer, page).to_vec()),
        (6, keys::history(layer, page, epoch).to_vec()),
        (6, keys::changed(layer, epoch, page).to_vec()),
        (6, keys::dead(layer, epoch, Epoch(1), page).to_vec()),
        (6, keys::space(8).to_vec()),
    ];
    all.into_iter().map(|(decoder, bytes)| [&[decoder], &bytes[..]].concat()).collect()
}

fn journal_block() -> Vec<u8> {
    let records = [
        journal::Record::Write {
            continues: true,
            layer: LayerId(3),
            block: BlockIndex(1 << 40),
            physical: PhysicalBlock(77),
            checksums: vec![1, 2, 3],
        },
        journal::Record::Unmap { continues: false, layer: LayerId(3), block: BlockIndex(9), blocks: 1 << 47 },
        journal::Record::Catalog(b"{}".to_vec()),
    ];
    let mut block = vec![0; journal::HEADER_LEN];
    records.iter().for_each(|record| record.encode(&mut block));
    let header = journal::Header {
        pool_id: PoolId([1; 16]),
        sequence: 5,
        incarnation: 2,
        first_lsn: Lsn(10),
        durable_lsn: Lsn(9),
        epoch: Epoch(4),
        count: 3,
        bytes: u32::try_from(block.len() - journal::HEADER_LEN).expect("small"),
        previous: 42,
    };
    block.resize(BLOCK_LEN, 0);
    journal::seal(&mut block, &header);
    block
}
