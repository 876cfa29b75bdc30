//! A client of a few lines that can also do what a good client never does.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use firn_engine::export::nbd::protocol::handshake::{
    ExportQuery, GREETING_BYTES, REPLY_HEADER_BYTES, ReplyHeader, client_flags, flags, option, put_option,
    read_greeting, reply,
};
use firn_engine::export::nbd::protocol::transmission::{Request, SIMPLE_REPLY_BYTES, SimpleReply, command};

use crate::place::Place;

/// A connection.
pub(crate) struct Client(pub(crate) UnixStream);

impl Client {
    /// Connects and says nothing.
    pub(crate) fn connect(place: &Place) -> Self {
        let stream = UnixStream::connect(place.socket()).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
        stream.set_write_timeout(Some(Duration::from_secs(60))).expect("set");
        Self(stream)
    }

    /// Connects and begins the handshake.
    pub(crate) fn greeted(place: &Place) -> Self {
        let mut client = Self::connect(place);
        assert_eq!(read_greeting(&client.read::<GREETING_BYTES>()), Ok(3));
        client.send(&client_flags(flags::FIXED_NEWSTYLE | flags::NO_ZEROES));
        client
    }

    /// Connects and enters an export, with simple replies.
    pub(crate) fn entered(place: &Place, export: &str) -> Self {
        Self::greeted(place).go(export)
    }

    /// Enters an export after what was negotiated.
    pub(crate) fn go(self, export: &str) -> Self {
        let mut client = self;
        client.option(option::GO, &ExportQuery { name: export, wanted: vec![] }.encode());
        let replies = client.replies();
        assert_eq!(replies.last().map(|(kind, _)| *kind), Some(reply::ACK), "{replies:?}");
        client
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("sent");
    }

    pub(crate) fn read<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).expect("received");
        bytes
    }

    pub(crate) fn read_vec(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).expect("received");
        bytes
    }

    pub(crate) fn option(&mut self, option: u32, data: &[u8]) {
        let mut out = Vec::new();
        put_option(&mut out, option, data);
        self.send(&out);
    }

    /// The replies to one option, to the one that ends it.
    pub(crate) fn replies(&mut self) -> Vec<(u32, Vec<u8>)> {
        let mut replies = Vec::new();
        loop {
            let header = ReplyHeader::decode(&self.read::<REPLY_HEADER_BYTES>()).expect("a reply");
            let data = self.read_vec(usize::try_from(header.length).expect("short"));
            replies.push((header.kind, data));
            if header.kind == reply::ACK || header.kind >= reply::ERRORS {
                return replies;
            }
        }
    }

    /// Sends an option and gives the kind of its last reply.
    pub(crate) fn ask(&mut self, option: u32, data: &[u8]) -> u32 {
        self.option(option, data);
        self.replies().last().expect("one at least").0
    }

    pub(crate) fn request(&mut self, command: u16, offset: u64, length: u32) -> Request {
        let (extended, flags, length) = (false, 0, length.into());
        let request = Request { extended, flags, command, cookie: offset ^ 0x77, offset, length };
        self.send(&request.encode());
        request
    }

    /// The error number of the next simple reply, which must be to this request.
    pub(crate) fn answer(&mut self, request: &Request) -> u32 {
        let reply = SimpleReply::decode(&self.read::<SIMPLE_REPLY_BYTES>()).expect("a reply");
        assert_eq!(reply.cookie, request.cookie);
        reply.error
    }

    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> u32 {
        let length = u32::try_from(data.len()).expect("short");
        let request = self.request(command::WRITE, offset, length);
        self.send(data);
        self.answer(&request)
    }

    pub(crate) fn read_at(&mut self, offset: u64, length: u32) -> Result<Vec<u8>, u32> {
        let request = self.request(command::READ, offset, length);
        match self.answer(&request) {
            0 => Ok(self.read_vec(usize::try_from(length).expect("short"))),
            error => Err(error),
        }
    }

    pub(crate) fn flush(&mut self) -> u32 {
        let request = self.request(command::FLUSH, 0, 0);
        self.answer(&request)
    }

    /// The server has closed the connection; what it still said before is passed over.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.0.read_to_end(&mut Vec::new()) {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}
