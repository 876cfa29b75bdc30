//! A long operation tells its client what it finds: lines from the operation's thread to the connection.
//!
//! 1. A line goes out at once when the connection is idle; else lines gather and go together. So progress is fresh and
//!    a million extents are no million packets.
//! 2. At most a few pieces wait. A client that does not read stops the operation's thread, and no memory grows.
//! 3. When the client has gone away or the daemon stops, the next event is an error: the operation ends with it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use firn_engine::error::{Error, Kind};
use hyper::body::{Body, Frame};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::sync::watch as flag;

use crate::failure::Failure;
use crate::line::Line;
use crate::operation::Told;

/// Bytes of lines that go out together.
const PIECE_LEN: usize = 16 << 10;
/// Pieces that may wait.
const PIECES: usize = 4;

/// A piece of the answer, or why there is no more of it.
type Piece = Result<Bytes, Failure>;

/// The operation's end.
pub(super) struct Teller {
    to: mpsc::Sender<Piece>,
    gathered: Vec<u8>,
    stopping: flag::Receiver<bool>,
}

/// The connection's end: the answer's body.
pub(super) struct Lines {
    from: mpsc::Receiver<Piece>,
    /// The first piece, which was looked at.
    first: Option<Piece>,
}

/// Both ends.
pub(super) fn teller(stopping: flag::Receiver<bool>) -> (Teller, Lines) {
    let (to, from) = mpsc::channel(PIECES);
    (Teller { to, gathered: Vec::new(), stopping }, Lines { from, first: None })
}

impl Teller {
    fn gather(&mut self, line: &impl Serialize) -> Result<(), Error> {
        let written = serde_json::to_writer(&mut self.gathered, line);
        written.map_err(|source| Error::new(Kind::Bug, "write an answer", "as JSON").source(source))?;
        self.gathered.push(b'\n');
        Ok(())
    }

    fn send(&mut self) -> Result<(), Error> {
        let piece = Bytes::from(std::mem::take(&mut self.gathered));
        self.to.blocking_send(Ok(piece)).map_err(|_| gone())
    }

    /// Ends the answer.
    pub(super) fn finish<V: Serialize>(mut self, done: Result<V, Error>) {
        let sent = match done {
            Ok(view) => self.gather(&Line::<(), V>::Done(view)).and_then(|()| self.send()),
            Err(error) => {
                // What was found before goes first. A client that has gone away needs neither.
                let found = if self.gathered.is_empty() { Ok(()) } else { self.send() };
                found.and_then(|()| self.to.blocking_send(Err(error.into())).map_err(|_| gone()))
            }
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "the end of an answer was not sent");
        }
    }
}

impl<E: Serialize> Told<E> for Teller {
    fn event(&mut self, event: E) -> Result<(), Error> {
        <Self as Told<E>>::listening(self)?;
        self.gather(&Line::<E, ()>::Event(event))?;
        let is_idle = self.to.capacity() == PIECES;
        if is_idle || self.gathered.len() >= PIECE_LEN { self.send() } else { Ok(()) }
    }

    fn listening(&mut self) -> Result<(), Error> {
        if *self.stopping.borrow() {
            return Err(Error::new(Kind::Unavailable, "go on", "the daemon is stopping")
                .hint("try again when it is running again"));
        }
        if self.to.is_closed() { Err(gone()) } else { Ok(()) }
    }
}

fn gone() -> Error {
    Error::new(Kind::Unavailable, "answer", "the client has gone away")
}

impl Lines {
    /// Waits for the first piece: a failure before anything was told is an answer of its own.
    pub(super) async fn begin(mut self) -> Result<Self, Failure> {
        match self.from.recv().await {
            Some(Err(failure)) => Err(failure),
            None => Err(Error::new(Kind::Bug, "answer", "the operation ended without an answer").into()),
            first => Ok(Self { first, ..self }),
        }
    }
}

impl Body for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = match self.first.take() {
            Some(first) => Some(first),
            None => std::task::ready!(self.from.poll_recv(context)),
        };
        let data = piece.map(|piece| piece.unwrap_or_else(last_line));
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }
}

fn last_line(failure: Failure) -> Bytes {
    let mut line = serde_json::to_vec(&Line::<(), ()>::Error(failure)).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
