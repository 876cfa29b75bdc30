//! The lines of a long operation's answer, taken out of the pieces in which they arrive.

use anyhow::{Context, Result};
use firn_engine::error::Error;
use serde::de::DeserializeOwned;

use crate::line::Line;

/// What has arrived of a line that has no end yet.
#[derive(Default)]
pub(super) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Takes the next piece: shows `told` the events in it, and gives the answer if it is there.
    pub(super) fn take<E: DeserializeOwned, V: DeserializeOwned>(
        &mut self,
        piece: &[u8],
        told: &mut impl FnMut(E) -> Result<(), Error>,
    ) -> Result<Option<V>> {
        self.rest.extend_from_slice(piece);
        let mut begin = 0;
        while let Some(length) = self.rest[begin..].iter().position(|byte| *byte == b'\n') {
            let line = &self.rest[begin..begin + length];
            begin += length + 1;
            match serde_json::from_slice(line).context("read what the daemon tells")? {
                Line::Event(event) => told(event)?,
                Line::Done(view) => return Ok(Some(view)),
                Line::Error(failure) => return Err(failure.into()),
            }
        }
        self.rest.drain(..begin);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_however_they_are_cut() {
        let stream = b"{\"event\":1}\n{\"event\":2}\n{\"done\":\"all\"}\n";
        for cut in 1..stream.len() {
            let (mut lines, mut events, mut done) = (Lines::default(), Vec::new(), None);
            for piece in stream.chunks(cut) {
                let mut told = |event: u8| {
                    events.push(event);
                    Ok(())
                };
                done = lines.take::<u8, String>(piece, &mut told).expect("lines").or(done);
            }
            assert_eq!((events.as_slice(), done.as_deref()), ([1, 2].as_slice(), Some("all")), "{cut}");
        }
    }

    #[test]
    fn a_failure_is_told_as_it_was() {
        let line = br#"{"error":{"kind":"conflict","status":4,"message":"m","next_step":null}}"#;
        let mut lines = Lines::default();
        let error =
            lines.take::<u8, u8>(&[line, b"\n".as_slice()].concat(), &mut |_| Ok(())).expect_err("it failed");
        assert_eq!(crate::failure::Failure::of(&error).status, 4);
    }
}
