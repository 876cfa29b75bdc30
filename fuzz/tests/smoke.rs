//! Every fuzz target's body over its seeds, over what is almost a seed, and over random bytes: always the same, and short
//! enough for `make test`. A failure is printed by the target's name and the input's number, which make it again.

use firn_fuzz::{Body, TARGETS, seeds};

/// Numbers that look random (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).expect("below a length")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// The input with this number: of four, three are seeds with a few changes, one is random.
fn input(number: u64, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut random = Random(number);
    if number.is_multiple_of(4) {
        let length = random.below(200);
        return (0..length).map(|_| random.byte()).collect();
    }
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            2 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            3 => bytes.truncate(at),
            4 => bytes.insert(at, random.byte()),
            _ => {
                let other = seeds[random.below(seeds.len())].clone();
                let from = random.below(other.len());
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

fn smoke(name: &str, body: Body, inputs: u64) {
    let seeds = seeds(name);
    seeds.iter().for_each(|seed| body(seed));
    for number in 0..inputs {
        let input = input(number, &seeds);
        let ran = std::panic::catch_unwind(|| body(&input));
        assert!(ran.is_ok(), "{name}, input {number}: {input:02x?}");
    }
}

#[test]
fn no_target_finds_anything() {
    for &(name, body) in TARGETS {
        // This one has a socket and two threads for each input.
        let inputs = if name == "nbd_replies" { 3_000 } else { 60_000 };
        smoke(name, body, inputs);
    }
}
