//! The NBD client against servers that others wrote (qemu-nbd, nbdkit), against ones that die and come back, and
//! against ones that lie.

mod liar;
mod peers;

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use firn_engine::error::{Kind, Result};
use firn_engine::export::nbd::client::{
    Client, ClientOptions, Event, Export, Extent, Reconnect, Request, Response, Uri,
};

use liar::Liar;
use peers::{Folder, MIB, noise};

/// Longer than anything here takes; it ends a test that would wait for ever.
const LONG: Duration = Duration::from_secs(60);

fn connect(uri: &Uri, reconnect: Reconnect) -> Result<Client> {
    Client::connect(uri, ClientOptions { connections: 2, reconnect, observer: None })
}

/// A client whose events come out of a channel.
fn watched(uri: &Uri, connections: usize, reconnect: Reconnect) -> (Client, Receiver<Event>) {
    let (sender, events) = channel();
    let sender = Mutex::new(sender);
    let observer = Box::new(move |event: &Event| _ = sender.lock().expect("a lock").send(event.clone()));
    let options = ClientOptions { connections, reconnect, observer: Some(observer) };
    (Client::connect(uri, options).expect("connected"), events)
}

fn submit(client: &Client, request: Request) -> Receiver<Result<Response>> {
    let (sender, receiver) = channel();
    client.submit(request, Box::new(move |result| _ = sender.send(result)));
    receiver
}

#[test]
fn what_is_written_is_in_the_file_and_comes_back() {
    let folder = Folder::new();
    let server = folder.qemu("disk", 64 * MIB, &[]);
    let client = connect(&server.uri, Reconnect::Never).expect("connected");
    let export = client.export();
    assert_eq!(export.bytes, 64 * MIB as u64);
    assert!(export.has(Export::CAN_MULTI_CONN) && !export.has(Export::READ_ONLY), "{export:?}");
    let content = noise(1, 3 * MIB + 512);
    client.write_at(MIB as u64, &content).expect("written");
    client.write_at(40 * MIB as u64, &content[..4096]).expect("written");
    client.zero(2 * MIB as u64, 512 << 10).expect("zeroed");
    client.flush().expect("flushed");
    let mut expected = vec![0; 64 * MIB];
    expected[MIB..MIB + content.len()].copy_from_slice(&content);
    expected[40 * MIB..][..4096].copy_from_slice(&content[..4096]);
    expected[2 * MIB..][..512 << 10].fill(0);
    let mut read = vec![1; 64 * MIB];
    client.read_at(0, &mut read).expect("read");
    assert!(read == expected, "what the client reads");
    assert!(folder.read("disk") == expected, "what is in the file");
}

#[test]
fn holes_are_told_from_data() {
    let folder = Folder::new();
    let server = folder.qemu("disk", 64 * MIB, &[]);
    let client = connect(&server.uri, Reconnect::Never).expect("connected");
    client.write_at(8 * MIB as u64, &noise(2, MIB)).expect("written");
    let mut found: Vec<Extent> = Vec::new();
    let all = client.extents(0, 64 * MIB as u64, |extent| {
        match found.last_mut() {
            Some(last) if last.is_zero == extent.is_zero => last.bytes += extent.bytes,
            _ => found.push(extent),
        }
        Ok(())
    });
    all.expect("told");
    let extent = |from: usize, to: usize, is_zero| Extent {
        offset: (from * MIB) as u64,
        bytes: ((to - from) * MIB) as u64,
        is_zero,
    };
    assert_eq!(found, [extent(0, 8, true), extent(8, 9, false), extent(9, 64, true)]);
}

#[test]
fn a_server_without_structured_replies_is_understood() {
    let folder = Folder::new();
    let server = folder.nbdkit(&["--no-sr", "memory", "8M"]);
    let client = connect(&server.uri, Reconnect::Never).expect("connected");
    assert_eq!(client.export().allocation, None);
    let content = noise(3, MIB);
    client.write_at(512, &content).expect("written");
    let mut read = vec![0; MIB];
    client.read_at(512, &mut read).expect("read");
    assert!(read == content);
    let mut extents = Vec::new();
    client
        .extents(0, 8 << 20, |extent| {
            extents.push(extent);
            Ok(())
        })
        .expect("told");
    assert_eq!(
        extents,
        [Extent { offset: 0, bytes: 8 << 20, is_zero: false }],
        "it can't say, so all is data"
    );
}

