//! Progress of long work, drawn on stderr when that is a terminal.

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
