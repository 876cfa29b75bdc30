//! Clients that break the protocol, stop in the middle, or take what they can: afterwards the server serves others as
//! before, and its memory is what it was.

use std::io::Write;
use std::net::Shutdown;

use firn_engine::export::nbd::Limits;
use firn_engine::export::nbd::protocol::errno;
use firn_engine::export::nbd::protocol::handshake::{
    ContextQuery, ExportQuery, OPTION_MAGIC, client_flags, option, put_option, reply,
};
use firn_engine::export::nbd::protocol::transmission::{REQUEST_MAGIC, Request, command};
use firn_engine::sys::DeviceKind;

use crate::client::Client;
use crate::place::{MIB, Place, assert_same, noise};

/// The server serves, and nothing of anybody else is left.
fn is_well(place: &Place) {
    let mut client = Client::entered(place, "a");
    let data = noise(99, 65_536);
    assert_eq!(client.write(MIB, &data), 0);
    assert_same(&client.read_at(MIB, 65_536).expect("read"), &data, "after the hostile ones");
    drop(client);
    place.wait_until(|statistics| statistics.connections_open == 0 && statistics.bytes_in_memory == 0);
}

fn place() -> Place {
    let place = Place::new();
    place.volume("a", 64 * MIB);
    place
}

#[test]
fn wrong_options_are_answered_and_the_handshake_goes_on() {
    let place = place();
    let mut client = Client::greeted(&place);
    let query = |name| ExportQuery { name, wanted: vec![] }.encode();
    let contexts = |queries| ContextQuery { name: "a", queries }.encode();
    let long = "x".repeat(4097);
    let table: &[(u32, Vec<u8>, u32)] = &[
        (4711, vec![1, 2, 3], reply::ERR_UNSUP),
        (4, vec![], reply::ERR_UNSUP),
        (option::EXTENDED_HEADERS, vec![0], reply::ERR_INVALID),
        (option::STARTTLS, vec![], reply::ERR_POLICY),
        (option::LIST, vec![0], reply::ERR_INVALID),
        (option::INFO, vec![], reply::ERR_INVALID),
        (option::INFO, vec![0xff; 10], reply::ERR_INVALID),
        (option::INFO, query("b"), reply::ERR_UNKNOWN),
        (option::INFO, query("a@b"), reply::ERR_UNKNOWN),
        (option::INFO, query("@"), reply::ERR_UNKNOWN),
        (option::GO, query(&long), reply::ERR_INVALID),
        (option::GO, query("a\0"), reply::ERR_INVALID),
        (option::GO, vec![0; 65_537], reply::ERR_TOO_BIG),
        (option::SET_META_CONTEXT, contexts(vec!["base:allocation"]), reply::ERR_INVALID),
        (option::STRUCTURED_REPLY, vec![9], reply::ERR_INVALID),
        (option::STRUCTURED_REPLY, vec![], reply::ACK),
        (option::SET_META_CONTEXT, contexts(vec!["base:allocation"; 3000]), reply::ACK),
        (option::LIST_META_CONTEXT, vec![0, 0, 0, 1, b'a', 0xff, 0xff, 0xff, 0xff], reply::ERR_INVALID),
        (option::INFO, query("a"), reply::ACK),
    ];
    for (option, data, expected) in table {
        assert_eq!(client.ask(*option, data), *expected, "option {option} with {} bytes", data.len());
    }
    assert_eq!(client.ask(option::ABORT, &[]), reply::ACK);
    assert!(client.is_closed());
    is_well(&place);
}