#[test]
fn errors_of_a_server_are_errors_of_the_request_alone() {
    let folder = Folder::new();
    let server = folder.nbdkit(&["--filter=error", "memory", "8M", "error=ENOSPC", "error-pwrite-rate=100%"]);
    let client = connect(&server.uri, Reconnect::Never).expect("connected");
    let refused = client.write_at(0, &[1; 4096]).expect_err("no room");
    assert_eq!(refused.kind(), Kind::OutOfSpace, "{refused}");
    client.read_at(0, &mut [0; 4096]).expect("reads go on");
    let server = folder.nbdkit(&["-r", "memory", "8M"]);
    let client = connect(&server.uri, Reconnect::Never).expect("connected");
    let refused = client.write_at(0, &[1; 4096]).expect_err("read-only");
    assert_eq!(refused.kind(), Kind::Invalid, "{refused}");
}

#[test]
fn nobody_there_and_no_such_export_are_told_apart() {
    let folder = Folder::new();
    let nobody =
        connect(&Uri::unix(folder.path("nobody.sock"), "pg"), Reconnect::Forever).expect_err("nobody");
    assert_eq!(nobody.kind(), Kind::Unavailable, "{nobody}");
    let server = folder.qemu("disk", MIB, &["-x", "pg"]);
    let unknown = connect(&Uri { export: "other".to_owned(), ..server.uri.clone() }, Reconnect::Never);
    assert_eq!(unknown.expect_err("unknown").kind(), Kind::NotFound);
    let named = Uri { export: "pg".to_owned(), ..server.uri.clone() };
    connect(&named, Reconnect::Never).expect("its name");
    let refused = connect(&Uri { is_tls: true, ..named }, Reconnect::Never).expect_err("no certificates");
    assert_eq!(refused.kind(), Kind::Invalid, "{refused}");
}

/// Requests that a dead server did not answer are done by the next one, and nobody sees an error.
#[test]
fn a_server_that_is_killed_and_started_again_is_only_slow() {
    let folder = Folder::new();
    let mut server = folder.qemu("disk", 64 * MIB, &[]);
    let (client, events) = watched(&server.uri, 2, Reconnect::Forever);
    let mut expected = vec![0; 64 * MIB];
    for round in 0..5 {
        let content = noise(10 + round, 64 << 10);
        let mut answers = Vec::new();
        for number in 0..200_usize {
            let offset = (number * 7 + usize::try_from(round).expect("small")) % 1024 * (64 << 10);
            expected[offset..offset + content.len()].copy_from_slice(&content);
            let request = Request::Write { offset: offset as u64, data: content.clone(), is_durable: false };
            answers.push(submit(&client, request));
            if number == 50 {
                server.kill();
            }
        }
        server.start();
        for answer in answers {
            answer.recv_timeout(LONG).expect("an answer").expect("no error");
        }
        assert_eq!(client.in_flight(), 0);
    }
    let mut read = vec![0; 64 * MIB];
    client.read_at(0, &mut read).expect("read");
    assert!(read == expected);
    client.close();
    let restored = events.iter_pending().filter(|event| matches!(event, Event::Restored { .. })).count();
    assert!((5..=10).contains(&restored), "two connections, each restored at most once a round: {restored}");
}

/// What a receiver has without waiting for more.
trait Pending {
    fn iter_pending(&self) -> impl Iterator<Item = Event>;
}

impl Pending for Receiver<Event> {
    fn iter_pending(&self) -> impl Iterator<Item = Event> {
        std::iter::from_fn(|| self.try_recv().ok())
    }
}

#[test]
fn requests_fail_after_the_time_that_was_given_and_go_on_when_the_server_is_back() {
    let folder = Folder::new();
    let mut server = folder.qemu("disk", MIB, &[]);
    let (client, events) = watched(&server.uri, 1, Reconnect::Within(Duration::from_millis(200)));
    server.kill();
    let answer = submit(&client, Request::Read { offset: 0, bytes: 512 });
    let error = answer.recv_timeout(LONG).expect("an answer").expect_err("nobody is there");
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    client.flush().expect_err("at once, while nobody is there");
    server.start();
    loop {
        match events.recv_timeout(LONG).expect("an event") {
            Event::Restored { .. } => break,
            Event::Failing { is_final, .. } => assert!(!is_final),
            Event::Lost(_) => {}
        }
    }
    client.flush().expect("back");
}

