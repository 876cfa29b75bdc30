//! Policies against a model that is slow and obvious, with a calendar of its own.

use std::collections::BTreeSet;

use firn_engine::sim::random::Random;
use firn_replicator::format::digest::{Digest, PoolId};
use firn_replicator::policy::{Candidate, Keep, Rule};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Year and month of a day since 1970 (Hinnant, "chrono-compatible low-level date algorithms").
fn year_and_month(days: u64) -> (u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month)
}

/// A number that is the same for two points of one bucket, and no other.
fn bucket(rule: Rule, point: &Candidate) -> u64 {
    let days = point.time_ms / DAY_MS;
    let (year, month) = year_and_month(days);
    match rule {
        Rule::Last => point.entry,
        Rule::Hourly => point.time_ms / HOUR_MS,
        Rule::Daily => days,
        // 1970 began on a Thursday.
        Rule::Weekly => (days + 3) / 7,
        Rule::Monthly => year * 12 + month,
        Rule::Yearly => year,
    }
}

/// Whether a class keeps `point`, one of `counted`.
fn is_counted_off(rule: Rule, count: u32, point: &Candidate, counted: &[&Candidate]) -> bool {
    let order = |point: &Candidate| (point.time_ms, point.entry, point.id);
    let own = bucket(rule, point);
    let is_newest = counted.iter().all(|p| bucket(rule, p) != own || order(p) <= order(point));
    let is_oldest = counted.iter().all(|p| order(p) >= order(point));
    let buckets: BTreeSet<u64> = counted.iter().map(|p| bucket(rule, p)).collect();
    let newer = buckets.iter().filter(|bucket| **bucket > own).count();
    let count = usize::try_from(count).expect("a small number");
    (is_newest && newer < count) || (is_oldest && buckets.len() < count)
}

/// The places of the points that stay. `within_hours` is the policy's age.
fn kept(keep: &Keep, within_hours: Option<u64>, points: &[Candidate], now_ms: u64) -> BTreeSet<usize> {
    let stays = |point: &Candidate| {
        let of_volume = |p: &&Candidate| (p.pool, p.volume) == (point.pool, point.volume);
        let counted: Vec<&Candidate> =
            points.iter().filter(of_volume).filter(|p| p.time_ms <= now_ms).collect();
        let is_newest =
            counted.iter().all(|p| (p.time_ms, p.entry, p.id) <= (point.time_ms, point.entry, point.id));
        let is_ahead = point.time_ms > now_ms;
        keep.is_empty()
            || is_ahead
            || is_newest
            || !point.holds.is_empty()
            || point.retain_until_ms.is_some_and(|until_ms| until_ms > now_ms)
            || within_hours.is_some_and(|hours| now_ms - point.time_ms <= hours * HOUR_MS)
            || keep.rules().any(|(rule, count)| is_counted_off(rule, count, point, &counted))
    };
    let entries: BTreeSet<u64> =
        points.iter().filter(|point| stays(point)).map(|point| point.entry).collect();
    (0..points.len()).filter(|place| entries.contains(&points[*place].entry)).collect()
}

fn random_policy(random: &mut Random) -> (Keep, Option<u64>) {
    let mut parts = Vec::new();
    for rule in Rule::ALL {
        if random.percent(40) {
            parts.push(format!("{}={}", rule.name(), random.range(1..6)));
        }
    }
    let within_hours = random.percent(30).then(|| random.range(1..2000));
    parts.extend(within_hours.map(|hours| format!("within={hours}h")));
    (parts.join(",").parse().expect("a policy of known parts"), within_hours)
}

/// Points as a log has them: never back in time, some of one moment, some of a group.
fn random_points(random: &mut Random) -> Vec<Candidate> {
    let gaps =
        [0, 0, 1, 1000, 20 * 60_000, HOUR_MS, 5 * HOUR_MS, DAY_MS, 9 * DAY_MS, 40 * DAY_MS, 400 * DAY_MS];
    let count = random.range(1..30);
    let (mut time_ms, mut entry, mut points) =
        (random.range(0..4_000_000_000_000), 1, Vec::<Candidate>::new());
    for nth in 0..count {
        let volume = 1 + random.below(3);
        let is_grouped = random.percent(20) && points.last().is_some_and(|last| last.volume < volume);
        if !is_grouped {
            entry += 1;
            let gap = random.pick(&gaps);
            time_ms += random.below(gap + 1);
        }
        points.push(Candidate {
            id: Digest::of(&nth.to_le_bytes()),
            pool: PoolId([1; 16]),
            volume,
            entry,
            time_ms,
            retain_until_ms: None,
            holds: Vec::new(),
        });
    }
    points
}

