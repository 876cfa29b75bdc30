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
mod vault;
mod volume;

use anyhow::Result;
use firn_engine::catalog::Tags;

use crate::args::{Cli, Noun};
use crate::daemon;
use crate::name::Tag;
use crate::output::Answer;
use crate::service::with_service;

/// Does what was typed.
pub(crate) fn run(cli: Cli) -> Result<Answer> {
    let globals = &cli.globals;
    match cli.noun {
        Noun::Pool(verb) => pool::run(globals, verb),
        Noun::Volume(verb) => with_service(globals, |service| volume::run(service, verb)),
        Noun::Snapshot(verb) => with_service(globals, |service| snapshot::run(service, verb)),
        Noun::Group(verb) => with_service(globals, |service| group::run(service, verb)),
        Noun::Clone(verb) => with_service(globals, |service| clone::run(service, verb)),
        Noun::Vault(verb) => vault::run(globals, *verb),
        Noun::Delta(delta) => with_service(globals, |service| delta::run(service, delta, globals.json)),
        Noun::Import(import) => with_service(globals, |service| import::run(service, &import)),
        Noun::Export(export) => with_service(globals, |service| export::run(service, &export)),
        Noun::Serve(serve) => daemon::run(globals, *serve),
        Noun::Attach(attach) => attach::run(globals, &attach),
        Noun::Detach(detach) => crate::attach::detach(&detach),
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

/// What there is none of is a dash in a table.
fn or_dash(text: impl Into<String>) -> String {
    let text = text.into();
    if text.is_empty() { "-".to_owned() } else { text }
}

/// `1 snapshot`, `2 snapshots`.
fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
