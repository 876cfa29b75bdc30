//! Connections that are over for the client and not for the server: what they still hold must not be done after
//! something newer.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use firn_engine::export::nbd::client::{self, ClientOptions, Reconnect};
use firn_engine::export::nbd::protocol::handshake::{ExportQuery, Fence, option, reply};
use firn_engine::export::nbd::protocol::transmission::command;
use firn_engine::export::nbd::{Address, Listen, Security, ServerOptions};

use crate::client::Client;
use crate::place::{MIB, Place, assert_same, noise};

const LONG: Duration = Duration::from_secs(60);

fn entered(place: &Place, fence: Option<Fence>) -> Client {
    let mut client = Client::greeted(place);
    if let Some(fence) = fence {
        assert_eq!(client.ask(option::FENCE, &fence.encode()), reply::ACK);
    }
    assert_eq!(client.ask(option::GO, &ExportQuery { name: "a", wanted: vec![] }.encode()), reply::ACK);
    client
}

/// Leaves a write in a socket: before it come reads whose answers are not taken, more than a connection may have in
/// memory.
fn unread_write(client: &mut Client, data: &[u8]) {
    for at in 0..4 {
        client.request(command::READ, at * 32 * MIB, 32 << 20);
    }
    client.request(command::WRITE, 0, 4096);
    client.send(data);
}

/// What the volume's first block holds after a client wrote `older`, gave that connection up, and wrote `newer` over
/// another.
fn after_both(place: &Place, fences: [Option<Fence>; 2], older: &[u8], newer: &[u8]) -> Vec<u8> {
    let mut before = entered(place, fences[0]);
    unread_write(&mut before, older);
    let mut after = entered(place, fences[1]);
    assert_eq!(after.write(0, newer), 0);
    // The network delivers what it has, and whatever the server answers is taken.
    let _ = before.0.shutdown(Shutdown::Write);
    let _ = before.0.read_to_end(&mut Vec::new());
    after.read_at(0, 4096).expect("read")
}

#[test]
fn an_earlier_connections_requests_are_fenced_off() {
    let place = Place::new();
    place.volume("a", 128 * MIB);
    let fence = |client: u8, connection| Some(Fence { client: [client; 16], connection });
    let (older, newer) = (noise(1, 4096), noise(2, 4096));
    let found = after_both(&place, [None, None], &older, &newer);
    assert_same(&found, &older, "without a fence the danger is real");
    let found = after_both(&place, [fence(1, 1), fence(1, 2)], &older, &newer);
    assert_same(&found, &newer, "fenced off");
    let found = after_both(&place, [fence(1, 7), fence(2, 8)], &older, &newer);
    assert_same(&found, &older, "another client's connections are its own affair");
}

#[test]
fn a_connection_that_comes_too_late_is_closed() {
    let place = Place::new();
    place.volume("a", 8 * MIB);
    let fence = |connection| Some(Fence { client: [3; 16], connection });
    let mut newer = entered(&place, fence(5));
    assert_eq!(newer.write(0, &noise(1, 4096)), 0);
    let mut late = entered(&place, fence(4));
    assert!(late.is_closed());
    assert_same(&newer.read_at(0, 4096).expect("read"), &noise(1, 4096), "the newer one goes on");
    assert_eq!(newer.flush(), 0);
    let mut same = entered(&place, fence(6));
    assert_eq!(same.flush(), 0);
    assert!(newer.is_closed());
    assert_eq!(Client::greeted(&place).ask(option::FENCE, &[0; 23]), reply::ERR_INVALID);
}

/// A network between a client and the server that can keep what the first connection sends.
struct Network {
    address: SocketAddr,
    held: Arc<(Mutex<Held>, Condvar)>,
    connections: Receiver<[TcpStream; 2]>,
}

#[derive(Default)]
struct Held {
    is_holding: bool,
    bytes: Vec<u8>,
}

