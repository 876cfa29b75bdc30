//! The daemon as a process: sockets, starting and stopping, being killed, its configuration and its API.

#[macro_use]
mod shell;

use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use shell::http::{Connection, ask};
use shell::{Shell, noise};

const MIB: usize = 1 << 20;

/// Waits until it is so. What never becomes so ends the test by its time limit, with this in the log.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    eprintln!("waiting until {what}");
    while !is_so() {
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn metric(shell: &Shell, line: &str) -> Option<String> {
    let metrics = ask(&shell.socket(), "GET", "/metrics", "").body;
    metrics.lines().find_map(|found| Some(found.strip_prefix(line)?.trim().to_owned()))
}

#[test]
fn it_has_its_pool_and_its_sockets_for_itself() {
    let shell = Shell::served("64M");
    for socket in ["firn.sock", "nbd.sock"] {
        let mode = shell.socket().with_file_name(socket).metadata().expect("a socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o660, "{socket}");
    }
    let socket = shell.socket().display().to_string();
    shell.fails(
        &["--pool", "pool", "volume", "list"],
        4,
        &format!(
            "firn: lock device: pool is locked\nnext: a daemon serves it: ask that one with --socket {socket}, or stop \
             it first\n"
        ),
    );
    let mut second = shell.start_daemon(&[]);
    assert_eq!(second.wait().expect("it ends").code(), Some(4));
    let log = String::from_utf8(shell.read("log")).expect("UTF-8");
    assert!(log.contains(&format!("firn: listen: a daemon listens at {socket}\n")), "{log}");
    shell.fails(
        &["--pool", "pool", "--socket", &socket, "volume", "list"],
        2,
        "firn: choose a pool: both --socket and --pool were given\n\
         next: --socket asks the daemon there, --pool opens the pool without one: give one of them\n",
    );
    shell.done(&["volume", "list"]);
}

#[test]
fn it_stops_when_it_is_told_to_and_tells_the_service_manager() {
    let mut shell = Shell::with_pool("64M");
    let manager = UnixDatagram::bind(shell.path("notify")).expect("a socket");
    manager.set_read_timeout(Some(Duration::from_secs(60))).expect("a time limit");
    let hear = || {
        let mut message = [0; 256];
        let length = manager.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let mut command = shell.command(&["serve", "--log-format", "json"]);
    command.env("NOTIFY_SOCKET", shell.path("notify")).env("WATCHDOG_USEC", "200000").stderr(Stdio::piped());
    let daemon = command.env("FIRN_SOCKET", shell.socket()).spawn().expect("it starts");
    shell.adopt(daemon);
    assert_eq!(hear().trim(), "READY=1");
    assert_eq!(hear().trim(), "WATCHDOG=1");
    shell.done(&["volume", "create", "pg", "--size", "1G"]);

    let (ended, log) = shell.stop_and_read();
    assert!(ended.success(), "{log}");
    until("it says that it stops", || hear().trim() == "STOPPING=1");
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).expect("an object on each line");
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
    assert!(!shell.socket().exists() && !shell.socket().with_file_name("nbd.sock").exists());
    let status = shell.json(&["pool", "status"]);
    assert_eq!((&status["recovery"]["clean"], &status["volumes"]), (&json!(true), &json!(1)));
}

#[test]
fn killed_it_is_started_again_and_has_lost_nothing() {
    let mut shell = Shell::served("128M");
    let content = noise(1, 8 * MIB);
    shell.write("file", &content);
    shell.done(&["import", "file", "pg"]);
    for round in 0..3 {
        shell.done(&["snapshot", "create", &format!("pg@{round}")]);
        shell.kill();
        assert!(shell.socket().exists(), "nobody took it away");
        // Asked before there is anybody to answer: the command line waits.
        let socket = shell.socket().display().to_string();
        let mut early = shell.command(&["--socket", &socket, "snapshot", "list", "--json"]);
        let early = early.stdout(Stdio::piped()).spawn().expect("it starts");
        shell.serve(&[]);
        let early = early.wait_with_output().expect("it ends");
        assert!(early.status.success(), "it was answered when the daemon was there");
        let snapshots: Value = serde_json::from_slice(&early.stdout).expect("JSON");
        assert_eq!(snapshots["snapshots"].as_array().map(Vec::len), Some(round + 1));
        assert_eq!(shell.json(&["pool", "status"])["recovery"]["clean"], false);
    }
    shell.done(&["export", "pg@0", "out"]);
    assert!(shell.read("out") == content);
    let report = shell.json(&["pool", "check"]);
    assert_eq!(report["is_sound"], true, "{report}");
}

/// As when both lines are pasted at once: the daemon has begun, and has no socket yet.
#[test]
fn a_command_right_behind_it_waits_for_its_socket() {
    let mut shell = Shell::with_pool("64M");
    let daemon = shell.start_daemon(&[]);
    let pid = rustix::process::Pid::from_child(&daemon);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("stopped");
    let mut command = shell.command(&["volume", "list"]);
    let command = command.env_remove("FIRN_POOL").stdout(Stdio::null()).spawn().expect("it starts");
    // Longer than a daemon is waited for that is not seen to run.
    std::thread::park_timeout(Duration::from_millis(600));
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).expect("it goes on");
    shell.adopt(daemon);
    assert!(command.wait_with_output().expect("it ends").status.success());
}

#[test]
fn nobody_there() {
    let shell = Shell::with_pool("64M");
    let socket = shell.socket().display().to_string();
    shell.fails(
        &["--socket", &socket, "volume", "list"],
        6,
        &format!(
            "firn: reach the daemon: no daemon listens at {socket}: No such file or directory (os error 2)\n\
             next: is it running? `firn serve --pool PATH` starts one\n"
        ),
    );
}

#[test]
fn the_configuration_is_what_was_typed_over_the_environment_over_the_file() {
    let shell = Shell::new();
    shell.write("firn.toml", b"pool = \"/a/pool\"\ncache = \"1G\"\nlog = \"debug\"\napi_connections = 7\n");
    let mut command = shell.command(&["serve", "--check-config", "--config", "firn.toml", "--cache", "3G"]);
    command.env_remove("FIRN_POOL").env("FIRN_CACHE", "2G").env("FIRN_API_CONNECTIONS", "8");
    command.env("FIRN_STATE", "/a/state");
    let ran = command.output().expect("it runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let printed: toml::Table = String::from_utf8(ran.stdout).expect("UTF-8").parse().expect("TOML");
    let expected = json!({
        "pool": "/a/pool", "socket": shell.socket(), "nbd_socket": shell.socket().with_file_name("nbd.sock"),
        "nbd_listen": [], "allow_plaintext": false, "nbd_connections": 1024, "api_connections": 8, "cache": "3G",
        "log": "debug", "log_format": "text", "state": "/a/state",
    });
    assert_eq!(serde_json::to_value(printed).expect("JSON"), expected);

    shell.write("firn.toml", b"pools = \"/a\"\n");
    let ran = shell.run(&["serve", "--check-config", "--config", "firn.toml"]);
    assert_eq!(ran.status, Some(2));
    assert!(ran.stderr.contains("unknown field `pools`"), "{}", ran.stderr);
    let ran = shell.run(&["serve", "--nbd-listen", "127.0.0.1:0"]);
    assert!(ran.stderr.ends_with("or say that it may be so: allow_plaintext\n"), "{}", ran.stderr);
}

#[test]
fn every_route_is_in_the_document_and_answers() {
    let shell = Shell::served("64M");
    let text = ask(&shell.socket(), "GET", "/openapi.json", "").body;
    let document: Value = serde_json::from_str(&text).expect("JSON");
    let printed: Value = serde_json::from_str(&shell.done(&["serve", "--print-openapi"])).expect("JSON");
    assert_eq!(document, printed);
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() > 25, "{}", paths.len());
    let mut connection = Connection::open(&shell.socket());
    for (path, methods) in paths {
        for method in methods.as_object().expect("methods").keys() {
            let method = method.to_uppercase();
            // What needs something says so, and what needs nothing does it; neither is a path that is not there.
            let answered = connection.ask(&method, path, "{}");
            let is_answered = answered.status == 200
                || (answered.status == 400 && answered.body.contains("read the request: missing field"));
            assert!(is_answered, "{method} {path}: {answered:?}");
            let other = if method == "GET" { "POST" } else { "GET" };
            assert_eq!(connection.ask(other, path, "{}").status, 405, "{other} {path}");
        }
    }
    let answered = connection.ask("GET", "/v1/volume/paint", "");
    assert_eq!(answered.status, 404);
    let failed: Value = serde_json::from_str(&answered.body).expect("JSON");
    assert_eq!(failed["error"]["message"], "find the route: there is no /v1/volume/paint");
    let refs =
        text.split("#/components/schemas/").skip(1).map(|rest| rest.split('"').next().expect("a name"));
    for name in refs {
        assert!(document["components"]["schemas"][name].is_object(), "{name} is described nowhere");
    }
    for (name, field) in [("Statistics", "written_bytes"), ("CheckReport", "discrepancies")] {
        let described = &document["components"]["schemas"][name]["properties"][field];
        assert!(described["type"].is_string(), "{name}.{field}: {described}");
    }
}

#[test]
fn bad_requests_are_told_what_is_wrong_with_them() {
    let shell = Shell::served("64M");
    for (body, status, message) in [
        ("", 400, "read the request: EOF while parsing a value at line 1 column 0"),
        ("{\"volume\":\"a\",\"bytes\":4096,\"sise\":1}", 400, "read the request: unknown field `sise`"),
        ("{\"volume\":\"a\",\"bytes\":1}", 400, "change catalog: a volume can't have 1 bytes"),
        ("{\"volume\":\"a/b\",\"bytes\":4096}", 400, "change catalog: \"a/b\" can't be the name of a volume"),
    ] {
        let answered = ask(&shell.socket(), "POST", "/v1/volume/create", body);
        let failed: Value = serde_json::from_str(&answered.body).expect("JSON");
        let told = failed["error"]["message"].as_str().expect("a message");
        assert!(answered.status == status && told.starts_with(message), "{body}: {answered:?}");
    }
    let long = format!("{{\"volume\":\"{}\"}}", "a".repeat(MIB));
    let answered = ask(&shell.socket(), "POST", "/v1/volume/rename", &long);
    assert_eq!(answered.status, 400, "no request is that long");
    assert_eq!(shell.json(&["volume", "list"])["volumes"], json!([]));
}

#[test]
fn metrics() {
    let mut shell = Shell::with_pool("64M");
    shell.serve(&["--metrics-listen", "127.0.0.1:0"]);
    shell.write("file", &noise(1, MIB));
    shell.done(&["import", "file", "pg"]);
    shell.run(&["volume", "show", "mysql"]);
    for (line, value) in [
        ("firn_volume_mapped_bytes{volume=\"pg\"}", "1048576"),
        ("firn_pool_read_only", "0"),
        ("firn_nbd_bytes_total{volume=\"pg\",kind=\"write\"}", "1048576"),
        ("firn_api_requests_total{path=\"/v1/volume/show\",status=\"404\"}", "2"),
        ("firn_api_requests_total{path=\"/v1/volume/create\",status=\"200\"}", "1"),
        ("firn_api_seconds_count{path=\"/v1/volume/create\"}", "1"),
    ] {
        assert_eq!(metric(&shell, line).as_deref(), Some(value), "{line}");
    }
    let page = ask(&shell.socket(), "GET", "/metrics", "").body;
    assert!(page.ends_with("# EOF\n"), "{page}");

    let log = String::from_utf8(shell.read("log")).expect("UTF-8");
    let address = log.lines().find_map(|line| line.split_once("serving metrics at=")).expect("its address").1;
    let over_tcp = |path: &str| {
        let mut stream = std::net::TcpStream::connect(address).expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: firn\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    assert!(over_tcp("/metrics").contains("firn_pool_volumes 1\n"));
    assert!(over_tcp("/v1/volume/list").starts_with("HTTP/1.1 404 "), "metrics, and nothing else");
}

#[test]
fn a_scrub_finds_damage_while_the_pool_is_in_use_and_goes_on_where_it_was() {
    let shell = Shell::served("64M");
    let content = noise(1, 4 * MIB);
    shell.write("file", &content);
    shell.done(&["import", "file", "pg"]);
    let scrubbed = shell.json(&["pool", "scrub", "--rate", "1G", "--resume", "note"]);
    assert_eq!((&scrubbed["is_sound"], &scrubbed["read_bytes"]), (&json!(true), &json!(4 * MIB)));
    assert!(!shell.exists("note"), "nothing is left to go on with");

    let pool = shell.read("pool");
    let block = &content[700 * 4096..701 * 4096];
    let at = pool.chunks(4096).position(|stored| stored == block).expect("it is on the device");
    let device = std::fs::File::options().write(true).open(shell.path("pool")).expect("the pool");
    device.write_all_at(&[!block[0]], at as u64 * 4096).and_then(|()| device.sync_all()).expect("damaged");
    let ran = shell.run(&["pool", "scrub", "--json"]);
    assert_eq!(ran.status, Some(5), "{}", ran.stderr);
    let scrubbed: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
    assert_eq!(scrubbed["damaged_blocks"], 1);
    assert_eq!(
        (&scrubbed["damaged"][0]["volume"], &scrubbed["damaged"][0]["offset"]),
        (&json!("pg"), &json!(700 * 4096))
    );

    // From behind the damage on there is none.
    shell.write("note", b"1:-:800\n");
    let scrubbed = shell.json(&["pool", "scrub", "--resume", "note"]);
    assert_eq!((&scrubbed["is_sound"], &scrubbed["read_bytes"]), (&json!(true), &json!(224 * 4096)));
    shell.write("note", b"soon\n");
    assert_eq!(shell.run(&["pool", "scrub", "--resume", "note"]).status, Some(2));

    shell.fails(
        &["pool", "check", "--data"],
        2,
        "firn: check pool: a daemon checks the metadata of a pool, not its data\n\
         next: `firn pool scrub` reads the data while the pool is in use\n",
    );
    assert_eq!(shell.json(&["pool", "check"])["is_sound"], true, "the metadata is whole");
}

#[test]
fn long_work_ends_when_nobody_waits_for_it_and_never_holds_up_the_rest() {
    let mut shell = Shell::served("128M");
    shell.write("file", &noise(1, 32 * MIB));
    shell.done(&["import", "file", "pg"]);
    let slow = ["pool", "scrub", "--rate", "1M", "--resume", "note"];
    let mut scrubs: Vec<_> = (0..8).map(|_| shell.start(&slow)).collect();
    until("every scrub has begun", || {
        let begun = metric(&shell, "firn_api_requests_total{path=\"/v1/pool/status\",status=\"200\"}");
        begun.and_then(|begun| begun.parse::<u32>().ok()).is_some_and(|begun| begun > 8)
            && shell.exists("note")
    });
    until("one more is refused", || {
        let answered = ask(&shell.socket(), "POST", "/v1/pool/scrub", "{}");
        answered.status == 429 && answered.body.contains("8 long operations are under way")
    });
    shell.done(&["volume", "list"]);
    shell.done(&["snapshot", "create", "pg@meanwhile"]);
    for scrub in &mut scrubs[1..] {
        scrub.kill().and_then(|()| scrub.wait()).expect("it was running");
    }
    until("they have ended", || {
        metric(&shell, "firn_api_requests_total{path=\"/v1/pool/scrub\",status=\"503\"}").as_deref()
            == Some("7")
    });
    assert!(shell.stop().success(), "a scrub that is under way does not keep the daemon from stopping");
    assert_eq!(scrubs[0].wait().expect("it ends").code(), Some(6));
    let note = String::from_utf8(shell.read("note")).expect("UTF-8");
    assert!(note.starts_with("1:-:"), "another scrub goes on from there: {note}");
}

#[test]
fn a_delta_of_many_extents_arrives_whole_and_a_broken_connection_is_no_answer() {
    let mut shell = Shell::served("256M");
    let mut content = noise(1, 64 * MIB);
    shell.write("file", &content);
    shell.done(&["import", "file", "pg"]);
    shell.done(&["snapshot", "create", "pg@a"]);
    for block in (0..content.len() / 4096).step_by(2) {
        content[block * 4096] ^= 1;
    }
    shell.write("file", &content);
    shell.done(&["import", "file", "pg", "--overwrite"]);
    let lines = shell.done(&["delta", "pg@a", "pg", "--extents", "--json"]);
    assert_eq!(lines.lines().count(), 8192 + 1);
    let answered = ask(&shell.socket(), "GET", "/v1/delta?older=pg%40a&newer=pg&extents=true", "");
    let last: Value = serde_json::from_str(answered.body.lines().last().expect("a line")).expect("JSON");
    assert_eq!((answered.body.lines().count(), &last["done"]["extents_total"]), (8193, &json!(8192)));

    // A client that asks and does not read holds up nobody, and a kill in the middle is told as what it is.
    let mut idle = std::os::unix::net::UnixStream::connect(shell.socket()).expect("a daemon");
    idle.write_all(b"GET /v1/delta?older=pg%40a&newer=pg&extents=true HTTP/1.1\r\nhost: firn\r\n\r\n")
        .expect("sent");
    shell.done(&["volume", "list"]);
    let mut scrub = shell.command(&["pool", "scrub", "--rate", "1M", "--resume", "note"]);
    let scrub = scrub.stderr(Stdio::piped()).spawn().expect("it starts");
    until("it is under way", || shell.exists("note"));
    shell.kill();
    let ran = scrub.wait_with_output().expect("it ends");
    let stderr = String::from_utf8(ran.stderr).expect("UTF-8");
    assert_eq!(ran.status.code(), Some(6), "{stderr}");
    assert!(stderr.contains("went away before it had answered"), "{stderr}");
    // It closes what the kill left.
    shell.done(&["pool", "status"]);
}
