//! Bytes of keys, masks and entries. A prototype: what it reads is its own, so damage is an error without detail.

use anyhow::{Context as _, Result, bail};

use crate::model::{Entry, PAGE_LEN, Page};

/// How the entries of a page or an undo record are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Each run whole: physical u40, length u8, birth u32; then the checksums.
    Row,
    /// All lengths, all physical starts, all births (each a varint against the run before), then the checksums.
    Column,
}

const MASK_FULL: u8 = 73;
const MASK_RAW: u8 = 72;
const MASK_FLAG: u8 = 0x80;

/// Big-endian parts of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    U16(u16),
    U32(u32),
    Page(u32),
}

/// A key of layer 1.
pub(crate) fn key(parts: &[Part]) -> Vec<u8> {
    let mut key = Vec::with_capacity(24);
    key.extend_from_slice(&1_u32.to_be_bytes());
    for part in parts {
        match *part {
            Part::U16(value) => key.extend_from_slice(&value.to_be_bytes()),
            Part::U32(value) => key.extend_from_slice(&value.to_be_bytes()),
            Part::Page(value) => key.extend_from_slice(&u64::from(value).to_be_bytes()[2..]),
        }
    }
    key
}

/// The big-endian u32 that starts at `offset`; the low half of a u48 when `offset` is its third byte.
pub(crate) fn key_u32(key: &[u8], offset: usize) -> Result<u32> {
    let bytes = key.get(offset..offset + 4).context("short key")?;
    Ok(u32::from_be_bytes(bytes.try_into()?))
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, (value << 1 ^ value >> 63).cast_unsigned());
}

fn put_u40(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes()[3..]);
}

/// Reads what the `put_` functions wrote.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        let (&first, rest) = self.0.split_first().context("short value")?;
        self.0 = rest;
        Ok(first)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>().context("short value")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    fn u40(&mut self) -> Result<u64> {
        let [a, b, c, d, e] = self.take()?;
        Ok(u64::from_be_bytes([0, 0, 0, a, b, c, d, e]))
    }

    pub(crate) fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        bail!("varint too long")
    }

    pub(crate) fn signed(&mut self) -> Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }
}

/// One byte for a single block or all, a byte per block up to five, else nine. `flag` rides in the first byte.
pub(crate) fn put_mask(out: &mut Vec<u8>, mask: u64, flag: bool) {
    let flag = if flag { MASK_FLAG } else { 0 };
    match mask.count_ones() {
        64 => out.push(MASK_FULL | flag),
        1 => out.push(mask.trailing_zeros() as u8 | flag),
        count @ (0 | 2..=5) => {
            out.push((64 + count as u8) | flag);
            out.extend(slots(mask).map(|slot| slot as u8));
        }
        _ => {
            out.push(MASK_RAW | flag);
            out.extend_from_slice(&mask.to_be_bytes());
        }
    }
}

pub(crate) fn take_mask(reader: &mut Reader<'_>) -> Result<(u64, bool)> {
    let first = reader.u8()?;
    let flag = first & MASK_FLAG != 0;
    let mask = match first & !MASK_FLAG {
        slot @ 0..64 => 1 << slot,
        MASK_FULL => u64::MAX,
        MASK_RAW => u64::from_be_bytes(reader.take()?),
        count @ 64..=69 => {
            let mut mask = 0;
            for _ in 64..count {
                mask |= 1 << (reader.u8()? & 63);
            }
            mask
        }
        other => bail!("mask tag {other}"),
    };
    Ok((mask, flag))
}

/// The slots of a mask, rising.
pub(crate) fn slots(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let slot = (mask != 0).then(|| mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
        Some(slot)
    })
}

pub(crate) fn mapped(page: &Page) -> u64 {
    page.iter().enumerate().fold(0, |mask, (slot, entry)| mask | u64::from(entry.is_some()) << slot)
}

struct Run {
    first: Entry,
    length: u8,
}

fn runs(entries: &[Entry]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::with_capacity(entries.len());
    for entry in entries {
        match runs.last_mut() {
            Some(run)
                if run.first.birth == entry.birth
                    && run.first.physical + u64::from(run.length) == entry.physical =>
            {
                run.length += 1;
            }
            _ => runs.push(Run { first: *entry, length: 1 }),
        }
    }
    runs
}

