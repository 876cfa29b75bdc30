//! `firn vault send`

use anyhow::Result;

use super::wanted;
use crate::args::Globals;
use crate::args::vault as args;
use crate::operation::vault::send::{Sent, SentPoint, VaultSend};
use crate::output::Answer;
use crate::progress;
use crate::service::with_service;
use crate::size::Size;

pub(super) fn run(globals: &Globals, send: args::VaultSend) -> Result<Answer> {
    let (source, name) = (send.source, send.vault.clone());
    let request = VaultSend {
        source,
        vault: wanted(send.vault, send.unlock)?,
        retain: send.retain,
        application: super::super::tags(send.application),
        bytes_per_second: send.rate.map(|rate| rate.0),
        baseline: send.baseline,
        dry_run: send.dry_run,
    };
    with_service(globals, |service| {
        let bar = progress::bar("sending", 0);
        let sent = service.long(request, |now| {
            bar.set_length(now.expected_bytes);
            bar.set_position(now.done_bytes);
            Ok(())
        });
        bar.finish_and_clear();
        let sent = sent?;
        let text = text(&sent, &name);
        Answer::new(&sent, text)
    })
}

fn text(sent: &Sent, vault: &str) -> String {
    let mut text: String = sent.points.iter().map(|point| line(point, sent)).collect();
    if sent.dry_run {
        return text;
    }
    let [content, stored] = [sent.content_bytes, sent.stored_bytes].map(Size);
    match sent.was_there {
        true => {
            text += &format!("nothing was sent: it is in {vault} since entry {}\n", sent.entry.unwrap_or(0))
        }
        false => {
            text += &format!(
                "sent to {vault} in {:.1} s: {content} with the map, {stored} as stored\n",
                sent.seconds
            );
        }
    }
    text
}

fn line(point: &SentPoint, sent: &Sent) -> String {
    let name = match &point.snapshot {
        Some(snapshot) => format!("{}@{snapshot}", point.volume),
        None => point.volume.clone(),
    };
    let (kind, changed) = (point.kind.word(), Size(point.changed_bytes));
    match &point.id {
        Some(id) => format!("point {} is {name}, {kind} of {changed}\n", &id[..id.len().min(12)]),
        None if sent.dry_run => format!("would send {name}: {kind} of {changed} before compression\n"),
        None => String::new(),
    }
}
