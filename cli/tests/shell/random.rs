//! Numbers that look random and come again with their seed (xorshift64*).

/// A sequence of them.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// One that is less than `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // The high bits are the better ones, and a bias of 2^-32 does no harm here.
        (self.draw() >> 32) % bound
    }
}

/// A seed of `FIRN_SEED`, or a new one; either is said, so that a failure can be tried again.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("FIRN_SEED").ok().map(|text| text.parse().expect("FIRN_SEED is a number"));
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("FIRN_SEED={seed}");
    seed
}
