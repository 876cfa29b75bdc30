//! What each noun's verbs do.

mod attach;
mod clone;
mod delta;
mod export;
mod group;
mod import;
mod manual;
mod pool;
mod snapshot;
mod volume;

use anyhow::Result;
use firn_engine::catalog::{Operation, Tags};
use firn_engine::pool::Pool;

use crate::args::{Cli, Noun};
use crate::name::Tag;
use crate::output::Answer;
use crate::session::with_pool;

/// Does what was typed.
pub(crate) fn run(cli: Cli) -> Result<Answer> {
    let globals = &cli.globals;
    match cli.noun {
        Noun::Pool(verb) => pool::run(globals, verb),
        Noun::Volume(verb) => with_pool(globals, |pool| volume::run(pool, verb)),
        Noun::Snapshot(verb) => with_pool(globals, |pool| snapshot::run(pool, verb)),
        Noun::Group(verb) => with_pool(globals, |pool| group::run(pool, verb)),
        Noun::Clone(verb) => with_pool(globals, |pool| clone::run(pool, verb)),
        Noun::Delta(delta) => with_pool(globals, |pool| delta::run(pool, &delta, globals.json)),
        Noun::Import(import) => with_pool(globals, |pool| import::run(pool, &import)),
        Noun::Export(export) => with_pool(globals, |pool| export::run(pool, &export)),
        Noun::Attach(attach) => attach::run(&attach),
        Noun::Detach(detach) => crate::attach::detach(&detach),
        Noun::AttachHelper(helper) => crate::attach::run_helper(&helper),
        Noun::Completions { shell } => manual::completions(shell),
        Noun::Man { directory } => manual::man(directory.as_deref()),
    }
}

/// Tags as the engine takes them; of two with one key the last counts.
fn tags(given: Vec<Tag>) -> Tags {
    given.into_iter().map(|tag| (tag.key, tag.value)).collect()
}

/// Tags as a table shows them.
fn tags_text(tags: &Tags) -> String {
    tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

/// Asks the engine whether it would do an operation now.
fn check(pool: &Pool, operation: Operation) -> Result<()> {
    Ok(pool.handle().try_look(move |core| core.catalog().check(&operation))?)
}

/// What there is none of is a dash in a table.
fn or_dash(text: impl Into<String>) -> String {
    let text = text.into();
    if text.is_empty() { "-".to_owned() } else { text }
}

/// `1 snapshot`, `2 snapshots`.
fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
