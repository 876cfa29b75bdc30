//! HTTP over a unix socket, as any client would speak it.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

/// A connection that is kept.
pub(crate) struct Connection(BufReader<UnixStream>);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Connection {
    pub(crate) fn open(socket: &Path) -> Self {
        Self(BufReader::new(UnixStream::connect(socket).expect("a daemon listens")))
    }

    /// Asks and waits for the whole answer.
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &str) -> Answered {
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: firn\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        match self.0.get_mut().write_all(request.as_bytes()) {
            // The server has answered without reading all of it.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            sent => sent.expect("it is sent"),
        }
        let status = self.line().split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let (mut length, mut is_chunked) = (0, false);
        loop {
            let header = self.line().to_ascii_lowercase();
            match header.split_once(": ") {
                Some(("content-length", value)) => length = value.parse().expect("a length"),
                Some(("transfer-encoding", value)) => is_chunked = value == "chunked",
                Some(_) => {}
                None => break,
            }
        }
        let body = if is_chunked { self.chunks() } else { self.exactly(length) };
        Answered { status, body: String::from_utf8(body).expect("UTF-8") }
    }

    /// Asks for what must be done, and gives the view of it.
    pub(crate) fn done(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answered = self.ask(method, path, &body);
        assert_eq!(answered.status, 200, "{method} {path} {body}: {}", answered.body);
        serde_json::from_str(&answered.body).expect("JSON")
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let length = usize::from_str_radix(&self.line(), 16).expect("a length");
            body.extend(self.exactly(length));
            self.line();
            if length == 0 {
                return body;
            }
        }
    }

    fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).expect("the whole answer");
        bytes
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }
}

/// One question on a connection of its own.
pub(crate) fn ask(socket: &Path, method: &str, path: &str, body: &str) -> Answered {
    Connection::open(socket).ask(method, path, body)
}
