//! Several connections, and what happens under them: renames, resizes, deletes, rollbacks, a server that stops.

use std::collections::BTreeSet;

use firn_engine::catalog::Tags;
use firn_engine::error::Kind;
use firn_engine::export::nbd::protocol::errno;
use firn_engine::export::nbd::protocol::transmission::command;
use firn_engine::export::nbd::{Listen, Server, ServerOptions};

use crate::client::Client;
use crate::place::{MIB, Place, assert_same, noise};

#[test]
fn what_one_connection_wrote_the_others_read() {
    let place = Place::new();
    place.volume("a", 8 * MIB);
    let mut clients: Vec<Client> = (0..8).map(|_| Client::entered(&place, "a")).collect();
    for round in 0..200_u64 {
        let writer = usize::try_from(round % 8).expect("small");
        let data = noise(round, 8192);
        assert_eq!(clients[writer].write(round * 4096, &data), 0);
        for (number, client) in clients.iter_mut().enumerate() {
            let found = client.read_at(round * 4096, 8192).expect("read");
            assert_same(&found, &data, &format!("round {round}, connection {number}"));
        }
        assert_eq!(clients[(writer + 1) % 8].flush(), 0);
    }
}

#[test]
fn a_volume_changes_under_an_open_connection() {
    let place = Place::new();
    let volume = place.volume("a", 8 * MIB);
    let mut client = Client::entered(&place, "a");
    assert_eq!(client.write(0, &noise(1, 4096)), 0);
    volume.rename("b").expect("renamed");
    assert_same(&client.read_at(0, 4096).expect("read"), &noise(1, 4096), "renamed");
    volume.snapshot("s", Tags::new()).expect("taken");
    assert_eq!(client.write(0, &noise(2, 4096)), 0);
    volume.rollback("s", None).expect("rolled back");
    assert_same(&client.read_at(0, 4096).expect("read"), &noise(1, 4096), "rolled back");
    volume.resize(4 * MIB, true).expect("cut");
    assert_eq!(client.read_at(4 * MIB, 4096), Err(errno::EINVAL));
    assert_eq!(client.write(4 * MIB, &noise(3, 4096)), errno::ENOSPC);
    volume.resize(16 * MIB, false).expect("grown");
    assert_eq!(client.write(15 * MIB, &noise(4, 4096)), 0);
    assert_same(&client.read_at(15 * MIB, 4096).expect("read"), &noise(4, 4096), "grown");
    volume.delete(true).expect("deleted");
    place.volume("b", 8 * MIB).write_at(0, &noise(5, 4096)).expect("written");
    assert_eq!(client.read_at(0, 4096), Err(errno::EIO), "it is another volume's name now");
    assert_eq!(client.write(0, &noise(6, 4096)), errno::EIO);
    let mut other = Client::entered(&place, "b");
    assert_same(&other.read_at(0, 4096).expect("read"), &noise(5, 4096), "the other volume");
}

#[test]
fn a_snapshot_is_kept_while_somebody_is_connected_to_it() {
    let place = Place::new();
    let volume = place.volume("a", 8 * MIB);
    volume.write_at(0, &noise(1, 4096)).expect("written");
    let snapshot = volume.snapshot("s", Tags::new()).expect("taken");
    let mut client = Client::entered(&place, "a@s");
    volume.write_at(0, &noise(2, 4096)).expect("written");
    assert_eq!(snapshot.delete().expect_err("it is in use").kind(), Kind::Conflict);
    assert_same(&client.read_at(0, 4096).expect("read"), &noise(1, 4096), "the snapshot");
    drop(client);
    place.wait_until(|statistics| statistics.connections_open == 0);
    snapshot.delete().expect("nobody needs it any more");
}

#[test]
fn a_stop_answers_what_is_under_way_and_a_new_server_takes_the_place() {
    let mut place = Place::new();
    place.volume("a", 64 * MIB);
    let mut client = Client::entered(&place, "a");
    let mut expected = BTreeSet::new();
    for at in 0..100_u64 {
        let request = client.request(command::WRITE, at * 65_536, 65_536);
        client.send(&noise(at, 65_536));
        expected.insert(request.cookie);
    }
    // All of them have been received when the last one is answered, and a few answers are left in the socket.
    place.wait_until(|statistics| statistics.volumes.iter().any(|volume| volume.writes.requests == 100));
    let listen = vec![Listen::Unix(place.socket())];
    let options = ServerOptions { listen, ..ServerOptions::default() };
    let refused = Server::start(&place.pool, &options).expect_err("one server a socket");
    assert_eq!(refused.kind(), Kind::Conflict);
    place.server().stop();
    assert!(!place.socket().exists(), "the socket goes with the server");
    let mut answers = Vec::new();
    std::io::Read::read_to_end(&mut client.0, &mut answers).expect("read to the end");
    assert_eq!(answers.len(), 1600, "every request is answered before the end");
    place.serve(&options);
    let mut client = Client::entered(&place, "a");
    for at in 0..100_u64 {
        let found = client.read_at(at * 65_536, 65_536).expect("read");
        assert_same(&found, &noise(at, 65_536), "after the restart");
    }
}

#[test]
fn a_pool_that_closes_first_ends_its_server() {
    let place = Place::new();
    place.volume("a", 8 * MIB);
    let mut client = Client::entered(&place, "a");
    assert_eq!(client.write(0, &noise(1, 4096)), 0);
    let mut waiting = Client::greeted(&place);
    place.pool.close().expect("closed");
    assert!(client.is_closed());
    let list = firn_engine::export::nbd::protocol::handshake::option::LIST;
    let shutdown = firn_engine::export::nbd::protocol::handshake::reply::ERR_SHUTDOWN;
    assert_eq!(waiting.ask(list, &[]), shutdown);
    place.server().stop();
    drop(place.reopen());
}
