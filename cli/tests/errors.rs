//! What goes wrong most, word for word: what, why, and the next step; and the exit status.

#[macro_use]
mod shell;

use shell::{Shell, noise};

both_ways! {
    names_that_are_not_there_or_taken("64M")
    what_would_lose_data_is_refused("64M")
    a_full_pool_says_so_and_deletes_go_on("16M")
}

#[test]
fn no_pool() {
    let shell = Shell::new();
    let ran = shell.command(&["volume", "list"]).env_remove("FIRN_POOL").output().expect("the program runs");
    let expected = format!(
        "firn: reach the daemon: no daemon listens at {}: No such file or directory (os error 2)\n\
         next: start one with `firn serve --pool PATH`, name its --socket, or name a --pool to do without one\n",
        shell.socket().display()
    );
    assert_eq!(
        (String::from_utf8_lossy(&ran.stderr).as_ref(), ran.status.code()),
        (expected.as_str(), Some(6))
    );
    let ran = shell.command(&["serve"]).env_remove("FIRN_POOL").output().expect("the program runs");
    assert_eq!(
        String::from_utf8_lossy(&ran.stderr),
        "firn: open pool: no pool was named\nnext: give --pool PATH, or set FIRN_POOL to the path\n"
    );
    assert_eq!(ran.status.code(), Some(2));
    shell.fails(
        &["volume", "list"],
        3,
        "firn: open device: pool: No such file or directory (os error 2)\n\
         next: `firn pool create pool --size 100G` makes a pool there\n",
    );
    shell.fails(
        &["pool", "create"],
        2,
        "firn: create pool: a pool on a file needs a size\nnext: `firn pool create pool --size 100G`\n",
    );
}

fn names_that_are_not_there_or_taken(shell: &Shell) {
    shell.done(&["volume", "create", "pg", "--size", "1G"]);
    shell.fails(
        &["snapshot", "create", "mysql@a"],
        3,
        "firn: find volume: no volume named \"mysql\"\nnext: `firn volume list` shows the names\n",
    );
    shell.fails(
        &["clone", "create", "pg@a", "copy"],
        3,
        "firn: find snapshot: volume \"pg\" has no snapshot \"a\"\nnext: `firn snapshot list pg` shows the names\n",
    );
    shell.fails(
        &["group", "snapshot", "shop@a"],
        3,
        "firn: find group: no consistency group named \"shop\"\nnext: `firn group list` shows the names\n",
    );
    shell.fails(
        &["volume", "create", "pg", "--size", "1G"],
        4,
        "firn: change catalog: a volume named \"pg\" exists\n",
    );
    shell.fails(
        &["volume", "create", "-.x"],
        2,
        "error: unexpected argument '-.' found\n\n  tip: to pass '-.' as a value, use '-- -.'\n\n\
         Usage: firn volume create [OPTIONS] --size <SIZE> <VOLUME>\n\nFor more information, try '--help'.\n",
    );
    shell.fails(
        &["volume", "create", "a/b", "--size", "1G"],
        2,
        "firn: change catalog: \"a/b\" can't be the name of a volume\n\
         next: a name has 1 to 128 letters, digits or . _ : - + and starts with neither - nor .\n",
    );
}

#[test]
fn arguments_that_can_not_be() {
    let shell = Shell::with_pool("64M");
    shell.fails(
        &["volume", "create", "pg", "--size", "100GB"],
        2,
        "error: invalid value '100GB' for '--size <SIZE>': \"100GB\" is no size: write it as 100G, 1.5T or 4096 \
         (K, M, G, T, P, E; 1K is 1024)\n\nFor more information, try '--help'.\n",
    );
    shell.fails(
        &["snapshot", "show", "pg"],
        2,
        "error: invalid value 'pg' for '<VOLUME@SNAPSHOT>': \"pg\" names no snapshot: write it as \
         pg@before-upgrade\n\nFor more information, try '--help'.\n",
    );
    shell.fails(
        &["volume", "create", "pg", "--size", "1000"],
        2,
        "firn: change catalog: a volume can't have 1000 bytes\n\
         next: a size is a multiple of 4096 bytes, from 4096 to 2^59\n",
    );
}

fn what_would_lose_data_is_refused(shell: &Shell) {
    shell.write("file", &noise(1, 1 << 20));
    shell.done(&["import", "file", "pg"]);
    shell.fails(
        &["volume", "resize", "pg", "--size", "512K"],
        4,
        "firn: resize volume: 512K of pg is written beyond 512K\n\
         next: shrink what lies on the volume first, or cut it off with --force\n",
    );
    shell.fails(
        &["import", "file", "pg"],
        4,
        "firn: import: a volume named \"pg\" exists\n\
         next: name another, or make it what the file is: --overwrite\n",
    );
    shell.fails(
        &["export", "pg", "file"],
        4,
        "firn: export: file exists\nnext: name another file, or lose what is in this one: --overwrite\n",
    );
    shell.done(&["snapshot", "create", "pg@a"]);
    shell.fails(
        &["volume", "delete", "pg"],
        4,
        "firn: delete volume: volume \"pg\" has 1 snapshot: a\n\
         next: delete them first, or with it: --with-snapshots\n",
    );
    let ran = shell.run(&["pool", "create", "--size", "64M"]);
    assert_eq!(ran.status, Some(4), "a pool is not created over another: {}", ran.stderr);
    assert_eq!(shell.json(&["volume", "show", "pg"])["snapshots"], 1, "all of it is still there");
    assert_eq!(
        shell.done(&["volume", "resize", "pg", "--size", "512K", "--force", "--dry-run"]),
        "volume pg would be resized from 1M to 512K, which cuts off 512K\n"
    );
    assert_eq!(
        shell.done(&["volume", "resize", "pg", "--size", "512K", "--force"]),
        "volume pg resized from 1M to 512K, which cuts off 512K\n"
    );
}

fn a_full_pool_says_so_and_deletes_go_on(shell: &Shell) {
    shell.write("file", &noise(1, 32 << 20));
    let ran = shell.run(&["import", "file", "big"]);
    assert_eq!(ran.status, Some(7), "{}", ran.stderr);
    assert!(ran.stderr.starts_with("firn: import file into big, which is not whole now: "), "{}", ran.stderr);
    assert_eq!(shell.json(&["volume", "show", "big"])["tags"]["firn:import"], "unfinished");
    shell.done(&["volume", "delete", "big"]);
    shell.write("file", &noise(2, 4 << 20));
    shell.done(&["import", "file", "small"]);
}

#[test]
fn one_process_has_the_pool() {
    let shell = Shell::with_pool("64M");
    let options = firn_engine::pool::PoolOptions::default();
    let held = firn_engine::pool::Pool::open(&shell.path("pool"), &options).expect("the pool opens");
    shell.fails(
        &["volume", "list"],
        4,
        "firn: lock device: pool is locked\nnext: another firn process has it open; stop that one first\n",
    );
    held.close().expect("it closes");
    shell.done(&["volume", "list"]);
}
