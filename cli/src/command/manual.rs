//! `firn completions` and `firn man`.

use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;
use serde::Serialize;

use crate::args::Cli;
use crate::output::Answer;

/// The completion script of a shell.
pub(super) fn completions(shell: Shell) -> Result<Answer> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "firn", &mut script);
    verbatim(script)
}

#[derive(Serialize)]
struct Pages<'a> {
    directory: &'a Path,
}

/// The manual: one page to stdout, or a page for each command into a directory.
pub(super) fn man(directory: Option<&Path>) -> Result<Answer> {
    let Some(directory) = directory else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page).context("write the manual")?;
        return verbatim(page);
    };
    let written =
        std::fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(Cli::command(), directory));
    written.with_context(|| format!("write the manual to {}", directory.display()))?;
    Answer::new(&Pages { directory }, format!("manual pages written to {}", directory.display()))
}

fn verbatim(text: Vec<u8>) -> Result<Answer> {
    Ok(Answer::verbatim(String::from_utf8(text).context("the generated text is not UTF-8")?))
}
