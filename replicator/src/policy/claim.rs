//! What a commit may reach: the sender's half of reclaim's protocol
//! ([ADR 29](../../../docs/adr/0029-reclaim.md)).
//!
//! 1. A commit never reaches an object that a `delete` entry below it names. The same bytes get the next generation's
//!    name instead, which no slow reclaim knows.
//! 2. A commit never reaches a condemned object. An `acquit` entry takes it off the list first; so what a point reaches
//!    is, once the point is pruned, condemned anew and stays as long as anything else.
//! 3. Both are decided by the log up to the number that the commit takes, all objects looked at: point, runs and
//!    packs. Those of a parent that is still live need no look; while it was, neither could happen to them.

use super::reclaim::Standing;
use crate::store::Key;

/// Generations that are tried at most. Each stands for one deletion of the same bytes.
const GENERATIONS_MAX: u32 = 1 << 20;

/// What stands between objects and a commit that reaches them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Names that are dead: upload the bytes under the next generation's name, or base on another point.
    pub dead: Vec<Key>,
    /// To be named in an `acquit` entry first.
    pub acquit: Vec<Key>,
}

impl Claim {
    /// Looks at everything that a commit would reach.
    pub fn of<'a>(reached: impl IntoIterator<Item = (&'a Key, Standing)>) -> Self {
        let mut claim = Self::default();
        for (key, standing) in reached {
            match standing {
                Standing { is_deleted: true, .. } => claim.dead.push(key.clone()),
                Standing { condemned_ms: Some(_), .. } => claim.acquit.push(key.clone()),
                _ => {}
            }
        }
        claim
    }

    /// Whether the commit may be made.
    pub fn is_free(&self) -> bool {
        self.dead.is_empty() && self.acquit.is_empty()
    }
}

/// The first generation of some bytes whose name is not dead; nothing when there is none left.
pub fn generation(is_deleted: impl Fn(u32) -> bool) -> Option<u32> {
    (0..GENERATIONS_MAX).find(|generation| !is_deleted(*generation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_name_and_a_condemned_one_stand_against_a_commit() {
        let keys = ["runs/a", "runs/b", "runs/c", "runs/d"].map(|name| Key::new(name).unwrap());
        let condemned = Standing { condemned_ms: Some(0), ..Standing::default() };
        let standings = [
            Standing::default(),
            condemned,
            Standing { is_deleted: true, ..condemned },
            Standing { is_reached: true, ..Standing::default() },
        ];
        let claim = Claim::of(keys.iter().zip(standings));
        assert_eq!(claim, Claim { dead: vec![keys[2].clone()], acquit: vec![keys[1].clone()] });
        assert!(!claim.is_free());
        assert!(Claim::of([(&keys[0], standings[0]), (&keys[3], standings[3])]).is_free());
    }

    #[test]
    fn a_dead_name_is_followed_by_the_next_generation() {
        assert_eq!(generation(|_| false), Some(0));
        assert_eq!(generation(|generation| generation < 3), Some(3));
        assert_eq!(generation(|_| true), None);
    }
}
