//! What can go wrong on a simulated disk: faults on demand or at a rate, a log of them, and what a power cut spares.
//!
//! 1. Nothing fails unless it was ordered or given a rate; a power cut alone does only what a disk may do.
//! 2. An order strikes once, on the first request that fits it after those it skips; a rate strikes at random.
//! 3. A permanent error strikes again on every later request that touches the same bytes (every later sync), until
//!    [`Faults::clear`]. Only its first stroke is logged.
//! 4. Whatever struck is in the log, with the bytes it damaged, before the request that it struck is answered.
//! 5. Faults draw from their own generator: a run with a rate of zero goes exactly as one without faults.

use std::ops::Range;

use super::random::{PPM, Random};

/// What an injected fault does to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A write is acknowledged and stored nowhere.
    LostWrite,
    /// A write is acknowledged and stored whole at another place, aligned to 4096, that it doesn't overlap.
    MisdirectedWrite,
    /// A write is acknowledged and stored with one bit flipped.
    FlippedBit,
    /// A write fails; any of its 4 KiB blocks may have been stored.
    WriteError,
    /// A read fails; the memory may hold anything.
    ReadError,
    /// A sync fails. What it covered may stay volatile for ever, though later syncs succeed.
    SyncError,
}

const KINDS: [FaultKind; 6] = [
    FaultKind::LostWrite,
    FaultKind::MisdirectedWrite,
    FaultKind::FlippedBit,
    FaultKind::WriteError,
    FaultKind::ReadError,
    FaultKind::SyncError,
];

/// The kinds of request that faults tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    Sync,
}

impl FaultKind {
    fn access(self) -> Access {
        match self {
            Self::LostWrite | Self::MisdirectedWrite | Self::FlippedBit | Self::WriteError => Access::Write,
            Self::ReadError => Access::Read,
            Self::SyncError => Access::Sync,
        }
    }

    fn is_error(self) -> bool {
        matches!(self, Self::WriteError | Self::ReadError | Self::SyncError)
    }
}

/// A fault to come, once.
#[derive(Clone, Debug)]
pub struct FaultOrder {
    kind: FaultKind,
    skip: u64,
    within: Range<u64>,
    permanent: bool,
    misdirect_to: Option<u64>,
}

impl FaultOrder {
    /// Strikes the next request that `kind` applies to.
    pub fn new(kind: FaultKind) -> Self {
        Self { kind, skip: 0, within: 0..u64::MAX, permanent: false, misdirect_to: None }
    }

    /// Lets `count` fitting requests pass first.
    #[must_use]
    pub fn skip(self, count: u64) -> Self {
        Self { skip: count, ..self }
    }

    /// Only requests that touch these bytes of the device fit. Of no meaning for syncs.
    #[must_use]
    pub fn within(self, bytes: Range<u64>) -> Self {
        Self { within: bytes, ..self }
    }

    /// An error that stays (invariant 3). Of no meaning for the other kinds.
    #[must_use]
    pub fn permanent(self) -> Self {
        Self { permanent: true, ..self }
    }

    /// Where a misdirected write goes, in bytes, a multiple of 4096; without it, anywhere.
    #[must_use]
    pub fn misdirect_to(self, offset: u64) -> Self {
        Self { misdirect_to: Some(offset), ..self }
    }
}

/// One entry of the log: what was done, and to which bytes of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectedFault {
    /// What struck. A bit flipped by the test is a [`FaultKind::FlippedBit`] too.
    pub kind: FaultKind,
    /// The bytes of the request, or the one byte with the flipped bit. Empty for a sync.
    pub bytes: Range<u64>,
    /// Where a misdirected write was stored instead, which damaged what lay there.
    pub stored_at: Option<u64>,
    /// Whether the error stays.
    pub permanent: bool,
}

/// A fault about to strike a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stroke {
    pub(super) kind: FaultKind,
    pub(super) misdirect_to: Option<u64>,
    permanent: bool,
    /// Not the first stroke of a permanent error.
    repeated: bool,
}

/// The faults of one disk: those ordered, the rates, and the log.
#[derive(Debug)]
pub struct Faults {
    random: Random,
    orders: Vec<FaultOrder>,
    rates_ppm: [u32; KINDS.len()],
    permanent_ppm: u32,
    broken: Vec<(FaultKind, Range<u64>)>,
    log: Vec<InjectedFault>,
}