fn kept_ids(keep: &Keep, points: &[Candidate], now_ms: u64) -> BTreeSet<Digest> {
    let verdicts = keep.decide(points, now_ms);
    verdicts.iter().filter(|verdict| verdict.is_kept()).map(|verdict| verdict.id).collect()
}

#[test]
fn a_policy_keeps_what_the_model_keeps_and_says_why() {
    for seed in 0..20_000 {
        let mut random = Random::new(seed);
        let (keep, within_hours) = random_policy(&mut random);
        let mut points = random_points(&mut random);
        let last_ms = points.last().unwrap().time_ms;
        // Now and then the clock has gone back.
        let now_ms = match random.percent(20) {
            true => last_ms - random.below(50 * DAY_MS).min(last_ms),
            false => last_ms + random.below(50 * DAY_MS),
        };
        for point in &mut points {
            if random.percent(10) {
                point.holds.push("audit".to_owned());
            }
            if random.percent(10) {
                point.retain_until_ms = Some(now_ms - random.below(1000).min(now_ms) + random.below(1000));
            }
        }
        random.shuffle(&mut points);
        let verdicts = keep.decide(&points, now_ms);
        let expected = kept(&keep, within_hours, &points, now_ms);
        for (place, (point, verdict)) in points.iter().zip(&verdicts).enumerate() {
            assert_eq!(verdict.id, point.id);
            assert_eq!(
                verdict.is_kept(),
                expected.contains(&place),
                "seed {seed}, {keep}, {point:?}: {verdict}"
            );
            assert!(!verdict.reasons().is_empty(), "seed {seed}: {verdict}");
        }
    }
}

/// `expire`'s invariant 5: whoever prunes after each point keeps in the end what one prune of everything keeps.
#[test]
fn to_prune_often_and_to_prune_once_come_to_the_same() {
    for seed in 0..4000 {
        let mut random = Random::new(seed);
        let (keep, _) = random_policy(&mut random);
        let all = random_points(&mut random);
        let end_ms = all.last().unwrap().time_ms + random.below(50 * DAY_MS);
        let mut present = Vec::new();
        for entry in all.chunk_by(|one, other| one.entry == other.entry) {
            present.extend_from_slice(entry);
            let kept = kept_ids(&keep, &present, entry[0].time_ms);
            present.retain(|point| kept.contains(&point.id));
        }
        assert_eq!(kept_ids(&keep, &present, end_ms), kept_ids(&keep, &all, end_ms), "seed {seed}, {keep}");
    }
}

/// What is wanted for certain is never expired before, whatever comes later.
#[test]
fn a_point_is_kept_as_long_as_it_is_wanted_for_certain() {
    let mut certain = 0_u64;
    for seed in 0..4000 {
        let mut random = Random::new(seed);
        let (keep, _) = random_policy(&mut random);
        let all = random_points(&mut random);
        let early = random.index(all.len());
        let now_ms = all[early].time_ms;
        let present: Vec<Candidate> = all.iter().filter(|point| point.time_ms <= now_ms).cloned().collect();
        for (point, verdict) in present.iter().zip(keep.decide(&present, now_ms)) {
            let Some(until_ms) = verdict.wanted_until_ms(&keep, point) else { continue };
            certain += 1;
            for later in all.iter().filter(|later| (now_ms..until_ms).contains(&later.time_ms)) {
                let until_then: Vec<Candidate> =
                    all.iter().filter(|point| point.time_ms <= later.time_ms).cloned().collect();
                let kept = kept_ids(&keep, &until_then, later.time_ms);
                assert!(kept.contains(&point.id), "seed {seed}, {keep}, {point:?} until {until_ms}");
            }
        }
    }
    assert!(certain > 1000, "{certain} points were wanted for certain");
}
