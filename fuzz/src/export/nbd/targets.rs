//! The NBD server's handshake and requests, and the client's reading of a server.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixListener;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use super::client::{self, Client, ClientOptions, Uri};
use super::handshake::{Handshake, Step, TlsState};
use super::offer::{ExportInfo, Exports};
use super::protocol::handshake::{
    ContextQuery, ExportQuery, Fence, Info, REPLY_HEADER_BYTES, ReplyHeader, client_flags, context, flags,
    greeting, option, put_option, put_reply, reply, transmission_flags,
};
use super::protocol::transmission::{
    Chunks, Mode, Request, SimpleReply, StatusExtent, chunk, command, command_flags,
};
use super::receive::{Next, Receiver};
use super::request::{Serving, check, kind};
use crate::error::{Error, Kind, Result};
use crate::sys::{BufferPool, MemorySlice};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);
/// What the client asks about: so much of an export of 1 MiB.
const ASKED: u64 = 4096;
/// Bytes of the client's requests: a read, a block status, a write of 512 bytes and a flush.
const REQUESTS_BYTES: usize = 4 * 28 + 512;

/// Two exports that are not there.
struct Invented;

impl Exports for Invented {
    type Opened = ();

    fn names(&self) -> Result<Vec<String>> {
        Ok(vec!["a".into(), "b@c".into()])
    }

    fn open(&self, name: &str) -> Result<(ExportInfo, ())> {
        if !["a", "b@c"].contains(&name) {
            return Err(Error::new(Kind::NotFound, "find export", name));
        }
        let (name, read_only) = (name.to_owned(), name != "a");
        Ok((ExportInfo { name, bytes: 1 << 20, read_only, description: "x".into() }, ()))
    }

    fn contexts(&self, name: &str) -> Result<Vec<String>> {
        self.open(name).map(|_| vec!["base:allocation".into(), "qemu:dirty-bitmap:c".into()])
    }
}

/// A client's side of a handshake. The first byte says what there is of TLS. Whatever is answered can be read.
pub fn nbd_handshake(data: &[u8]) {
    let Some((&first, mut rest)) = data.split_first() else { return };
    let tls = [TlsState::Absent, TlsState::Offered, TlsState::Required][usize::from(first % 3)];
    let (mut handshake, mut out) = Handshake::new(tls);
    loop {
        out.clear();
        let (taken, step) = handshake.advance(rest, &mut out, &Invented);
        assert!(taken <= rest.len());
        rest = &rest[taken..];
        match step {
            Step::Enter(entered) => {
                assert!(tls != TlsState::Required || first >= 3, "entered without the TLS that is required");
                return assert!(entered.contexts.is_empty() || entered.mode >= Mode::Structured);
            }
            Step::End => return,
            // The first byte also says whether the client's TLS works.
            Step::StartTls if first < 3 => return,
            Step::StartTls => handshake.established(),
            Step::More if taken == 0 => return,
            Step::More => {}
        }
        replies_are_whole(&out);
    }
}

fn replies_are_whole(mut out: &[u8]) {
    while let Some((header, rest)) = out.split_first_chunk::<REPLY_HEADER_BYTES>() {
        let header = ReplyHeader::decode(header).expect("a reply");
        out = &rest[usize::try_from(header.length).expect("it fits")..];
    }
    assert!(out.is_empty(), "half a reply");
}

/// Bytes of a client in the transmission phase; the first says what was negotiated.
pub fn nbd_requests(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else { return };
    let mode = [Mode::Simple, Mode::Structured, Mode::Extended][usize::from(first % 3)];
    let pool = BufferPool::new(1 << 20);
    let begun = &data[..data.len().min(64 << 10)];
    let mut receiver = Receiver::new(&pool, mode, begun);
    let mut left = begun.len();
    let give = |_: &Request, length| (MemorySlice::new(pool.get(length), 0, length), false);
    while let Ok(Next::Request(request, written)) = receiver.next(&give, &mut |one| one.length <= 1 << 20) {
        let header = request.encode();
        assert_eq!(header.len(), mode.request_bytes());
        let carried = written.map_or(0, |data| data.len());
        assert_eq!(carried as u64, request.payload_bytes());
        left = left.checked_sub(header.len() + carried).expect("no request is longer than what was received");
        for bits in 0..4_u8 {
            let on = |bit: u8| bits & bit != 0;
            let serving = Serving { bytes: 1 << 20, read_only: on(1), mode, has_contexts: on(2) };
            if check(&request, &serving).is_ok() {
                assert!(request.offset + request.length <= serving.bytes, "beyond the end");
                let is_write = request.command == command::WRITE;
                assert!(is_write || carried == 0, "a payload that nobody uses");
            }
        }
        let _ = kind(&request);
    }
}

/// What a server says to our client: from the greeting on, or after a good handshake. Each request ends once.
pub fn nbd_replies(data: &[u8]) {
    let Some((&begin, said)) = data.split_first() else { return };
    let folder = tempfile::tempdir().expect("a directory");
    let socket = folder.path().join("s");
    let listener = UnixListener::bind(&socket).expect("bound");
    let said = said.to_vec();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accepted");
        // A client that has seen enough hangs up.
        let talk = |stream: &mut std::os::unix::net::UnixStream| {
            if begin % 2 == 1 {
                stream.write_all(&good_handshake())?;
                let handshake = 4 + options_bytes();
                stream.read_exact(&mut vec![0; handshake + REQUESTS_BYTES])?;
            }
            stream.write_all(&said)?;
            stream.shutdown(Shutdown::Write)?;
            stream.read_to_end(&mut Vec::new())
        };
        let _ = talk(&mut stream);
    });
    if let Ok(client) = Client::connect(&Uri::unix(&socket, "a"), ClientOptions::default()) {
        ask(&client);
    }
    server.join().expect("the server's thread");
}