#[test]
fn an_export_that_is_gone_or_another_is_never_written_to_again() {
    let folder = Folder::new();
    let mut server = folder.qemu("disk", MIB, &["-x", "pg", "-D", "one"]);
    let uri = Uri { export: "pg".to_owned(), ..server.uri.clone() };
    for arguments in [["-x", "other", "-D", "one"], ["-x", "pg", "-D", "two"]] {
        let (client, events) = watched(&uri, 1, Reconnect::Forever);
        server.kill();
        let answer = submit(&client, Request::Write { offset: 0, data: vec![9; 512], is_durable: false });
        server.start_with(&arguments);
        let error = answer.recv_timeout(LONG).expect("an answer").expect_err("another export");
        assert!(matches!(error.kind(), Kind::NotFound | Kind::Conflict), "{error}");
        let last = events.recv_timeout(LONG).and_then(|_| events.recv_timeout(LONG)).expect("two events");
        assert!(matches!(last, Event::Failing { is_final: true, .. }), "{last:?}");
        client.flush().expect_err("for good");
        assert!(folder.read("disk") == vec![0; MIB], "nothing was written");
        server.kill();
        server.start_with(&["-x", "pg", "-D", "one"]);
    }
}

#[test]
fn what_lies_beyond_the_end_of_an_export_that_shrank_is_an_error() {
    let folder = Folder::new();
    let mut server = folder.qemu("disk", 2 * MIB, &[]);
    let (client, events) = watched(&server.uri, 1, Reconnect::Forever);
    server.kill();
    let file = std::fs::File::options().write(true).open(folder.path("disk")).expect("the file");
    file.set_len(MIB as u64).expect("shrunk");
    server.start();
    while !matches!(events.recv_timeout(LONG).expect("an event"), Event::Restored { bytes: 1_048_576, .. }) {}
    client.read_at(0, &mut [0; 4096]).expect("what is left");
    let beyond = client.read_at(MIB as u64, &mut [0; 4096]).expect_err("what is not");
    assert_eq!(beyond.kind(), Kind::Invalid, "{beyond}");
}

#[test]
fn a_client_that_is_closed_answers_everything() {
    let folder = Folder::new();
    let mut server = folder.qemu("disk", MIB, &[]);
    let (client, _events) = watched(&server.uri, 2, Reconnect::Forever);
    server.kill();
    let answers: Vec<_> = (0..10).map(|_| submit(&client, Request::Flush)).collect();
    client.close();
    for answer in answers {
        answer.recv_timeout(LONG).expect("an answer").expect_err("closed");
    }
    let late = submit(&client, Request::Flush).recv_timeout(LONG).expect("an answer");
    assert_eq!(late.expect_err("closed").kind(), Kind::Unavailable);
}

/// Every lie of [`liar::LIES`], told after a good handshake: the request ends with an error, and memory is not what
/// the lie says.
#[test]
fn a_lying_server_is_an_error() {
    for (name, lie) in liar::LIES {
        let liar = Liar::start(lie);
        let client = connect(&liar.uri(), Reconnect::Never).unwrap_or_else(|error| panic!("{name}: {error}"));
        let answer = submit(&client, Request::Read { offset: 4096, bytes: 4096 });
        let answer = answer.recv_timeout(LONG).unwrap_or_else(|_| panic!("{name}: no answer"));
        assert!(answer.is_err(), "{name}: {answer:?}");
    }
}

#[test]
fn a_lie_in_the_handshake_is_an_error() {
    for (name, bytes) in liar::handshakes() {
        let liar = Liar::raw(bytes);
        let error = connect(&liar.uri(), Reconnect::Never).expect_err(name);
        assert!(matches!(error.kind(), Kind::Invalid | Kind::Unavailable), "{name}: {error}");
    }
}

/// The same from random bytes: neither a panic nor a wait without end.
#[test]
fn random_bytes_are_an_error() {
    for seed in 0..200 {
        let liar = Liar::start(&noise(seed, 512));
        let Ok(client) = connect(&liar.uri(), Reconnect::Never) else {
            panic!("the handshake is a good one")
        };
        let answer = submit(&client, Request::Read { offset: 0, bytes: 512 }).recv_timeout(LONG);
        assert!(answer.expect("an answer").is_err(), "seed {seed}");
        let liar = Liar::raw(noise(seed, 64));
        assert!(connect(&liar.uri(), Reconnect::Never).is_err(), "seed {seed}");
    }
}

/// Answers that come while others are sent again must not stop either side.
#[test]
fn much_that_was_not_answered_is_sent_again_while_answers_come() {
    let folder = Folder::new();
    let mut server = folder.qemu("disk", 64 * MIB, &[]);
    let (client, _events) = watched(&server.uri, 1, Reconnect::Forever);
    let client = Arc::new(client);
    server.kill();
    let mut answers = Vec::new();
    for number in 0..128_u64 {
        let offset = number % 64 * MIB as u64;
        let request = match number % 2 {
            0 => Request::Read { offset, bytes: 1 << 20 },
            _ => Request::Write { offset, data: noise(number, MIB), is_durable: false },
        };
        answers.push(submit(&client, request));
    }
    server.start();
    for answer in answers {
        answer.recv_timeout(LONG).expect("an answer").expect("no error");
    }
}