/// Encodes the entries of `mask`: the mask, the holes within it if any, the runs, the checksums.
pub(crate) fn put_entries(out: &mut Vec<u8>, layout: Layout, mask: u64, page: &Page) {
    let holes = mask & !mapped(page);
    put_mask(out, mask, holes != 0);
    if holes != 0 {
        put_mask(out, holes, false);
    }
    let entries: Vec<Entry> = slots(mask).filter_map(|slot| page[slot]).collect();
    let runs = runs(&entries);
    match layout {
        Layout::Row => put_rows(out, &runs),
        Layout::Column => put_columns(out, &runs),
    }
    for entry in &entries {
        out.extend_from_slice(&entry.checksum.to_be_bytes());
    }
}

fn put_rows(out: &mut Vec<u8>, runs: &[Run]) {
    for run in runs {
        put_u40(out, run.first.physical);
        out.push(run.length);
        out.extend_from_slice(&run.first.birth.to_be_bytes());
    }
}

fn put_columns(out: &mut Vec<u8>, runs: &[Run]) {
    out.extend(runs.iter().map(|run| run.length));
    let mut expected = 0;
    for run in runs {
        put_signed(out, run.first.physical.cast_signed() - expected);
        expected = run.first.physical.cast_signed() + i64::from(run.length);
    }
    let mut birth = 0;
    for run in runs {
        put_signed(out, i64::from(run.first.birth) - birth);
        birth = i64::from(run.first.birth);
    }
}

/// Decodes what [`put_entries`] wrote into `page` (the slots of the mask that `skip` lacks) and returns the mask.
pub(crate) fn take_entries(
    reader: &mut Reader<'_>,
    layout: Layout,
    skip: u64,
    page: &mut Page,
) -> Result<u64> {
    let (mask, has_holes) = take_mask(reader)?;
    let holes = if has_holes { take_mask(reader)?.0 } else { 0 };
    let data = mask & !holes;
    let mut entries = [Entry { physical: 0, checksum: 0, birth: 0 }; PAGE_LEN];
    let entries = &mut entries[..data.count_ones() as usize];
    match layout {
        Layout::Row => take_rows(reader, entries)?,
        Layout::Column => take_columns(reader, entries)?,
    }
    for entry in entries.iter_mut() {
        entry.checksum = reader.u32()?;
    }
    for (slot, entry) in slots(data).zip(entries.iter()).filter(|(slot, _)| skip >> slot & 1 == 0) {
        page[slot] = Some(*entry);
    }
    for slot in slots(holes & !skip) {
        page[slot] = None;
    }
    Ok(mask)
}

fn expand(entries: &mut [Entry], first: usize, run: &Run) -> Result<usize> {
    let end = first + usize::from(run.length);
    let target = entries.get_mut(first..end).filter(|target| !target.is_empty()).context("run too long")?;
    for (offset, entry) in target.iter_mut().enumerate() {
        *entry = Entry { physical: run.first.physical + offset as u64, ..run.first };
    }
    Ok(end)
}

fn take_rows(reader: &mut Reader<'_>, entries: &mut [Entry]) -> Result<()> {
    let mut done = 0;
    while done < entries.len() {
        let physical = reader.u40()?;
        let length = reader.u8()?;
        let birth = reader.u32()?;
        done = expand(entries, done, &Run { first: Entry { physical, checksum: 0, birth }, length })?;
    }
    Ok(())
}

fn take_columns(reader: &mut Reader<'_>, entries: &mut [Entry]) -> Result<()> {
    let mut lengths = [0_u8; PAGE_LEN];
    let (mut count, mut total) = (0, 0);
    while total < entries.len() {
        lengths[count] = reader.u8()?;
        total += usize::from(lengths[count]);
        count += 1;
    }
    let mut starts = [0_u64; PAGE_LEN];
    let mut expected = 0;
    for (start, length) in starts.iter_mut().zip(&lengths[..count]) {
        *start = (expected + reader.signed()?).cast_unsigned();
        expected = (*start).cast_signed() + i64::from(*length);
    }
    let (mut done, mut birth) = (0, 0);
    for (&physical, &length) in starts.iter().zip(&lengths[..count]) {
        birth += reader.signed()?;
        let first = Entry { physical, checksum: 0, birth: u32::try_from(birth)? };
        done = expand(entries, done, &Run { first, length })?;
    }
    Ok(())
}