fn ask(client: &Client) {
    let (sender, answers) = channel();
    let bytes = u32::try_from(ASKED).expect("small");
    let requests = [
        client::Request::Read { offset: ASKED, bytes },
        client::Request::Status { offset: 0, bytes: 2 * bytes },
        client::Request::Write { offset: 0, data: vec![1; 512], is_durable: false },
        client::Request::Flush,
    ];
    for request in requests {
        let sender = sender.clone();
        client.submit(request, Box::new(move |result| _ = sender.send(result)));
    }
    drop(sender);
    for _ in 0..4 {
        if let Ok(client::Response::Data(data)) = answers.recv_timeout(LONG).expect("answered") {
            assert_eq!(data.len() as u64, ASKED);
        }
    }
    client.close();
    assert!(answers.recv_timeout(LONG).is_err(), "a request was answered twice");
}

/// What a good server says up to the first request.
fn good_handshake() -> Vec<u8> {
    let mut out = greeting(flags::FIXED_NEWSTYLE | flags::NO_ZEROES).to_vec();
    put_reply(&mut out, option::STRUCTURED_REPLY, reply::ACK, &[]);
    put_reply(&mut out, option::SET_META_CONTEXT, reply::META_CONTEXT, &context(1, "base:allocation"));
    put_reply(&mut out, option::SET_META_CONTEXT, reply::ACK, &[]);
    let flags = transmission_flags::HAS_FLAGS | transmission_flags::SEND_FLUSH;
    put_reply(&mut out, option::GO, reply::INFO, &Info::Export { bytes: 1 << 20, flags }.encode());
    put_reply(&mut out, option::GO, reply::ACK, &[]);
    out
}

/// Bytes of the options that the client sends.
fn options_bytes() -> usize {
    let mut out = Vec::new();
    put_option(&mut out, option::STRUCTURED_REPLY, &[]);
    let query = ContextQuery { name: "a", queries: vec!["base:allocation"] };
    put_option(&mut out, option::SET_META_CONTEXT, &query.encode());
    put_option(&mut out, option::GO, &ExportQuery { name: "a", wanted: vec![3, 2] }.encode());
    out.len()
}

pub(crate) fn handshake_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for first in 0..6 {
        let mut bytes = vec![first];
        bytes.extend(client_flags(flags::FIXED_NEWSTYLE | flags::NO_ZEROES));
        if first >= 3 {
            put_option(&mut bytes, option::STARTTLS, &[]);
        }
        let fence = Fence { client: [1; 16], connection: 2 };
        put_option(&mut bytes, option::FENCE, &fence.encode());
        put_option(&mut bytes, option::LIST, &[]);
        put_option(&mut bytes, option::STRUCTURED_REPLY, &[]);
        if first % 2 == 1 {
            put_option(&mut bytes, option::EXTENDED_HEADERS, &[]);
        }
        let query = ContextQuery { name: "a", queries: vec!["base:", "qemu:dirty-bitmap:c"] };
        put_option(&mut bytes, option::LIST_META_CONTEXT, &query.encode());
        put_option(&mut bytes, option::SET_META_CONTEXT, &query.encode());
        put_option(&mut bytes, option::INFO, &ExportQuery { name: "b@c", wanted: vec![1, 2, 3] }.encode());
        put_option(&mut bytes, option::GO, &ExportQuery { name: "a", wanted: vec![3] }.encode());
        seeds.push(bytes);
    }
    let mut old = vec![0];
    old.extend(client_flags(0));
    put_option(&mut old, option::EXPORT_NAME, b"a");
    seeds.push(old);
    seeds
}

pub(crate) fn request_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for first in 0..3 {
        let extended = first == 2;
        let request = |command, flags, length| {
            Request { extended, flags, command, cookie: 5, offset: 4096, length }.encode()
        };
        let mut all = vec![first];
        for command in 0..9 {
            all.extend(request(command, 0, 512));
            if command == command::WRITE {
                all.extend([0xaa; 512]);
            }
        }
        if extended {
            all.extend(request(command::BLOCK_STATUS, command_flags::PAYLOAD_LEN, 24));
            all.extend([0xbb; 24]);
            all.extend(request(command::TRIM, 0, 1 << 40));
        }
        seeds.push(all);
        for length in [1 << 20, u32::MAX.into()] {
            seeds.push([vec![first], request(command::WRITE, 0, length)].concat());
        }
    }
    seeds
}

pub(crate) fn reply_seeds() -> Vec<Vec<u8>> {
    let simple = |cookie| SimpleReply { error: 0, cookie }.encode();
    let mut good = vec![1];
    let chunks = |cookie| Chunks { extended: false, cookie, offset: 0 };
    chunks(0).put_data_header(&mut good, 0, ASKED, 1024);
    good.extend([0x55; 1024]);
    chunks(0).put_hole(&mut good, chunk::DONE, ASKED + 1024, 3072);
    let extents = [StatusExtent { bytes: 4096, status: 0 }, StatusExtent { bytes: 4096, status: 3 }];
    chunks(1).put_status(&mut good, chunk::DONE, 1, &extents);
    good.extend(simple(2));
    good.extend(simple(3));
    let mut bad = vec![1];
    (0..4).for_each(|cookie| chunks(cookie).put_error(&mut bad, 28, "no room"));
    let from_the_start = [&[0], &good_handshake()[..]].concat();
    vec![good, bad, from_the_start]
}
