//! Somebody who stole a signing key: may put objects and sign entries, past everything that a vault would say to it, and
//! may not delete.

use firn_engine::sim::random::Random;
use firn_replicator::error::Result;
use firn_replicator::format::digest::Digest;
use firn_replicator::format::entry::{Action, Committed, Entry, Forwarded, Pruned, Who};
use firn_replicator::format::name;
use firn_replicator::format::point::Point;
use firn_replicator::store::Key;
use firn_replicator::vault::Vault;

use crate::world::{DAY_MS, signing, who};

/// What a thief's entries say of who wrote them, so that a judge knows them.
pub(crate) const USER: &str = "thief";

/// Puts an entry after the last one, dated `ahead_ms` after what an honest writer would date it.
pub(crate) fn forge(vault: &Vault, ahead_ms: u64, action: Action) -> Result<()> {
    let head = vault.refresh()?.head();
    let entry = Entry {
        format: action.format(),
        vault: vault.settings().vault,
        number: head.number + 1,
        previous: head.hash,
        time_ms: head.time_ms.max(vault.store().clock_ms()?) + ahead_ms,
        who: Who { user: USER.to_owned(), ..who() },
        action,
    };
    let bytes = entry.encode(&signing(1))?;
    vault.store().put_if_absent(&name::entry(entry.number), &bytes)?;
    vault.refresh()?;
    Ok(())
}

/// A point that says of itself what `point` says, and holds nothing. `salt` tells it from others.
pub(crate) fn decoy(vault: &Vault, point: Digest, salt: u64) -> Result<Digest> {
    let held = vault.read_point(point)?;
    let decoy = Point { runs: Vec::new(), time_ms: held.time_ms + 1 + salt, ..held };
    let bytes = decoy.encode();
    vault.store().put_if_absent(&name::point(Digest::of(&bytes)), &bytes)?;
    Ok(Digest::of(&bytes))
}

/// Lets a point go on as an empty one.
pub(crate) fn forward(vault: &Vault, from: Digest, salt: u64, ahead_ms: u64) -> Result<Digest> {
    let id = decoy(vault, from, salt)?;
    let catalog = vault.refresh()?;
    let live = catalog.point(from)?;
    let to = Committed {
        id,
        retain_until_ms: live.retain_until_ms,
        locked: live.locked,
        ..live.committed.clone()
    };
    forge(vault, ahead_ms, Action::Forward { points: vec![Forwarded { from: live.committed.id, to }] })?;
    Ok(id)
}

pub(crate) fn prune(vault: &Vault, id: Digest, ahead_ms: u64) -> Result<()> {
    let points = vec![Pruned { id, reason: "to hide it".into() }];
    forge(vault, ahead_ms, Action::Prune { points })
}

/// One of the things that a thief does in a schedule.
pub(crate) fn act(vault: &Vault, random: &mut Random) -> Result<()> {
    let catalog = vault.refresh()?;
    let points: Vec<Digest> = catalog.points().keys().copied().collect();
    if points.is_empty() {
        return Ok(());
    }
    let point = points[usize::try_from(random.below(points.len() as u64)).unwrap()];
    // Entries that are dated ahead make everybody's dated so, and then nothing is deleted for long.
    let ahead_ms = if random.below(8) == 0 { random.below(80) * DAY_MS } else { 0 };
    match random.below(6) {
        0 => prune(vault, point, ahead_ms),
        1 | 2 => {
            let objects: Vec<Key> = vault.needed_by(point)?.into_iter().filter(is_part).collect();
            forge(vault, 0, Action::Condemn { objects: objects.clone() })?;
            match random.below(2) {
                0 => forge(vault, ahead_ms, Action::Delete { objects }),
                _ => prune(vault, point, ahead_ms),
            }
        }
        _ => {
            let to = forward(vault, point, random.below(2), ahead_ms)?;
            match random.below(3) {
                0 => prune(vault, to, ahead_ms),
                _ => Ok(()),
            }
        }
    }
}

fn is_part(key: &Key) -> bool {
    [name::PACKS, name::RUNS].iter().any(|prefix| key.as_str().starts_with(prefix))
}
