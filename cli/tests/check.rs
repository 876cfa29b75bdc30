//! Checks: a sound pool, a damaged block that is found and never given out.

mod shell;

use shell::{Shell, noise};

#[test]
fn a_sound_pool() {
    let shell = Shell::with_pool("64M");
    shell.write("file", &noise(1, 1 << 20));
    shell.done(&["import", "file", "pg"]);
    shell.done(&["snapshot", "create", "pg@one"]);
    shell.write("file", &noise(2, 1 << 20));
    shell.done(&["import", "file", "pg", "--overwrite"]);
    let report = shell.json(&["pool", "check", "--data"]);
    assert_eq!(report["is_sound"], true, "{report}");
    assert_eq!(report["verified_blocks"], 512);
    assert_eq!(report["discrepancies"], serde_json::json!([]));
    let text = shell.done(&["pool", "check"]);
    assert!(text.contains("data verified  not read: --data does\n"), "{text}");
    assert!(text.ends_with("state          sound\n"), "{text}");
}

#[test]
fn a_damaged_block_is_found_and_never_given_out() {
    let shell = Shell::with_pool("64M");
    let content = noise(1, 1 << 20);
    shell.write("file", &content);
    shell.done(&["import", "file", "pg"]);
    shell.write("other", &noise(2, 1 << 20));
    shell.done(&["import", "other", "sound"]);

    let mut pool = shell.read("pool");
    let block = &content[17 * 4096..18 * 4096];
    let at = pool.chunks(4096).position(|stored| stored == block).expect("the block is on the device");
    pool[at * 4096 + 1234] ^= 1;
    shell.write("pool", &pool);

    let ran = shell.run(&["pool", "check", "--data", "--json"]);
    assert_eq!(ran.status, Some(5), "{}", ran.stderr);
    let report: serde_json::Value = serde_json::from_slice(&ran.stdout).expect("JSON");
    assert_eq!((&report["is_sound"], &report["discrepancies_total"]), (&false.into(), &1.into()));
    assert_eq!(report["discrepancies"][0]["kind"], "checksum");
    let ran = shell.run(&["export", "pg", "out"]);
    assert_eq!(ran.status, Some(5), "{}", ran.stderr);
    assert!(!shell.exists("out") && !shell.exists("out.partial"));
    shell.done(&["export", "sound", "out"]);
    assert!(shell.read("out") == shell.read("other"), "the rest goes on");
}
