//! Reading every block of the pool once, while it is in use.

use std::fmt;
use std::str::FromStr;

use firn_engine::error::Error;
use firn_engine::scrub::{ScrubCursor, ScrubOptions};
use firn_engine::sys::SystemClock;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{LongOperation, Route, Served, Told};

/// A scrub.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PoolScrub {
    /// Most bytes read in a second; without it as fast as it goes.
    #[serde(default)]
    pub(crate) bytes_per_second: Option<u64>,
    /// Where an earlier scrub ended, to go on from there.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) resume: Option<Cursor>,
}

/// How far a scrub came: `LAYER:EPOCH:BLOCK`, with `-` for the epoch of what is no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Cursor(pub(crate) ScrubCursor);

/// How far a scrub is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Scrubbing {
    /// Bytes read since it began or went on.
    pub(crate) read_bytes: u64,
    /// Damaged blocks found since then.
    pub(crate) damaged_blocks: u64,
    /// From where another scrub would go on.
    #[schema(value_type = String)]
    pub(crate) cursor: Cursor,
}

/// What a scrub found.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Scrubbed {
    /// Every block has its checksum.
    pub(crate) is_sound: bool,
    /// Bytes read since it began or went on.
    pub(crate) read_bytes: u64,
    /// Damaged blocks found since then.
    pub(crate) damaged_blocks: u64,
    /// The first thousand of them.
    pub(crate) damaged: Vec<DamagedView>,
}

/// A damaged block.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct DamagedView {
    /// The volume.
    pub(crate) volume: String,
    /// The newest snapshot that sees it; none for the volume as it is now.
    pub(crate) snapshot: Option<String>,
    /// Where it lies in the volume, in bytes.
    pub(crate) offset: u64,
    /// What is wrong.
    pub(crate) detail: String,
}

impl LongOperation for PoolScrub {
    type Event = Scrubbing;
    type View = Scrubbed;
    const ROUTE: Route = Route::post("/v1/pool/scrub", "Read every block once, while the pool is in use");

    fn run(self, served: &Served, told: &mut dyn Told<Scrubbing>) -> Result<Scrubbed, Error> {
        let resume = self.resume.map_or_else(ScrubCursor::default, |cursor| cursor.0);
        let options = ScrubOptions { bytes_per_second: self.bytes_per_second, resume };
        let mut listening = Ok(());
        let report = served.pool.scrub(&options, &SystemClock, |report| {
            let cursor = Cursor(report.cursor);
            let (read_bytes, damaged_blocks) = (report.read_bytes, report.damaged_blocks);
            listening = told.event(Scrubbing { read_bytes, damaged_blocks, cursor });
            listening.is_ok()
        })?;
        listening?;
        let damaged = report.damaged.into_iter().map(|block| DamagedView {
            volume: block.volume,
            snapshot: block.snapshot,
            offset: block.offset,
            detail: block.detail,
        });
        Ok(Scrubbed {
            is_sound: report.damaged_blocks == 0,
            read_bytes: report.read_bytes,
            damaged_blocks: report.damaged_blocks,
            damaged: damaged.collect(),
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ScrubCursor { layer, epoch, block } = self.0;
        match epoch {
            Some(epoch) => write!(f, "{layer}:{epoch}:{block}"),
            None => write!(f, "{layer}:-:{block}"),
        }
    }
}

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not how far a scrub came: that looks like 3:7:4096 or 3:-:4096");
        let mut parts = text.split(':');
        let mut next = || parts.next().ok_or_else(wrong);
        let (layer, epoch, block) = (next()?, next()?, next()?);
        if parts.next().is_some() {
            return Err(wrong());
        }
        let epoch = match epoch {
            "-" => None,
            epoch => Some(epoch.parse().map_err(|_| wrong())?),
        };
        let (layer, block) = (layer.parse().map_err(|_| wrong())?, block.parse().map_err(|_| wrong())?);
        Ok(Self(ScrubCursor { layer, epoch, block }))
    }
}

impl TryFrom<String> for Cursor {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        cursor.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_written_and_read_back() {
        for text in ["3:7:4096", "0:-:0"] {
            assert_eq!(text.parse::<Cursor>().map(|cursor| cursor.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "3", "3:7", "3:7:1:1", "a:7:1", "3:x:1", "3:7:-"] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }
}
