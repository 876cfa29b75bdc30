//! What a policy keeps, by example: users see exactly these words.

use firn_replicator::error::Kind;
use firn_replicator::format::digest::{Digest, PoolId};
use firn_replicator::policy::calendar;
use firn_replicator::policy::{Candidate, Keep};

fn at(time: &str) -> u64 {
    calendar::time_ms(time.parse().expect("the tests write times rightly"))
}

/// Points of one volume, each its own entry, in the order of the log.
fn points(times: &[&str]) -> Vec<Candidate> {
    let point = |(nth, time): (usize, &&str)| Candidate {
        id: Digest::of(nth.to_string().as_bytes()),
        pool: PoolId([1; 16]),
        volume: 1,
        entry: nth as u64 + 2,
        time_ms: at(time),
        retain_until_ms: None,
        holds: Vec::new(),
    };
    times.iter().enumerate().map(point).collect()
}

/// The verdicts, with `#2` for the short form of the id of point 2.
fn decide(keep: &str, points: &[Candidate], now: &str) -> Vec<String> {
    let verdicts = keep.parse::<Keep>().expect("the tests write policies rightly").decide(points, at(now));
    let name = |text: String| {
        points
            .iter()
            .enumerate()
            .fold(text, |text, (nth, point)| text.replace(&point.id.short(), &format!("#{nth}")))
    };
    verdicts.iter().map(|verdict| name(verdict.to_string())).collect()
}

#[test]
fn the_newest_of_a_day_stands_for_it_and_days_without_points_do_not_count() {
    let points = points(&[
        "2026-11-10T08:00",
        "2026-11-14T22:59:59",
        "2026-11-14T23:59:59",
        "2026-11-20T08:00",
        "2026-11-20T21:00",
    ]);
    assert_eq!(
        decide("daily=2", &points, "2026-11-24T12:00"),
        [
            "expired because: 2 newer daily points are kept",
            "expired because: daily 2026-11-14 is #2",
            "kept because: daily 2026-11-14",
            "expired because: daily 2026-11-20 is #4",
            "kept because: daily 2026-11-20, newest point of its volume",
        ]
    );
}

/// As restic and borg do: until a class is full, history reaches back as far as it can.
#[test]
fn the_oldest_point_stays_until_its_class_is_full() {
    let points = points(&["2025-02-01T00:00", "2025-12-31T00:00", "2026-11-20T00:00"]);
    assert_eq!(
        decide("yearly=3", &points, "2026-11-24T12:00")[0],
        "kept because: oldest point, and yearly has 2 of 3"
    );
    assert_eq!(decide("yearly=2", &points, "2026-11-24T12:00")[0], "expired because: yearly 2025 is #1");
}

#[test]
fn a_point_that_several_classes_keep_says_so() {
    let points = points(&["2026-12-31T23:00", "2027-01-03T10:00", "2027-01-04T10:00"]);
    assert_eq!(
        decide("last=1,hourly=1,daily=1,weekly=2,monthly=9,yearly=2,within=1mo", &points, "2027-01-31T10:00"),
        [
            // 31 December belongs to the week that ends on Sunday, 3 January: the last of ISO's year 2026.
            "kept because: monthly 2026-12, yearly 2026, not older than 1mo",
            "kept because: weekly 2026-W53, not older than 1mo",
            "kept because: the last, hourly 2027-01-04 10:00, daily 2027-01-04, weekly 2027-W01, monthly 2027-01, \
             yearly 2027, not older than 1mo, newest point of its volume",
        ]
    );
    assert_eq!(
        decide("last=1,hourly=1,within=1mo", &points, "2027-02-01T10:00")[0],
        "expired because: not one of the last 1, 1 newer hourly points are kept, older than 1mo"
    );
}

#[test]
fn an_empty_policy_keeps_everything() {
    let points = points(&["1990-01-01T00:00", "2026-11-20T00:00"]);
    assert_eq!(decide("", &points, "2026-11-24T12:00")[0], "kept because: no policy says what may go");
}

#[test]
fn dates_and_holds_keep_what_no_class_does() {
    let mut points =
        points(&["2020-01-01T00:00", "2021-01-01T00:00", "2022-01-01T00:00", "2026-01-01T00:00"]);
    points[0].retain_until_ms = Some(at("2026-11-24T12:00:00.001"));
    points[1].retain_until_ms = Some(at("2026-11-24T12:00"));
    points[2].holds = vec!["lawsuit 7".to_owned(), "audit".to_owned()];
    assert_eq!(
        decide("last=1", &points, "2026-11-24T12:00"),
        [
            "kept because: retain-until 2026-11-24T12:00:00Z",
            "expired because: not one of the last 1, retain-until 2026-11-24T12:00:00Z has passed",
            "kept because: legal hold lawsuit 7, legal hold audit",
            "kept because: the last, newest point of its volume",
        ]
    );
}