impl Faults {
    pub(super) fn new(random: Random) -> Self {
        Self {
            random,
            orders: Vec::new(),
            rates_ppm: [0; KINDS.len()],
            permanent_ppm: 0,
            broken: Vec::new(),
            log: Vec::new(),
        }
    }

    /// Orders a fault.
    pub fn order(&mut self, order: FaultOrder) {
        self.orders.push(order);
    }

    /// Strikes `ppm` in a million of the requests that `kind` applies to.
    pub fn set_rate(&mut self, kind: FaultKind, ppm: u32) {
        self.rates_ppm[kind as usize] = ppm;
    }

    /// Makes `ppm` in a million of the errors that strike by rate permanent.
    pub fn set_permanent_rate(&mut self, ppm: u32) {
        self.permanent_ppm = ppm;
    }

    /// Forgets orders, rates and permanent errors. The log and the damage stay.
    pub fn clear(&mut self) {
        self.orders.clear();
        self.broken.clear();
        self.rates_ppm = [0; KINDS.len()];
        self.permanent_ppm = 0;
    }

    /// What has struck, oldest first.
    pub fn log(&self) -> &[InjectedFault] {
        &self.log
    }

    /// The fault that strikes a request for `bytes` of the device, if one does: a permanent error, else an order,
    /// else by rate.
    pub(super) fn strike(&mut self, access: Access, bytes: &Range<u64>) -> Option<Stroke> {
        if let Some(&(kind, _)) = self.broken.iter().find(|(kind, at)| fits(*kind, at, access, bytes)) {
            return Some(Stroke { kind, misdirect_to: None, permanent: true, repeated: true });
        }
        let stroke = self.ordered(access, bytes).or_else(|| self.by_chance(access))?;
        if stroke.permanent {
            self.broken.push((stroke.kind, bytes.clone()));
        }
        Some(stroke)
    }

    fn ordered(&mut self, access: Access, bytes: &Range<u64>) -> Option<Stroke> {
        let mut due = None;
        for (index, order) in self.orders.iter_mut().enumerate() {
            if !fits(order.kind, &order.within, access, bytes) {
                continue;
            }
            if order.skip > 0 {
                order.skip -= 1;
            } else if due.is_none() {
                due = Some(index);
            }
        }
        let order = self.orders.remove(due?);
        Some(Stroke {
            kind: order.kind,
            misdirect_to: order.misdirect_to,
            permanent: order.permanent && order.kind.is_error(),
            repeated: false,
        })
    }

    fn by_chance(&mut self, access: Access) -> Option<Stroke> {
        let (rates, random) = (&self.rates_ppm, &mut self.random);
        let struck = |kind: &FaultKind| {
            let ppm = rates[*kind as usize];
            ppm > 0 && kind.access() == access && random.chance(ppm)
        };
        let kind = KINDS.into_iter().find(struck)?;
        let permanent = kind.is_error() && self.random.chance(self.permanent_ppm);
        Some(Stroke { kind, misdirect_to: None, permanent, repeated: false })
    }

    pub(super) fn record(&mut self, stroke: &Stroke, bytes: Range<u64>, stored_at: Option<u64>) {
        if !stroke.repeated {
            self.log.push(InjectedFault { kind: stroke.kind, bytes, stored_at, permanent: stroke.permanent });
        }
    }

    pub(super) fn record_flip(&mut self, byte: u64) {
        let bytes = byte..byte + 1;
        self.log.push(InjectedFault {
            kind: FaultKind::FlippedBit,
            bytes,
            stored_at: None,
            permanent: false,
        });
    }

    pub(super) fn random(&mut self) -> &mut Random {
        &mut self.random
    }
}

fn fits(kind: FaultKind, at: &Range<u64>, access: Access, bytes: &Range<u64>) -> bool {
    kind.access() == access && (access == Access::Sync || (at.start < bytes.end && bytes.start < at.end))
}

/// The temper of one power cut. Drawn once for the whole cut, because a coin for each of a thousand writes would
/// never lose only the last few, nor keep only them.
#[derive(Clone, Copy, Debug)]
pub(super) struct PowerCut {
    keep_ppm: u32,
    tear_ppm: u32,
}

