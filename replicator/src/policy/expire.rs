//! Which points a policy keeps. As restic and borg count: the newest point of an hour, day, week, month or year stands
//! for it, those without a point don't count, and one point may be kept by several classes, so that today's daily
//! point is this month's monthly one once the month is over.
//!
//! 1. Volumes are looked at one by one, their points from the newest: by the store's time, then by the log's order.
//!    So two points of one millisecond have an order, and it does not change.
//! 2. A volume's newest point is kept, and so are points with a hold or a date that has not passed.
//! 3. A point from the future is kept and takes nobody's place: the store's clock went back, and what it showed before
//!    proves nothing.
//! 4. Points that were committed together are kept together.
//! 5. To prune every day comes to the same as to prune once at the end. Nothing that is wanted later is gone by then.

use std::collections::BTreeMap;

use super::keep::{Keep, Rule};
use super::verdict::{Candidate, Expired, Fate, Kept, Verdict};
use crate::format::digest::Digest;

/// What speaks for a point and what against it.
#[derive(Clone, Default)]
struct Case {
    kept: Vec<Kept>,
    expired: Vec<Expired>,
}

impl Keep {
    /// What becomes of each of `points` at `now_ms` by the store's clock; in their order. They must be all live
    /// points of their volumes, or the wrong ones stand for what is missing.
    pub fn decide(&self, points: &[Candidate], now_ms: u64) -> Vec<Verdict> {
        let mut volumes = BTreeMap::<_, Vec<usize>>::new();
        for (place, point) in points.iter().enumerate() {
            volumes.entry((point.pool, point.volume)).or_default().push(place);
        }
        let mut cases = vec![Case::default(); points.len()];
        for mut places in volumes.into_values() {
            places.sort_by_key(|place| {
                let point = &points[*place];
                std::cmp::Reverse((point.time_ms, point.entry, point.id))
            });
            self.decide_volume(points, &places, now_ms, &mut cases);
        }
        keep_together(points, &mut cases);
        let verdict = |(point, case): (&Candidate, Case)| {
            let fate = if case.kept.is_empty() { Fate::Expired(case.expired) } else { Fate::Kept(case.kept) };
            Verdict { id: point.id, fate }
        };
        points.iter().zip(cases).map(verdict).collect()
    }

    /// `places`: one volume's points, from the newest.
    fn decide_volume(&self, points: &[Candidate], places: &[usize], now_ms: u64, cases: &mut [Case]) {
        let (ahead, counted): (Vec<usize>, Vec<usize>) =
            places.iter().partition(|place| points[**place].time_ms > now_ms);
        for place in ahead {
            cases[place].kept.push(Kept::Ahead);
        }
        for (rule, count) in self.rules() {
            count_off(rule, count, now_ms, points, &counted, cases);
        }
        for place in &counted {
            self.look_at_age(&points[*place], now_ms, &mut cases[*place]);
        }
        for place in places {
            look_at_promises(&points[*place], now_ms, &mut cases[*place]);
            if self.is_empty() {
                cases[*place].kept.push(Kept::NoPolicy);
            }
        }
        if let Some(newest) = counted.first() {
            cases[*newest].kept.push(Kept::NewestOfVolume);
        }
    }

    fn look_at_age(&self, point: &Candidate, now_ms: u64, case: &mut Case) {
        let (Some(age), Some(until_ms)) = (self.within(), self.young_until_ms(point.time_ms)) else { return };
        match now_ms <= until_ms {
            true => case.kept.push(Kept::Within { age }),
            false => case.expired.push(Expired::Older { age }),
        }
    }
}

/// Lets one class take its points from `counted`, the newest first.
fn count_off(
    rule: Rule,
    count: u32,
    now_ms: u64,
    points: &[Candidate],
    counted: &[usize],
    cases: &mut [Case],
) {
    let (mut present, mut newest) = (0, None);
    for (nth, place) in counted.iter().enumerate() {
        let (point, case) = (&points[*place], &mut cases[*place]);
        let is_oldest = nth + 1 == counted.len();
        match (rule.bucket(point.time_ms), newest) {
            (Some(bucket), Some((of, _))) if bucket == of && present < count && is_oldest => {
                case.kept.push(Kept::Oldest { rule, present, count });
            }
            (Some(bucket), Some((of, by))) if bucket == of => {
                case.expired.push(Expired::Represented { rule, bucket, by });
            }
            _ if present == count => case.expired.push(Expired::Full { rule, count }),
            (None, _) => {
                present += 1;
                case.kept.push(Kept::Last { count });
            }
            (Some(bucket), _) => {
                present += 1;
                newest = Some((bucket, point.id));
                let settled = rule.bucket(now_ms) != Some(bucket);
                case.kept.push(Kept::Newest { rule, bucket, settled });
            }
        }
    }
}

fn look_at_promises(point: &Candidate, now_ms: u64, case: &mut Case) {
    match point.retain_until_ms {
        Some(until_ms) if until_ms > now_ms => case.kept.push(Kept::RetainUntil { until_ms }),
        Some(until_ms) => case.expired.push(Expired::Passed { until_ms }),
        None => {}
    }
    case.kept.extend(point.holds.iter().map(|reason| Kept::Held { reason: reason.clone() }));
}

fn keep_together(points: &[Candidate], cases: &mut [Case]) {
    let mut kept = BTreeMap::<u64, Digest>::new();
    for (point, case) in points.iter().zip(&*cases) {
        if !case.kept.is_empty() {
            kept.entry(point.entry).or_insert(point.id);
        }
    }
    for (point, case) in points.iter().zip(cases) {
        if let Some(with) = kept.get(&point.entry)
            && case.kept.is_empty()
        {
            case.kept.push(Kept::Together { with: *with });
        }
    }
}