impl Network {
    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address");
        let held: Arc<(Mutex<Held>, Condvar)> = Arc::default();
        let (made, connections) = channel();
        let own = held.clone();
        std::thread::spawn(move || accept(&listener, server, &own, &made));
        Self { address, held, connections }
    }

    fn hold(&self) {
        self.held.0.lock().expect("a lock").is_holding = true;
    }

    /// Waits until so much is held, and from here on lets pass what comes.
    fn take(&self, bytes: usize) -> Vec<u8> {
        let held = self.held.0.lock().expect("a lock");
        let wait = self.held.1.wait_timeout_while(held, LONG, |held| held.bytes.len() < bytes);
        let (mut held, waited) = wait.expect("a lock");
        assert!(!waited.timed_out(), "{} bytes came", held.bytes.len());
        held.is_holding = false;
        std::mem::take(&mut held.bytes)
    }
}

fn accept(
    listener: &TcpListener,
    server: SocketAddr,
    held: &Arc<(Mutex<Held>, Condvar)>,
    made: &Sender<[TcpStream; 2]>,
) {
    while let Ok((near, _)) = listener.accept() {
        let far = TcpStream::connect(server).expect("connected");
        let clone = |stream: &TcpStream| stream.try_clone().expect("cloned");
        let (mut from_far, mut to_near) = (clone(&far), clone(&near));
        std::thread::spawn(move || std::io::copy(&mut from_far, &mut to_near));
        let (mut from_near, mut to_far, held) = (clone(&near), clone(&far), held.clone());
        std::thread::spawn(move || {
            let mut part = vec![0; 64 << 10];
            while let Ok(bytes @ 1..) = from_near.read(&mut part) {
                let mut kept = held.0.lock().expect("a lock");
                if kept.is_holding {
                    kept.bytes.extend(&part[..bytes]);
                    held.1.notify_all();
                } else if to_far.write_all(&part[..bytes]).is_err() {
                    return;
                }
            }
        });
        if made.send([near, far]).is_err() {
            return;
        }
    }
}

/// The network gives a connection up for the client, keeps what it sent, and delivers it when the client has long
/// written something newer.
#[test]
fn delayed_bytes_of_a_broken_connection_change_nothing() {
    let mut place = Place::new();
    place.volume("a", 8 * MIB);
    let address = "127.0.0.1:0".parse().expect("an address");
    let listen = vec![Listen::Tcp { address, security: Security::PlaintextAllowed }];
    place.serve(&ServerOptions { listen, ..ServerOptions::default() });
    let Address::Tcp { address, .. } = place.server().addresses()[0] else { panic!("a port") };
    let network = Network::to(address);
    let uri = format!("nbd://{}/a", network.address).parse().expect("a URI");
    let options = ClientOptions { connections: 1, reconnect: Reconnect::Forever, observer: None };
    let client = client::Client::connect(&uri, options).expect("connected");
    client.write_at(0, &noise(0, 4096)).expect("written");
    let [near, mut far] = network.connections.recv_timeout(LONG).expect("the first connection");
    network.hold();
    let (sender, answer) = channel();
    let data = noise(1, 4096);
    let request = client::Request::Write { offset: 0, data, is_durable: false };
    client.submit(request, Box::new(move |result| _ = sender.send(result)));
    let delayed = network.take(28 + 4096);
    near.shutdown(Shutdown::Both).expect("broken for the client");
    answer.recv_timeout(LONG).expect("answered").expect("written over the second connection");
    client.write_at(0, &noise(2, 4096)).expect("written");
    // The server has closed its end, so this fails, or goes nowhere.
    let _ = far.write_all(&delayed);
    far.set_read_timeout(Some(LONG)).expect("set");
    let more = far.read(&mut [0; 16]).unwrap_or(0);
    assert_eq!(more, 0, "the delayed write was answered");
    let mut found = vec![0; 4096];
    client.read_at(0, &mut found).expect("read");
    assert_same(&found, &noise(2, 4096), "the newer write");
}
