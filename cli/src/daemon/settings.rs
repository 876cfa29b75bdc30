//! What is in effect: what was typed over the environment over the configuration file over what firn takes by itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use firn_engine::error::{Error, Kind};
use serde::Serialize;

use crate::args::Globals;
use crate::args::serve::{LogFormat, LogLevel, Serve, ServeOptions};
use crate::runtime;
use crate::service::pool_path;
use crate::size::Size;

/// Where the configuration file is unless it was said.
const CONFIG: &str = "/etc/firn/firn.toml";

/// The configuration in effect. Printed as TOML it is a configuration file that says the same.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Settings {
    pub(super) pool: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) meta: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<PathBuf>,
    pub(super) socket: PathBuf,
    pub(super) nbd_socket: PathBuf,
    pub(super) nbd_listen: Vec<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls_certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls_key: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls_client_authority: Option<PathBuf>,
    pub(super) allow_plaintext: bool,
    pub(super) nbd_connections: usize,
    pub(super) api_connections: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) metrics_listen: Option<SocketAddr>,
    pub(super) cache: Size,
    pub(super) log: LogLevel,
    pub(super) log_format: LogFormat,
}

impl Settings {
    /// Reads the configuration file, if there is one, and puts what was typed over it.
    pub(super) fn find(globals: &Globals, serve: Serve) -> Result<Self, Error> {
        let file = match &serve.config {
            Some(path) => read(path)?,
            None if Path::new(CONFIG).exists() => read(Path::new(CONFIG))?,
            None => ServeOptions::default(),
        };
        let typed = ServeOptions {
            pool: globals.pool.clone(),
            meta: globals.meta.clone(),
            state: globals.state.clone(),
            socket: globals.socket.clone(),
            ..serve.options
        };
        Self::of(typed.over(file), globals)
    }

    fn of(options: ServeOptions, globals: &Globals) -> Result<Self, Error> {
        let pool = match options.pool {
            Some(pool) => pool,
            None => pool_path(globals)?.to_owned(),
        };
        let socket = options.socket.unwrap_or_else(runtime::default_socket);
        let nbd_socket = options.nbd_socket.unwrap_or_else(|| socket.with_file_name("nbd.sock"));
        let settings = Self {
            pool,
            meta: options.meta,
            state: options.state,
            socket,
            nbd_socket,
            nbd_listen: options.nbd_listen.unwrap_or_default(),
            tls_certificate: options.tls_certificate,
            tls_key: options.tls_key,
            tls_client_authority: options.tls_client_authority,
            allow_plaintext: options.allow_plaintext.unwrap_or(false),
            nbd_connections: options.nbd_connections.unwrap_or(1024),
            api_connections: options.api_connections.unwrap_or(256),
            metrics_listen: options.metrics_listen,
            cache: options.cache.unwrap_or(Size(128 << 20)),
            log: options.log.unwrap_or_default(),
            log_format: options.log_format.unwrap_or_default(),
        };
        settings.refuse_contradictions()?;
        settings.absolute()
    }

    /// The same with paths that mean the same to whoever is told of them, wherever that one is.
    fn absolute(self) -> Result<Self, Error> {
        let absolute = |path: PathBuf| {
            std::path::absolute(&path).map_err(|source| Error::io("find", path.display(), source))
        };
        Ok(Self {
            pool: absolute(self.pool)?,
            meta: self.meta.map(absolute).transpose()?,
            state: self.state.map(absolute).transpose()?,
            socket: absolute(self.socket)?,
            nbd_socket: absolute(self.nbd_socket)?,
            ..self
        })
    }

    fn refuse_contradictions(&self) -> Result<(), Error> {
        let refused = |detail: &str, hint: &str| {
            Err(Error::new(Kind::Invalid, "configure the daemon", detail).hint(hint))
        };
        if self.tls_certificate.is_some() != self.tls_key.is_some() {
            return refused("a certificate and its key go together", "give both tls_certificate and tls_key");
        }
        if self.tls_client_authority.is_some() && self.tls_certificate.is_none() {
            return refused(
                "clients' certificates can't be asked for without TLS",
                "give tls_certificate and tls_key too",
            );
        }
        if !self.nbd_listen.is_empty() && self.tls_certificate.is_none() && !self.allow_plaintext {
            return refused(
                "nbd_listen would let anybody who reaches it read and write every volume",
                "give tls_certificate and tls_key, or say that it may be so: allow_plaintext",
            );
        }
        if self.socket == self.nbd_socket {
            return refused("the API and NBD can't have one socket", "name another nbd_socket");
        }
        if self.api_connections == 0 || self.nbd_connections == 0 {
            return refused("no connections at all are of use to nobody", "allow one at least");
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<ServeOptions, Error> {
    let failed = |source| Error::io("read the configuration", path.display(), source);
    let text = std::fs::read_to_string(path).map_err(failed)?;
    toml::from_str(&text).map_err(|source| {
        // It shows the line and points at the place, over several lines.
        let detail = format!("{}: {}", path.display(), source.to_string().trim_end());
        Error::new(Kind::Invalid, "read the configuration", detail)
            .hint("`firn serve --help` describes the options; in the file they have _ for -")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globals() -> Globals {
        Globals { pool: None, meta: None, socket: None, state: None, json: false, typed: Default::default() }
    }

    fn settings(typed: &str, file: &str) -> Result<Settings, Error> {
        let parse = |text: &str| toml::from_str::<ServeOptions>(text).expect("options");
        Settings::of(parse(typed).over(parse(file)), &globals())
    }

    #[test]
    fn what_is_typed_counts_before_the_file_and_the_file_before_what_is_usual() {
        let file = "pool = \"/a\"\nsocket = \"/run/x.sock\"\ncache = \"1G\"\nlog = \"debug\"";
        let found = settings("cache = \"2G\"", file).expect("settings");
        assert_eq!(
            (found.cache, found.log, found.log_format),
            (Size(2 << 30), LogLevel::Debug, LogFormat::Text)
        );
        assert_eq!(found.nbd_socket, Path::new("/run/nbd.sock"), "beside the other socket");
    }

    #[test]
    fn what_is_printed_is_a_file_that_says_the_same() {
        let found = settings("pool = \"/a\"\nnbd_listen = [\"[::1]:10809\"]\nallow_plaintext = true", "");
        let found = found.expect("settings");
        let printed = toml::to_string(&found).expect("TOML");
        assert_eq!(settings(&printed, "").expect("the same again"), found, "{printed}");
    }

    #[test]
    fn contradictions_are_refused() {
        for options in [
            "",
            "pool = \"/a\"\nnbd_listen = [\"0.0.0.0:10809\"]",
            "pool = \"/a\"\ntls_key = \"k\"",
            "pool = \"/a\"\ntls_client_authority = \"c\"",
            "pool = \"/a\"\nsocket = \"/x\"\nnbd_socket = \"/x\"",
            "pool = \"/a\"\napi_connections = 0",
        ] {
            assert_eq!(settings(options, "").expect_err(options).kind(), Kind::Invalid, "{options}");
        }
    }
}
