//! The log: structured, to stderr, as text or as an object on each line.

use std::io;

use tracing::level_filters::LevelFilter;

use super::settings::Settings;
use crate::args::serve::{LogFormat, LogLevel};

/// Starts logging. It is called once.
pub(super) fn start(settings: &Settings) {
    let level = match settings.log {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let log = tracing_subscriber::fmt().with_max_level(level).with_target(false).with_writer(io::stderr);
    match settings.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}
