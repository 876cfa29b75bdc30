//! `firn pool check`

use std::path::Path;

use anyhow::Result;
use firn_engine::check::{CheckReport, DiscrepancyKind};
use firn_engine::error::{Error, Kind};
use firn_engine::pool::Pool;
use firn_engine::units::BLOCK_BYTES;

use crate::args::Globals;
use crate::client::Client;
use crate::operation::check::{Checked, PoolCheck};
use crate::output::Answer;
use crate::service::{Choice, Service, choose, explain_open, options, used};
use crate::size::Size;
use crate::table::Column::Left;
use crate::table::{properties, table};

/// Discrepancies that are shown to people; JSON has all that the report lists.
const SHOWN_MAX: usize = 20;

/// Checks a pool that nobody has open, or asks the daemon that has it. What does not agree is the answer, and exit
/// status 5.
pub(super) fn run(globals: &Globals, data: bool) -> Result<Answer> {
    match choose(globals)? {
        Choice::Pool(path) => {
            let report = Pool::check(path, &options(globals), data);
            let report = report.map_err(|error| explain_open(error, path))?;
            answer(&Checked::new(path.to_owned(), report), data)
        }
        Choice::Daemon(..) if data => {
            let detail = "a daemon checks the metadata of a pool, not its data";
            Err(Error::new(Kind::Invalid, "check pool", detail)
                .hint("`firn pool scrub` reads the data while the pool is in use")
                .into())
        }
        Choice::Daemon(socket, patience) => check_online(Client::connect(socket, patience)?),
    }
}

fn check_online(client: Client) -> Result<Answer> {
    used(Service::Daemon(client), |service| answer(&service.long(PoolCheck {}, |_| Ok(()))?, false))
}

fn answer(checked: &Checked, data: bool) -> Result<Answer> {
    let answer = Answer::new(checked, text(&checked.path, &checked.report.0, data))?;
    Ok(if checked.is_sound { answer } else { answer.of_damage() })
}

fn text(path: &Path, report: &CheckReport, data: bool) -> String {
    let size = |blocks: u64| Size(blocks * BLOCK_BYTES).to_string();
    let records = format!(
        "{} head pages, {} undo, {} changed, {} dead",
        report.head_pages, report.undo_records, report.changed_records, report.dead_records
    );
    let verified = if data { size(report.verified_blocks) } else { "not read: --data does".to_owned() };
    let mut text = properties([
        ("pool", path.display().to_string()),
        ("maps", format!("{} with {} snapshots", report.layers, report.snapshots)),
        ("records", records),
        ("in use", size(report.allocated_blocks)),
        ("leaked", size(report.leaked_blocks)),
        ("data verified", verified),
        ("discrepancies", report.discrepancies_total.to_string()),
        ("state", state(report).to_owned()),
    ]);
    if report.discrepancies.is_empty() {
        return text;
    }
    let rows = report.discrepancies.iter().take(SHOWN_MAX);
    let rows = rows.map(|found| vec![word(found.kind), found.subject.clone(), found.detail.clone()]);
    text.push('\n');
    text.push_str(&table(&[Left("KIND"), Left("AT"), Left("DETAIL")], rows));
    if report.discrepancies.len() > SHOWN_MAX {
        text.push_str("and more: --json lists the first thousand\n");
    }
    text
}

fn state(report: &CheckReport) -> &'static str {
    match (report.is_clean(), report.is_complete) {
        (true, _) => "sound",
        (false, true) => "damaged",
        (false, false) => "damaged, and not everything could be looked at",
    }
}

/// The kind as JSON has it.
fn word(kind: DiscrepancyKind) -> String {
    serde_json::to_value(kind).ok().and_then(|word| word.as_str().map(ToOwned::to_owned)).unwrap_or_default()
}
