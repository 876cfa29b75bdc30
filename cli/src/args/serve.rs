//! `firn serve`

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::size::Size;

/// `firn serve`
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The configuration file [default: /etc/firn/firn.toml where there is one]
    ///
    /// It is TOML. Every option of this command may stand in it, as well as pool, meta, state and socket, with _ for the - in
    /// their names. What is typed counts first, then the environment, then the file.
    #[arg(long, env = "FIRN_CONFIG", hide_env_values = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Only print the configuration that would be in effect, as a file
    #[arg(long, help_heading = "Instead of serving")]
    pub(crate) check_config: bool,
    /// Only print the OpenAPI document of the HTTP API
    #[arg(long, help_heading = "Instead of serving", conflicts_with = "check_config")]
    pub(crate) print_openapi: bool,
    #[command(flatten)]
    pub(crate) options: ServeOptions,
}

/// Every option of the daemon: a flag, an environment variable, and a key of the configuration file.
#[derive(Clone, Debug, Default, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServeOptions {
    #[arg(skip)]
    pub(crate) pool: Option<PathBuf>,
    #[arg(skip)]
    pub(crate) meta: Option<PathBuf>,
    #[arg(skip)]
    pub(crate) state: Option<PathBuf>,
    #[arg(skip)]
    pub(crate) socket: Option<PathBuf>,
    /// The unix socket for NBD clients [default: nbd.sock beside the API's socket]
    #[arg(long, env = "FIRN_NBD_SOCKET", hide_env_values = true, value_name = "PATH")]
    pub(crate) nbd_socket: Option<PathBuf>,
    /// An address for NBD clients over TCP, such as 0.0.0.0:10809; may be given again
    ///
    /// It takes TLS only, and needs a certificate for that, unless --allow-plaintext is given.
    #[arg(
        long,
        env = "FIRN_NBD_LISTEN",
        hide_env_values = true,
        value_name = "ADDRESS",
        value_delimiter = ','
    )]
    pub(crate) nbd_listen: Option<Vec<SocketAddr>>,
    /// The certificate chain that NBD clients over TCP are shown, in PEM
    #[arg(long, env = "FIRN_TLS_CERTIFICATE", hide_env_values = true, value_name = "FILE")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// The certificate's private key, in PEM
    #[arg(long, env = "FIRN_TLS_KEY", hide_env_values = true, value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
    /// The authorities that sign clients' certificates, in PEM; clients without one are then refused
    #[arg(long, env = "FIRN_TLS_CLIENT_AUTHORITY", hide_env_values = true, value_name = "FILE")]
    pub(crate) tls_client_authority: Option<PathBuf>,
    /// Take NBD clients over TCP without TLS: whoever reaches the address reads and writes every volume
    #[arg(
        long,
        env = "FIRN_ALLOW_PLAINTEXT",
        hide_env_values = true,
        value_name = "BOOLEAN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub(crate) allow_plaintext: Option<bool>,
    /// The most NBD connections at once [default: 1024]
    #[arg(long, env = "FIRN_NBD_CONNECTIONS", hide_env_values = true, value_name = "NUMBER")]
    pub(crate) nbd_connections: Option<usize>,
    /// The most API connections at once; more wait [default: 256]
    #[arg(long, env = "FIRN_API_CONNECTIONS", hide_env_values = true, value_name = "NUMBER")]
    pub(crate) api_connections: Option<usize>,
    /// An address where /metrics alone is served over TCP, such as 127.0.0.1:9810 [default: none]
    #[arg(long, env = "FIRN_METRICS_LISTEN", hide_env_values = true, value_name = "ADDRESS")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Memory for decoded pages of the map [default: 128M]
    #[arg(long, env = "FIRN_CACHE", hide_env_values = true, value_name = "SIZE")]
    pub(crate) cache: Option<Size>,
    /// The least severe messages that are logged [default: info]
    #[arg(long, env = "FIRN_LOG", hide_env_values = true, value_name = "LEVEL")]
    pub(crate) log: Option<LogLevel>,
    /// What log lines look like [default: text]
    #[arg(long, env = "FIRN_LOG_FORMAT", hide_env_values = true, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
}

/// How severe a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    /// What needs somebody's attention
    Error,
    /// What may soon
    Warn,
    /// What the daemon does
    #[default]
    Info,
    /// Each request too
    Debug,
}

/// What log lines look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people
    #[default]
    Text,
    /// An object on each line
    Json,
}

impl ServeOptions {
    /// These, and where they say nothing, `beneath`.
    pub(crate) fn over(self, beneath: Self) -> Self {
        Self {
            pool: self.pool.or(beneath.pool),
            meta: self.meta.or(beneath.meta),
            state: self.state.or(beneath.state),
            socket: self.socket.or(beneath.socket),
            nbd_socket: self.nbd_socket.or(beneath.nbd_socket),
            nbd_listen: self.nbd_listen.or(beneath.nbd_listen),
            tls_certificate: self.tls_certificate.or(beneath.tls_certificate),
            tls_key: self.tls_key.or(beneath.tls_key),
            tls_client_authority: self.tls_client_authority.or(beneath.tls_client_authority),
            allow_plaintext: self.allow_plaintext.or(beneath.allow_plaintext),
            nbd_connections: self.nbd_connections.or(beneath.nbd_connections),
            api_connections: self.api_connections.or(beneath.api_connections),
            metrics_listen: self.metrics_listen.or(beneath.metrics_listen),
            cache: self.cache.or(beneath.cache),
            log: self.log.or(beneath.log),
            log_format: self.log_format.or(beneath.log_format),
        }
    }
}
