//! The seeded generator under everything that is simulated: xoshiro256\*\* (Blackman, Vigna), seeded by splitmix64.
//!
//! 1. One seed gives one sequence, on every machine and for ever: a seed in an old report replays its failure.
//! 2. A fork takes one number from its parent; what is drawn from it afterwards doesn't move the parent.

use std::ops::Range;

/// Parts in a million, the unit of every probability here.
pub const PPM: u32 = 1_000_000;

/// A deterministic generator; not for secrets.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// The generator of `seed`; neighbouring seeds give unrelated sequences.
    pub fn new(seed: u64) -> Self {
        let mut mixer = seed;
        Self { state: std::array::from_fn(|_| split_mix(&mut mixer)) }
    }

    /// Another generator, independent of this one from here on.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self::new(self.next_u64())
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    /// A number in `0..n`. The bias of at most `n` in 2^64 is of no consequence here.
    ///
    /// # Panics
    /// When `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "nothing lies below 0");
        let product = u128::from(self.next_u64()) * u128::from(n);
        (product >> 64) as u64
    }

    /// A number in `range`.
    ///
    /// # Panics
    /// When the range is empty.
    pub fn range(&mut self, range: Range<u64>) -> u64 {
        assert!(range.start < range.end, "no number lies in {range:?}");
        range.start + self.below(range.end - range.start)
    }

    /// A place in something of `length` elements.
    ///
    /// # Panics
    /// When `length` is 0.
    pub fn index(&mut self, length: usize) -> usize {
        let index = self.below(u64::try_from(length).expect("a length fits 64 bits"));
        usize::try_from(index).expect("it lies below a length")
    }

    /// One of `choices`.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    /// True `ppm` times in a million.
    pub fn chance(&mut self, ppm: u32) -> bool {
        self.below(u64::from(PPM)) < u64::from(ppm)
    }

    /// True `percent` times in a hundred.
    pub fn percent(&mut self, percent: u32) -> bool {
        self.below(100) < u64::from(percent)
    }

    /// True every other time.
    pub fn coin(&mut self) -> bool {
        self.next_u64() >> 63 == 1
    }

    /// Eight random bits.
    pub fn byte(&mut self) -> u8 {
        (self.next_u64() >> 56) as u8
    }

    /// Puts `items` in a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }

    /// Fills `bytes` with random ones.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Invariant 1. The first line is splitmix64's published sequence for seed 0; the second pins ours.
    #[test]
    fn sequence_never_changes() {
        let golden =
            [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4, 0x06C4_5D18_8009_454F, 0xF88B_B8A8_724C_81EC];
        let mut random = Random::new(0);
        assert_eq!(random.state, golden);
        let drawn: [u64; 4] = std::array::from_fn(|_| random.next_u64());
        assert_eq!(
            drawn,
            [0x99EC_5F36_CB75_F2B4, 0xBF6E_1F78_4956_452A, 0x1A5F_849D_4933_E6E0, 0x6AA5_94F1_262D_2D2C]
        );
    }

    /// xoshiro256**'s known output for the state 1, 2, 3, 4, as other implementations test it.
    #[test]
    fn generator_is_the_published_one() {
        let mut random = Random { state: [1, 2, 3, 4] };
        let drawn: [u64; 5] = std::array::from_fn(|_| random.next_u64());
        assert_eq!(drawn, [11520, 0, 1_509_978_240, 1_215_971_899_390_074_240, 1_216_172_134_540_287_360]);
    }

    #[test]
    fn draws_stay_in_range_and_reach_its_ends() {
        let mut random = Random::new(7);
        let mut seen = [0u32; 5];
        for _ in 0..10_000 {
            let drawn = random.range(10..15);
            assert!((10..15).contains(&drawn));
            seen[usize::try_from(drawn - 10).expect("small")] += 1;
        }
        assert!(seen.iter().all(|count| (1800..2200).contains(count)), "{seen:?}");
    }

    #[test]
    fn chances_are_what_they_say() {
        let mut random = Random::new(8);
        let ppm = (0..100_000).filter(|_| random.chance(20_000)).count();
        let percent = (0..100_000).filter(|_| random.percent(30)).count();
        assert!((1800..2200).contains(&ppm), "{ppm}");
        assert!((29_000..31_000).contains(&percent), "{percent}");
        assert!((0..1000).all(|_| !random.chance(0) && random.chance(PPM) && random.percent(100)));
    }

    /// Invariant 2.
    #[test]
    fn fork_leaves_its_parent_alone() {
        let (mut one, mut other) = (Random::new(9), Random::new(9));
        let (mut busy, _idle) = (one.fork(), other.fork());
        assert_ne!(busy.next_u64(), one.next_u64());
        other.next_u64();
        assert_eq!(one.next_u64(), other.next_u64());
    }

    #[test]
    fn shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..100).collect();
        Random::new(10).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
