//! Progress of long work, drawn on stderr when that is a terminal.

use firn_replicator::vault::progress::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `bytes` bytes with a rate and what is left. Elsewhere than on a terminal nothing is drawn.
pub(crate) fn bar(what: &'static str, bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(bytes);
    let template = "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(what);
    bar
}

/// A bar that the threads of a vault's work move.
pub(crate) struct Bar(pub(crate) ProgressBar);

impl Progress for Bar {
    fn expect(&self, bytes: u64) {
        self.0.inc_length(bytes);
    }

    fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}
