//! How long points stay: holds, dates, policies, and when their room comes back.

use serde_json::{Value, json};

use crate::shell::Shell;
use crate::volume::{change, filled, vault};

/// A vault with points of `pg`: one for each of these snapshots, each of which changed a block.
fn points(shell: &Shell, snapshots: &[&str]) {
    vault(shell);
    let mut content = filled(shell, 1);
    for (place, snapshot) in snapshots.iter().enumerate() {
        change(shell, "pg", &mut content, &[place]);
        let name = format!("pg@{snapshot}");
        shell.done(&["snapshot", "create", &name]);
        shell.done(&["vault", "send", &name, "main"]);
    }
}

/// The snapshots whose points a prune takes out, or would.
fn gone(pruned: &Value) -> Vec<&str> {
    let points = pruned["points"].as_array().expect("a list").iter();
    points
        .filter(|point| point["kept"] == false)
        .map(|point| point["snapshot"].as_str().expect("a name"))
        .collect()
}

#[test]
fn a_policy_takes_out_what_it_does_not_keep_and_says_why() {
    let shell = Shell::with_pool("64M");
    points(&shell, &["a", "b", "c", "d"]);
    shell.done(&["vault", "hold", "main", "pg@a"]);
    shell.done(&["vault", "retain", "main", "pg@b", "30d"]);
    let keep = ["vault", "prune", "main", "--keep", "last=1"];
    let plan = shell.json(&[keep.as_slice(), &["--dry-run"]].concat());
    assert_eq!((gone(&plan), &plan["dry_run"]), (vec!["c"], &json!(true)));
    let reasons: Vec<&str> = plan["points"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["reasons"].as_str().expect("text"))
        .collect();
    assert_eq!(reasons[0], "legal hold user");
    assert!(reasons[1].starts_with("retain-until "), "{reasons:?}");
    assert_eq!(reasons[2], "not one of the last 1");
    assert_eq!(reasons[3], "the last, newest point of its volume");
    assert_eq!(shell.json(&["vault", "points", "main"])["points"].as_array().map(Vec::len), Some(4));
    let pruned = shell.done(&keep);
    assert!(pruned.ends_with("1 of 4 gone; `firn vault reclaim` gives their room back\n"), "{pruned}");

    for (point, why) in [("pg@a", "it is held: user"), ("pg@b", "it is retained until ")] {
        for options in [[].as_slice(), &["--dry-run"]] {
            let ran = shell.run(&[["vault", "prune", "main", "--point", point].as_slice(), options].concat());
            assert_eq!(ran.status, Some(4), "{}", ran.stderr);
            assert!(
                ran.stderr.starts_with(&format!("firn: prune: {point} must stay: {why}")),
                "{}",
                ran.stderr
            );
        }
    }
    let released = shell.done(&["vault", "release", "main", "pg@a"]);
    assert_eq!(released, "pg@a is not held any more\n");
    assert_eq!(gone(&shell.json(&["vault", "prune", "main", "--point", "pg@a"])), ["a"]);
    assert_eq!(shell.json(&["vault", "points", "main"])["points"].as_array().map(Vec::len), Some(2));
    let out = shell.run(&["vault", "restore", "main", "pg", "--to", "-"]);
    assert!(out.stdout == shell.read("content"), "a point stands alone, whatever went before it");
}

#[test]
fn a_date_only_moves_later() {
    let shell = Shell::with_pool("64M");
    points(&shell, &["a"]);
    shell.done(&["vault", "retain", "main", "pg@a", "2033-01-31"]);
    shell.fails(
        &["vault", "retain", "main", "pg@a", "2033-01-30"],
        4,
        "firn: set retain-until: 2033-01-30T00:00:00Z is before 2033-01-31T00:00:00Z, until when it must be kept\n\
         next: a retain-until date only ever moves later\n",
    );
    let retained = shell.json(&["vault", "retain", "main", "pg@a", "2034-01-31"]);
    assert_eq!(retained["retain_until_ms"], 2_022_278_400_000_u64);
    let listed = shell.done(&["vault", "points", "main"]);
    assert!(listed.contains("until 2034-01-31 00:00:00"), "{listed}");
    shell.done(&["vault", "hold", "main", "pg@a", "--reason", "court"]);
    let held = shell.json(&["vault", "hold", "main", "pg@a", "--reason", "audit"]);
    assert_eq!(held["holds"], json!(["audit", "court"]));
    let released = shell.done(&["vault", "release", "main", "pg@a", "--reason", "audit"]);
    assert_eq!(released, "pg@a is still held: court\n");
}

/// A policy that looks at one volume alone would take a group's points apart.
#[test]
fn points_of_a_group_stay_or_go_together() {
    let shell = Shell::with_pool("64M");
    vault(&shell);
    filled(&shell, 1);
    shell.done(&["volume", "create", "log", "--size", "1M"]);
    shell.done(&["group", "create", "shop", "pg", "log"]);
    for snapshot in ["a", "b", "c"] {
        shell.done(&["group", "snapshot", &format!("shop@{snapshot}")]);
        shell.done(&["vault", "send", &format!("shop@{snapshot}"), "main"]);
    }
    shell.done(&["vault", "hold", "main", "log@a"]);
    let pruned = shell.json(&["vault", "prune", "main", "--keep", "last=1", "--volume", "pg"]);
    assert_eq!(gone(&pruned), ["b", "b"], "log@a is held, so pg@a stays with it; of b both go");
    let left = shell.json(&["vault", "points", "main"]);
    assert_eq!(left["points"].as_array().map(Vec::len), Some(4));
}

#[test]
fn room_is_not_given_back_while_a_send_might_need_it() {
    let shell = Shell::with_pool("64M");
    points(&shell, &["a", "b"]);
    let all = shell.json(&["vault", "ls", "main"]);
    assert_eq!(all["dead_bytes"], 0);
    let of_a = shell.json(&["vault", "ls", "main", "--point", "pg@a"]);
    let count = |list: &Value| list["objects"].as_array().map(Vec::len);
    assert!(count(&of_a) < count(&all), "{of_a}");
    shell.done(&["vault", "prune", "main", "--point", "pg@a"]);
    let dead = shell.json(&["vault", "ls", "main"])["dead_bytes"].as_u64();
    assert!(dead > Some(0), "{dead:?}");
    for options in [["--dry-run"].as_slice(), &[]] {
        let report = shell.json(&[["vault", "reclaim", "main"].as_slice(), options].concat());
        assert_eq!(
            (report["dead_bytes"].as_u64(), &report["deleted_objects"]),
            (dead, &json!(0)),
            "{report}"
        );
        let ruling = report["rulings"][0]["ruling"].as_str().expect("text");
        assert!(ruling.starts_with("kept because: a running send may need it until "), "{ruling}");
    }
    assert_eq!(shell.json(&["vault", "ls", "main"])["dead_bytes"].as_u64(), dead);
}