#[test]
fn the_newest_point_of_a_volume_never_expires() {
    let mut points = points(&["1990-01-01T00:00", "1991-01-01T00:00", "1992-01-01T00:00"]);
    points[1].volume = 2;
    points[2].pool = PoolId([2; 16]);
    let verdicts = decide("within=1h", &points, "2026-11-24T12:00");
    assert_eq!(verdicts, ["kept because: newest point of its volume"; 3]);
}

/// Two points of one millisecond are in the log's order, whatever the order in which they are handed in.
#[test]
fn of_two_points_of_one_moment_the_later_in_the_log_is_the_newer() {
    let mut points = points(&["2026-11-20T08:00", "2026-11-20T08:00"]);
    assert!(decide("last=1", &points, "2026-11-24T12:00")[0].starts_with("expired"));
    points.reverse();
    assert!(decide("last=1", &points, "2026-11-24T12:00")[1].starts_with("expired"));
}

/// The store's clock went back: what it showed before keeps its points, and takes nobody's place.
#[test]
fn points_from_the_future_stay_and_displace_nothing() {
    let points = points(&["2026-11-19T08:00", "2026-11-20T08:00", "2036-01-01T00:00", "2036-01-01T00:00"]);
    assert_eq!(
        decide("daily=1", &points, "2026-11-20T08:00"),
        [
            "expired because: 1 newer daily points are kept",
            "kept because: daily 2026-11-20, newest point of its volume",
            "kept because: committed later than the store's clock shows now",
            "kept because: committed later than the store's clock shows now",
        ]
    );
}

#[test]
fn points_of_one_group_stay_together() {
    let mut points = points(&["2026-11-20T08:00", "2026-11-20T08:00", "2026-11-20T09:00"]);
    points[1].volume = 2;
    points[1].entry = points[0].entry;
    assert_eq!(
        decide("last=1", &points, "2026-11-24T12:00")[0],
        "kept because: its group's point #1 is kept"
    );
}

/// The lock of a point may be moved to where its classes reach for certain, and no further.
#[test]
fn a_point_is_wanted_for_certain_once_its_day_is_over() {
    let points = points(&["2026-11-20T08:00", "2026-11-20T09:00", "2026-11-21T08:00"]);
    let wanted = |keep: &str, now: &str| -> Vec<Option<String>> {
        let keep: Keep = keep.parse().unwrap();
        let verdicts = keep.decide(&points, at(now));
        let until =
            verdicts.iter().zip(&points).map(|(verdict, point)| verdict.wanted_until_ms(&keep, point));
        until.map(|until| until.map(calendar::text)).collect()
    };
    let day = |text: &str| Some(format!("{text}:00Z"));
    assert_eq!(wanted("daily=7", "2026-11-21T23:59"), [None, day("2026-11-27T00:00"), None]);
    assert_eq!(wanted("daily=7", "2026-11-22T00:00")[2], day("2026-11-28T00:00"));
    assert_eq!(wanted("yearly=20,within=36h", "2026-11-21T08:00")[0], day("2026-11-21T20:00"));
    assert_eq!(wanted("yearly=20", "2027-01-01T00:00")[2], day("2046-01-01T00:00"));
}

#[test]
fn a_policy_reads_back_as_it_is_printed() {
    for (text, printed) in [
        ("", ""),
        ("  ", ""),
        (
            "last=3,hourly=24,daily=7,weekly=5,monthly=12,yearly=20",
            "last=3,hourly=24,daily=7,weekly=5,monthly=12,yearly=20",
        ),
        (" within = 30d , last=3 ", "last=3,within=30d"),
        ("within=1y6mo", "within=1y 6mo"),
        ("within=36h,daily=4294967295", "daily=4294967295,within=36h"),
    ] {
        let keep: Keep = text.parse().unwrap();
        assert_eq!(keep.to_string(), printed);
        assert_eq!(printed.parse::<Keep>().unwrap(), keep, "{text}");
        assert_eq!(keep.is_empty(), printed.is_empty());
    }
}

/// Above all `6m`: months to one who knows restic, minutes to the parser.
#[test]
fn what_is_not_understood_is_refused() {
    for text in [
        "daily",
        "daily=",
        "daily=x",
        "daily=-1",
        "daily=+1",
        "daily=0",
        "daily=4294967296",
        "daily=1,daily=2",
        "days=7",
        "daily=1,",
        ",",
        "within=",
        "within=30",
        "within=-30d",
        "within=30d ago",
        "within=0d",
        "within=6m",
        "within=1d1s",
        "within=1d,within=2d",
        "daily=7;weekly=4",
    ] {
        let error = text.parse::<Keep>().unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{text:?}");
        assert!(error.next_step().is_some(), "{text:?}");
    }
}