#[test]
fn a_broken_handshake_is_ended() {
    let place = place();
    let broken: [(&str, Vec<u8>); 5] = [
        ("unknown flags", 0xffff_u32.to_be_bytes().to_vec()),
        ("a wrong magic", [&client_flags(3)[..], &[0; 16]].concat()),
        ("an export that does not exist", {
            let mut bytes = client_flags(3).to_vec();
            put_option(&mut bytes, option::EXPORT_NAME, b"nothing");
            bytes
        }),
        ("an endless name", {
            let header = [&OPTION_MAGIC.to_be_bytes()[..], &[0, 0, 0, 1], &[0xff; 4]].concat();
            [&client_flags(3)[..], &header].concat()
        }),
        ("an option from a client of the old kind", {
            let mut bytes = client_flags(0).to_vec();
            put_option(&mut bytes, option::LIST, &[]);
            bytes
        }),
    ];
    for (what, bytes) in broken {
        let mut client = Client::connect(&place);
        client.send(&bytes);
        assert!(client.is_closed(), "{what}");
    }
    let mut client = Client::greeted(&place);
    // It has to end at some time, and may do so while some are on their way.
    let mut many = Vec::new();
    (0..2000).for_each(|_| put_option(&mut many, option::LIST, &[]));
    client.send(&many);
    assert!(client.is_closed(), "too many options");
    is_well(&place);
}

#[test]
fn a_client_may_go_in_any_state() {
    let place = place();
    for headers in [option::STRUCTURED_REPLY, option::EXTENDED_HEADERS] {
        let whole = whole_life(headers);
        let cuts = (0..400).chain((400..5000).step_by(97)).chain((5000..whole.len()).step_by(7919));
        for cut in cuts {
            let mut client = Client::connect(&place);
            // The server may have ended it before everything was sent.
            let _ = client.0.write_all(&whole[..cut]);
            if cut % 3 == 0 {
                let _ = client.0.shutdown(Shutdown::Write);
            }
        }
        is_well(&place);
    }
}

/// All that a client sends that asks for these headers.
fn whole_life(headers: u32) -> Vec<u8> {
    let mut whole = client_flags(3).to_vec();
    put_option(&mut whole, headers, &[]);
    put_option(&mut whole, option::GO, &ExportQuery { name: "a", wanted: vec![3, 1] }.encode());
    let extended = headers == option::EXTENDED_HEADERS;
    let request =
        |command, offset, length| Request { extended, flags: 0, command, cookie: 5, offset, length }.encode();
    whole.extend(request(command::READ, 0, 32 << 20));
    whole.extend(request(command::WRITE, 0, 4096));
    whole.extend([0xaa; 4096]);
    whole.extend(request(command::FLUSH, 0, 0));
    whole.extend(request(command::WRITE, 0, 200_000));
    whole.extend(vec![0xbb; 200_000]);
    whole.extend(request(command::DISC, 0, 0));
    whole
}

#[test]
fn half_a_write_changes_nothing() {
    let place = place();
    let mut before = Client::entered(&place, "a");
    let old = noise(1, 4 << 20);
    assert_eq!(before.write(0, &old), 0);
    let halves = [
        (4096, 4095),
        (65_536, 4096),
        (69_632, 69_000),
        (135_168, 4096),
        (1 << 20, (1 << 20) - 1),
        (4 << 20, 200_000),
    ];
    for (length, sent) in halves {
        let mut client = Client::entered(&place, "a");
        client.request(command::WRITE, 0, length);
        client.send(&vec![0xee; sent]);
        drop(client);
        place.wait_until(|statistics| statistics.connections_open == 1);
        assert_same(&before.read_at(0, 4 << 20).expect("read"), &old, "half a write");
    }
    drop(before);
    is_well(&place);
}

/// They begin large writes, for which the server lends memory that others want too, and send no more.
#[test]
fn silent_clients_keep_no_landing_from_others() {
    let place = place();
    let old = noise(1, 508 << 10);
    let mut good = Client::entered(&place, "a");
    assert_eq!(good.write(0, &old), 0);
    let blocks = || place.pool.status().expect("a status").statistics.landed_blocks;
    // Whether a write of 128 KiB needs no copy.
    let lands = |good: &mut Client| {
        let before = blocks();
        assert_eq!(good.write(4 * MIB, &noise(2, 128 << 10)), 0);
        blocks() > before
    };
    assert!(lands(&mut good));
    // The default tail lends 512 times 64 KiB.
    let silent: Vec<Client> = (0..256)
        .map(|_| {
            let mut client = Client::entered(&place, "a");
            client.request(command::WRITE, 0, 128 << 10);
            client.send(&[0xee; 4096]);
            client
        })
        .collect();
    place.wait_until(|statistics| statistics.bytes_in_memory >= 256 * (128 << 10));
    assert!(!lands(&mut good), "all is lent");
    // And taken back.
    assert!((0..10_000).any(|_| lands(&mut good)));
    drop(silent);
    assert_same(&good.read_at(0, 508 << 10).expect("read"), &old, "half writes");
    assert_same(&good.read_at(4 * MIB, 128 << 10).expect("read"), &noise(2, 128 << 10), "whole ones");
    drop(good);
    is_well(&place);
}

