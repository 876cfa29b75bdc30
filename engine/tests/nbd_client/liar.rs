//! A server that shakes hands and then answers the first request with whatever it likes.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;

use firn_engine::export::nbd::client::Uri;
use firn_engine::export::nbd::protocol::handshake::{self, Info, flags, option, reply, transmission_flags};
use tempfile::TempDir;

/// Replies to the request with the cookie 0, which reads 4096 bytes at 4096.
pub(crate) const LIES: &[(&str, &[u8])] = &[
    ("nothing", &[]),
    ("a wrong magic", &[0; 32]),
    ("half a simple reply", &[0x67, 0x44, 0x66, 0x98, 0, 0]),
    ("a reply to nobody", &[0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]),
    (
        "a simple reply and too little data",
        &[0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3],
    ),
    ("the end at once", &chunk(1, 0, 0)),
    ("data of 4 GiB", &chunk(1, 1, u32::MAX)),
    ("data of no bytes", &chunk(1, 1, 8)),
    ("a hole without a range", &chunk(1, 2, 0)),
    ("a hole of a wrong length", &chunk(1, 2, 13)),
    ("an error of 4 GiB", &chunk(1, 0x8001, u32::MAX)),
    ("an error of no bytes", &chunk(1, 0x8001, 0)),
    ("extents of 2 GiB", &chunk(1, 5, 1 << 31)),
    ("extents that are none", &chunk(1, 5, 3)),
    ("a chunk of no known kind", &chunk(1, 77, 0)),
    ("a hole before the range", &hole(0, 4096)),
    ("a hole beyond the range", &hole(8192, 4096)),
    ("a hole that is too long", &hole(4096, 4097)),
    ("a hole at the end of the world", &hole(u64::MAX, 4096)),
    ("half of the range", &hole(4096, 2048)),
];

const fn chunk(flags: u8, kind: u16, length: u32) -> [u8; 20] {
    let ([k0, k1], [l0, l1, l2, l3]) = (kind.to_be_bytes(), length.to_be_bytes());
    [0x66, 0x8e, 0x33, 0xef, 0, flags, k0, k1, 0, 0, 0, 0, 0, 0, 0, 0, l0, l1, l2, l3]
}

const fn hole(offset: u64, bytes: u32) -> [u8; 32] {
    let (head, offset, bytes) = (chunk(1, 2, 12), offset.to_be_bytes(), bytes.to_be_bytes());
    let mut out = [0; 32];
    let mut at = 0;
    while at < 32 {
        out[at] = if at < 20 {
            head[at]
        } else if at < 28 {
            offset[at - 20]
        } else {
            bytes[at - 28]
        };
        at += 1;
    }
    out
}

/// First words of servers that no client should go on with.
pub(crate) fn handshakes() -> Vec<(&'static str, Vec<u8>)> {
    let greeting = handshake::greeting(flags::FIXED_NEWSTYLE | flags::NO_ZEROES).to_vec();
    let with = |option: u32, kind: u32, data: &[u8]| {
        let mut out = greeting.clone();
        handshake::put_reply(&mut out, option, kind, data);
        out
    };
    let mut too_long = with(option::STRUCTURED_REPLY, reply::ACK, &[]);
    let length = too_long.len();
    too_long[length - 4..].fill(0xff);
    let mut sizes = with(option::STRUCTURED_REPLY, reply::ERR_UNSUP, &[]);
    for info in [
        Info::Export { bytes: 4096, flags: transmission_flags::HAS_FLAGS },
        Info::BlockSize { minimum: 3, preferred: 0, maximum: 1 },
    ] {
        handshake::put_reply(&mut sizes, option::GO, reply::INFO, &info.encode());
    }
    handshake::put_reply(&mut sizes, option::GO, reply::ACK, &[]);
    let mut silent = with(option::STRUCTURED_REPLY, reply::ERR_UNSUP, &[]);
    handshake::put_reply(&mut silent, option::GO, reply::ACK, &[]);
    let mut endless = with(option::STRUCTURED_REPLY, reply::ERR_UNSUP, &[]);
    for _ in 0..1000 {
        handshake::put_reply(&mut endless, option::GO, reply::INFO, &Info::Name("x".to_owned()).encode());
    }
    vec![
        ("nothing", Vec::new()),
        ("half a greeting", greeting[..9].to_vec()),
        ("another protocol", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        ("the old handshake", [&b"NBDMAGIC"[..], &[0; 32]].concat()),
        ("an old server", handshake::greeting(0).to_vec()),
        ("a reply to another option", with(option::LIST, reply::ACK, &[])),
        ("a reply of an unknown kind", with(option::STRUCTURED_REPLY, 99, &[])),
        ("a reply of 4 GiB", too_long),
        ("block sizes that can't be", sizes),
        ("an export that is not described", silent),
        ("replies without end", endless),
    ]
}

/// A server in a thread. It serves until it is dropped.
pub(crate) struct Liar {
    folder: TempDir,
}

impl Liar {
    /// Shakes hands with each client, waits for its first request and answers it with `lie`.
    pub(crate) fn start(lie: &[u8]) -> Self {
        let lie = lie.to_vec();
        Self::serve(move |mut stream| {
            // A client that has seen enough hangs up.
            if shake_hands(&mut stream).is_ok() && stream.read_exact(&mut [0; 28]).is_ok() {
                let _ = stream.write_all(&lie);
            }
        })
    }

    /// Sends these bytes and nothing else.
    pub(crate) fn raw(bytes: Vec<u8>) -> Self {
        Self::serve(move |mut stream| {
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            // What the client said is read, so that the end is not a reset.
            let _ = stream.read_to_end(&mut Vec::new());
        })
    }

    fn serve(talk: impl Fn(UnixStream) + Send + 'static) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(Self::socket(&folder)).expect("bound");
        thread::spawn(move || {
            for stream in listener.incoming() {
                match stream {
                    Ok(stream) => talk(stream),
                    Err(_) => return,
                }
            }
        });
        Self { folder }
    }

    fn socket(folder: &TempDir) -> PathBuf {
        folder.path().join("liar.sock")
    }

    pub(crate) fn uri(&self) -> Uri {
        Uri::unix(Self::socket(&self.folder), "x")
    }
}

/// A good handshake: structured replies, no contexts, 1 MiB that can't be shared by connections.
fn shake_hands(stream: &mut UnixStream) -> std::io::Result<()> {
    stream.write_all(&handshake::greeting(flags::FIXED_NEWSTYLE | flags::NO_ZEROES))?;
    stream.read_exact(&mut [0; 4])?;
    loop {
        let mut header = [0; 16];
        stream.read_exact(&mut header)?;
        let header = handshake::OptionHeader::decode(&header).map_err(std::io::Error::other)?;
        let mut data = vec![0; usize::try_from(header.length).expect("short")];
        stream.read_exact(&mut data)?;
        let mut out = Vec::new();
        if header.option == option::GO {
            let export = Info::Export { bytes: 1 << 20, flags: transmission_flags::HAS_FLAGS };
            handshake::put_reply(&mut out, option::GO, reply::INFO, &export.encode());
        }
        handshake::put_reply(&mut out, header.option, reply::ACK, &[]);
        stream.write_all(&out)?;
        if header.option == option::GO {
            return Ok(());
        }
    }
}
