//! Layers: maps of a volume that lie one over the other, each saying something about some blocks, in block order.
//!
//! 1. A layer's pieces come in block order and don't overlap.
//! 2. Of several layers the first one that says something about a block counts.

use crate::error::Result;

/// What a layer says about consecutive blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The first block.
    pub(crate) first: u64,
    /// The block after the last one.
    pub(crate) end: u64,
    /// What they are.
    pub(crate) what: What,
}

/// What blocks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Holes.
    Hole,
    /// Blocks of a pack, one after the other.
    Stored {
        /// The pack, by its index in the layer's list.
        pack: u32,
        /// The first block's position in the pack.
        position: u32,
    },
    /// What the layer said about them can't be read any more.
    Lost,
}

impl Piece {
    /// The part from block `first` to before block `end`, both within it.
    pub(crate) fn part(&self, first: u64, end: u64) -> Self {
        let what = match self.what {
            What::Stored { pack, position } => {
                let skipped = u32::try_from(first - self.first).expect("stored pieces have u32 positions");
                What::Stored { pack, position: position + skipped }
            }
            what => what,
        };
        Self { first, end, what }
    }
}

/// A layer.
pub(crate) trait Layer {
    /// The next piece; nothing at the end.
    ///
    /// # Errors
    /// What the store said; damage is a piece that is lost, or an error where nothing may be lost.
    fn next(&mut self) -> Result<Option<Piece>>;
}

/// Several layers as one.
pub(crate) struct Stack<'a> {
    layers: Vec<Above<'a>>,
    /// Everything before this block was given out.
    at: u64,
}

struct Above<'a> {
    layer: Box<dyn Layer + 'a>,
    /// Its piece that ends after `at`; nothing at its end.
    piece: Option<Piece>,
}

impl<'a> Stack<'a> {
    /// `layers` from the one that counts first. What lies before block `first` is skipped.
    pub(crate) fn new(layers: Vec<Box<dyn Layer + 'a>>, first: u64) -> Result<Self> {
        let mut above = Vec::with_capacity(layers.len());
        for mut layer in layers {
            let piece = layer.next()?;
            above.push(Above { layer, piece });
        }
        Ok(Self { layers: above, at: first })
    }

    /// The next piece, and the index of the layer that said it.
    ///
    /// # Errors
    /// What a layer said.
    pub(crate) fn next(&mut self) -> Result<Option<(usize, Piece)>> {
        self.advance()?;
        let Some(start) = self.layers.iter().filter_map(|above| above.piece).map(|piece| piece.first).min()
        else {
            return Ok(None);
        };
        let at = self.at.max(start);
        let mut end = u64::MAX;
        for (index, above) in self.layers.iter().enumerate() {
            let Some(piece) = above.piece else { continue };
            if piece.first <= at {
                let end = end.min(piece.end);
                self.at = end;
                return Ok(Some((index, piece.part(at, end))));
            }
            end = end.min(piece.first);
        }
        Ok(None)
    }

    /// Makes every layer's piece one that ends after `at`.
    fn advance(&mut self) -> Result<()> {
        for above in &mut self.layers {
            while above.piece.is_some_and(|piece| piece.end <= self.at) {
                above.piece = above.layer.next()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed<'a>(std::slice::Iter<'a, Piece>);

    impl Layer for Fixed<'_> {
        fn next(&mut self) -> Result<Option<Piece>> {
            Ok(self.0.next().copied())
        }
    }

    fn stored(first: u64, end: u64, position: u32) -> Piece {
        Piece { first, end, what: What::Stored { pack: 0, position } }
    }

    fn hole(first: u64, end: u64) -> Piece {
        Piece { first, end, what: What::Hole }
    }

    fn stacked(layers: &[&[Piece]], first: u64) -> Vec<(usize, Piece)> {
        let boxed = layers.iter().map(|pieces| Box::new(Fixed(pieces.iter())) as Box<dyn Layer>);
        let mut stack = Stack::new(boxed.collect(), first).unwrap();
        std::iter::from_fn(|| stack.next().unwrap()).collect()
    }

    #[test]
    fn the_first_layer_that_says_something_counts() {
        let over: &[Piece] = &[stored(2, 4, 0), hole(8, 9)];
        let under: &[Piece] = &[stored(0, 10, 100)];
        let expected = [
            (1, stored(0, 2, 100)),
            (0, stored(2, 4, 0)),
            (1, stored(4, 8, 104)),
            (0, hole(8, 9)),
            (1, stored(9, 10, 109)),
        ];
        assert_eq!(stacked(&[over, under], 0), expected);
        assert_eq!(stacked(&[over, under], 3)[0], (0, stored(3, 4, 1)));
        assert_eq!(stacked(&[under, over], 0), [(0, under[0])]);
    }

    /// Against the obvious model: each block asks each layer.
    #[test]
    fn stacks_of_random_layers_are_what_each_block_says() {
        for seed in 0..500 {
            let mut random = blake3::Hasher::new().update(&u64::to_le_bytes(seed)).finalize_xof();
            let mut draw = |below: u8| {
                let mut byte = [0];
                random.fill(&mut byte);
                u64::from(byte[0] % below)
            };
            let layers: Vec<Vec<Piece>> = (0..4)
                .map(|_| {
                    let (mut at, mut pieces) = (0, Vec::new());
                    while at < 60 {
                        let (first, end) = (at + draw(6), at + 6 + draw(8));
                        let position = u32::try_from(first).unwrap();
                        pieces.push(match draw(3) {
                            0 => hole(first, end),
                            _ => stored(first, end, position * 1000),
                        });
                        at = end;
                    }
                    pieces
                })
                .collect();
            let layers: Vec<&[Piece]> = layers.iter().map(Vec::as_slice).collect();
            let found = stacked(&layers, 0);
            let asked = |block: u64| {
                layers.iter().enumerate().find_map(|(index, pieces)| {
                    let piece = pieces.iter().find(|piece| (piece.first..piece.end).contains(&block))?;
                    Some((index, piece.part(block, block + 1)))
                })
            };
            for block in 0..80 {
                let of = found.iter().find(|(_, piece)| (piece.first..piece.end).contains(&block));
                let of = of.map(|(index, piece)| (*index, piece.part(block, block + 1)));
                assert_eq!(of, asked(block), "seed {seed}, block {block}");
            }
        }
    }
}