#[test]
fn faults_in_transmission_end_one_connection_only() {
    let place = place();
    let mut good = Client::entered(&place, "a");
    let mut wrong_magic = Client::entered(&place, "a");
    wrong_magic.send(&[0x55; 28]);
    assert!(wrong_magic.is_closed());
    let mut giant = Client::entered(&place, "a");
    giant.request(command::WRITE, 0, u32::MAX);
    assert!(giant.is_closed());
    let mut unknown = Client::entered(&place, "a");
    for command in [8, 9, 255, u16::MAX] {
        let request = unknown.request(command, 0, 512);
        assert_eq!(unknown.answer(&request), errno::EINVAL);
    }
    let request = unknown.request(command::BLOCK_STATUS, 0, 512);
    assert_eq!(unknown.answer(&request), errno::EINVAL, "no context was chosen");
    let length = u32::MAX - 511;
    for command in [command::READ, command::TRIM, command::WRITE_ZEROES, command::CACHE] {
        let request = unknown.request(command, 0, length);
        let expected = if command == command::WRITE_ZEROES { errno::ENOSPC } else { errno::EINVAL };
        assert_eq!(unknown.answer(&request), expected, "command {command}");
    }
    assert_eq!(unknown.read_at(u64::MAX - 511, 512), Err(errno::EINVAL));
    assert_eq!(good.flush(), 0);
    assert_eq!(place.server().statistics().protocol_faults, 2);
    drop((good, unknown));
    is_well(&place);
}

#[test]
fn thousands_of_connections_come_and_go() {
    let place = Place::with(Limits { connections: 200, ..Limits::default() }, DeviceKind::Auto);
    place.volume("a", 64 * MIB);
    let mut good = Client::entered(&place, "a");
    for round in 0..10 {
        let crowd: Vec<Client> = (0..300).map(|_| Client::connect(&place)).collect();
        place.wait_until(|statistics| statistics.connections == 300 * (round + 1) + 1);
        assert_eq!(good.flush(), 0, "round {round}");
        drop(crowd);
        place.wait_until(|statistics| statistics.connections_open == 1);
    }
    let statistics = place.server().statistics();
    assert_eq!(statistics.connections, 3001);
    assert_eq!(statistics.connections_refused, 10 * (300 - 199));
    drop(good);
    is_well(&place);
}

#[test]
fn silent_handshakes_are_ended() {
    let limits = Limits { handshake_ms: 200, ..Limits::default() };
    let place = Place::with(limits, DeviceKind::Auto);
    place.volume("a", 64 * MIB);
    let mut silent: Vec<Client> = (0..50).map(|_| Client::greeted(&place)).collect();
    let mut good = Client::entered(&place, "a");
    assert!(silent.iter_mut().all(Client::is_closed));
    assert_eq!(good.flush(), 0, "one that has entered stays");
    drop((good, silent));
    is_well(&place);
}

