//! `firn attach` and `firn detach`: no pool is opened, the daemon has it.

use anyhow::Result;

use crate::args::Globals;
use crate::args::attach::Attach;
use crate::attach;
use crate::output::Answer;

pub(super) fn run(globals: &Globals, attach: &Attach) -> Result<Answer> {
    match &attach.name {
        Some(name) => attach::attach(attach, globals.socket.as_deref(), &name.to_string()),
        None => attach::list(&attach.runtime.path()?),
    }
}
