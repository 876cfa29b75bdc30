//! `firn attach` and `firn detach`: no pool is opened, the daemon has it.

use anyhow::Result;

use crate::args::attach::Attach;
use crate::attach;
use crate::output::Answer;

pub(super) fn run(attach: &Attach) -> Result<Answer> {
    match &attach.name {
        Some(name) => attach::attach(attach, &name.to_string()),
        None => attach::list(&attach.runtime.path()?),
    }
}