impl PowerCut {
    pub(super) fn draw(random: &mut Random) -> Self {
        Self {
            keep_ppm: random.pick(&[0, 30_000, 500_000, 970_000, PPM]),
            tear_ppm: random.pick(&[0, 50_000, 500_000]),
        }
    }

    /// Fills in which sectors of one write survive: a mask a block, bit *n* for its sector *n*.
    pub(super) fn spare(self, random: &mut Random, masks: &mut [u8]) {
        if !random.chance(self.tear_ppm) {
            masks.fill(if random.chance(self.keep_ppm) { u8::MAX } else { 0 });
            return;
        }
        match random.below(4) {
            0 => spare_prefix(random, masks),
            1 => {
                spare_prefix(random, masks);
                masks.iter_mut().for_each(|mask| *mask = !*mask);
            }
            2 => masks.iter_mut().for_each(|mask| *mask = if random.coin() { u8::MAX } else { 0 }),
            _ => masks.iter_mut().for_each(|mask| *mask = random.byte()),
        }
    }
}

fn spare_prefix(random: &mut Random, masks: &mut [u8]) {
    let whole = random.index(masks.len() + 1);
    masks[..whole].fill(u8::MAX);
    masks[whole..].fill(0);
    if let Some(torn) = masks.get_mut(whole) {
        *torn = (1 << random.below(8)) - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::device::bench::Bench;
    use super::*;

    const KIB4: u64 = 4096;

    /// Invariant 1.
    #[test]
    fn nothing_fails_unasked() {
        let mut bench = Bench::new(1, 1 << 20);
        for block in 0..200 {
            bench.write(block, 1).expect("no fault was ordered");
            bench.sync().expect("no fault was ordered");
            assert_eq!(bench.read(block).expect("no fault was ordered"), 1);
        }
        assert!(bench.disk.fault_log().is_empty());
    }

    /// Invariants 2 and 4.
    #[test]
    fn lost_write_is_acknowledged_and_logged() {
        let mut bench = Bench::new(2, 1 << 20);
        bench.disk.faults(|faults| faults.order(FaultOrder::new(FaultKind::LostWrite).skip(1)));
        for (block, fill) in [(3, 1), (3, 2), (4, 3)] {
            bench.write(block, fill).expect("a lost write is acknowledged");
        }
        bench.sync().expect("the sync is sound");
        assert_eq!((bench.medium(3), bench.medium(4)), (1, 3));
        let expected = InjectedFault {
            kind: FaultKind::LostWrite,
            bytes: 3 * KIB4..4 * KIB4,
            stored_at: None,
            permanent: false,
        };
        assert_eq!(bench.disk.fault_log(), [expected]);
    }

    #[test]
    fn misdirected_write_lands_elsewhere() {
        for seed in 0..50 {
            let mut bench = Bench::new(seed, 1 << 20);
            let order = FaultOrder::new(FaultKind::MisdirectedWrite).within(9 * KIB4..10 * KIB4);
            let chosen = seed % 2 == 0;
            bench.disk.faults(|faults| {
                faults.order(if chosen { order.misdirect_to(77 * KIB4) } else { order });
            });
            bench.write(8, 1).expect("it lies outside the order");
            bench.write(9, 2).expect("a misdirected write is acknowledged");
            bench.sync().expect("the sync is sound");
            let [fault] = &bench.disk.fault_log()[..] else { panic!("one fault, seed {seed}") };
            let stored_at = fault.stored_at.expect("it was stored somewhere");
            assert!(!chosen || stored_at == 77 * KIB4);
            assert_ne!(stored_at, 9 * KIB4);
            assert_eq!((bench.medium(9), bench.medium(stored_at / KIB4)), (0, 2), "seed {seed}");
        }
    }

    #[test]
    fn flipped_bit_is_one_bit_and_logged() {
        let mut bench = Bench::new(3, 1 << 20);
        bench.disk.faults(|faults| faults.order(FaultOrder::new(FaultKind::FlippedBit)));
        bench.write(5, 0).expect("a flipped bit is acknowledged");
        bench.sync().expect("the sync is sound");
        bench.disk.flip_bit(6 * KIB4 + 9, 3);
        let mut bytes = vec![0; 2 * 4096];
        bench.disk.read_medium(5 * KIB4, &mut bytes);
        let places: Vec<u64> = bench.disk.fault_log().iter().map(|fault| fault.bytes.start).collect();
        let flipped: Vec<u64> =
            (5 * KIB4..).zip(&bytes).filter(|(_, byte)| **byte != 0).map(|(at, _)| at).collect();
        assert_eq!(flipped, places);
        assert_eq!(bytes.iter().map(|byte| byte.count_ones()).sum::<u32>(), 2);
        assert_eq!(bytes[4096 + 9], 1 << 3);
        bench
            .read_bytes(6)
            .expect("a flip is no read error")
            .into_iter()
            .position(|byte| byte == 8)
            .expect("seen");
    }

    /// Invariant 3: a transient error strikes once, a permanent one until it is cleared.
    #[test]
    fn errors_are_transient_or_permanent() {
        for permanent in [false, true] {
            let mut bench = Bench::new(4, 1 << 20);
            let order = |kind| {
                let order = FaultOrder::new(kind);
                if permanent { order.permanent() } else { order }
            };
            for kind in [FaultKind::ReadError, FaultKind::WriteError, FaultKind::SyncError] {
                bench.disk.faults(|faults| faults.order(order(kind)));
            }
            assert!(bench.write(1, 1).is_err() && bench.read(1).is_err() && bench.sync().is_err());
            assert_eq!(bench.write(1, 1).is_err(), permanent);
            assert_eq!(bench.read(1).is_err(), permanent);
            assert_eq!(bench.sync().is_err(), permanent);
            assert!(bench.write(2, 1).is_ok() && bench.read(2).is_ok(), "other blocks are sound");
            assert_eq!(bench.disk.fault_log().len(), 3);
            bench.disk.faults(Faults::clear);
            assert!(bench.write(1, 1).is_ok() && bench.read(1).is_ok() && bench.sync().is_ok());
        }
    }

    /// After a failed sync a later, successful one may leave behind what the failed one covered.
    #[test]
    fn failed_sync_may_lose_what_it_covered() {
        let mut lost = 0;
        for seed in 0..200 {
            let mut bench = Bench::new(seed, 1 << 20);
            bench.disk.faults(|faults| faults.order(FaultOrder::new(FaultKind::SyncError)));
            bench.write(1, 1).expect("sound");
            assert!(bench.sync().is_err());
            bench.write(2, 2).expect("sound");
            bench.sync().expect("the error was transient");
            bench.crash();
            assert_eq!(bench.medium(2), 2, "seed {seed}");
            lost += u32::from(bench.medium_bytes(1).iter().any(|byte| *byte != 1));
        }
        assert!((20..180).contains(&lost), "{lost}");
    }

    #[test]
    fn rates_strike_as_often_as_they_say() {
        let mut bench = Bench::new(5, 1 << 20);
        bench.disk.faults(|faults| {
            faults.set_rate(FaultKind::ReadError, 100_000);
            faults.set_rate(FaultKind::LostWrite, 200_000);
        });
        let failed = (0..2000).filter(|_| bench.read(1).is_err()).count();
        (0..2000).for_each(|_| bench.write(2, 1).expect("lost writes are acknowledged"));
        let log = bench.disk.fault_log();
        let lost = log.iter().filter(|fault| fault.kind == FaultKind::LostWrite).count();
        assert!((150..250).contains(&failed) && (320..480).contains(&lost), "{failed} failed, {lost} lost");
        assert_eq!(log.len(), failed + lost);
    }

    #[test]
    fn power_cuts_spare_all_nothing_and_parts() {
        let mut random = Random::new(6);
        let (mut all, mut nothing, mut torn) = (0, 0, 0);
        for _ in 0..1000 {
            let mut masks = [0; 4];
            PowerCut::draw(&mut random).spare(&mut random, &mut masks);
            match masks {
                [0xFF, 0xFF, 0xFF, 0xFF] => all += 1,
                [0, 0, 0, 0] => nothing += 1,
                _ => torn += 1,
            }
        }
        assert!(all > 100 && nothing > 100 && torn > 100, "{all} whole, {nothing} lost, {torn} torn");
    }
}