/// Begins large writes and goes on with them a byte at a time, which once kept everybody else's large requests
/// waiting for as long as it liked.
#[test]
fn who_drips_is_closed_when_others_wait_for_the_memory() {
    let limits = Limits { bytes: 64 << 20, stall_ms: 500, ..Limits::default() };
    let place = Place::with(limits, DeviceKind::Auto);
    place.volume("a", 64 * MIB);
    let dripping = (0..4).map(|_| {
        let mut client = Client::entered(&place, "a");
        client.request(command::WRITE, 0, 32 << 20);
        std::thread::spawn(move || {
            let (sender, pause) = std::sync::mpsc::channel::<()>();
            while client.0.write_all(&[1]).is_ok() {
                let _ = pause.recv_timeout(std::time::Duration::from_millis(20));
            }
            drop(sender);
        })
    });
    let dripping: Vec<_> = dripping.collect();
    // Two of them have all the memory there is.
    place.wait_until(|statistics| statistics.bytes_in_memory >= 64 << 20);
    let mut large = Client::entered(&place, "a");
    let data = noise(5, 16 << 20);
    assert_eq!(large.write(0, &data), 0);
    assert_same(&large.read_at(0, 16 << 20).expect("read"), &data, "beside those who drip");
    assert!(place.server().statistics().stalled >= 2);
    drop(large);
    // Without others that wait nobody minds them; they end with the server.
    place.server().stop();
    dripping.into_iter().for_each(|one| one.join().expect("it ends"));
}

/// Takes as much memory as it gets: by large writes that are never finished, and by answers that are never taken.
#[test]
fn who_keeps_memory_is_closed_when_others_wait_for_it() {
    let limits = Limits { bytes: 64 << 20, stall_ms: 300, ..Limits::default() };
    let place = Place::with(limits, DeviceKind::Auto);
    place.volume("a", 64 * MIB).write_at(0, &noise(7, 32 << 20)).expect("written");
    let mut greedy: Vec<Client> = Vec::new();
    for number in 0..40_u64 {
        let mut client = Client::entered(&place, "a");
        if number % 2 == 0 {
            client.request(command::WRITE, 0, 32 << 20);
            client.send(&[0xcc; 1000]);
        } else {
            (0..8).for_each(|_| _ = client.request(command::READ, 0, 32 << 20));
        }
        greedy.push(client);
    }
    // Small requests never wait for them.
    let mut small = Client::entered(&place, "a");
    for at in 0..100 {
        assert_eq!(small.write(at * 4096, &noise(at, 4096)), 0);
        assert!(place.server().statistics().bytes_in_memory <= 72 << 20);
    }
    // A large one waits until they are gone.
    let data = noise(8, 16 << 20);
    assert_eq!(small.write(32 * MIB, &data), 0);
    assert_same(&small.read_at(32 * MIB, 16 << 20).expect("read"), &data, "after the greedy");
    assert!(place.server().statistics().stalled > 0);
    drop((greedy, small));
    is_well(&place);
}

/// Sends what is refused at once, and takes no answer.
#[test]
fn answers_that_nobody_takes_do_not_pile_up() {
    let place = place();
    let mut client = Client::greeted(&place);
    assert_eq!(client.ask(option::STRUCTURED_REPLY, &[]), reply::ACK);
    assert_eq!(client.ask(option::GO, &ExportQuery { name: "a", wanted: vec![] }.encode()), reply::ACK);
    let request =
        Request { extended: false, flags: 0, command: command::READ, cookie: 1, offset: 1, length: 1 }
            .encode();
    let many: Vec<u8> = request.repeat(10_000);
    client.0.set_nonblocking(true).expect("set");
    let mut sent = 0;
    // The server stops to receive, and then the socket is full.
    let mut was_full = false;
    while sent < 64 << 20 {
        // A part of a request may have gone out: the rest of it is next.
        match client.0.write(&many[sent % many.len()..]) {
            Ok(bytes) => {
                sent += bytes;
                was_full = false;
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && !was_full => {
                let mut good = Client::entered(&place, "a");
                assert!((0..200).all(|_| good.flush() == 0), "the server goes on for others");
                was_full = true;
            }
            // Full before the server did all that, and full after.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(sent < 16 << 20, "{sent} bytes of requests were taken");
    assert_eq!(u32::from_be_bytes([request[0], request[1], request[2], request[3]]), REQUEST_MAGIC);
    drop(client);
    is_well(&place);
}
