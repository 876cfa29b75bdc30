//! The NBD server beside the API.

use std::path::Path;

use firn_engine::error::Error;
use firn_engine::export::nbd::{Address, Limits, Listen, Security, Server, ServerOptions, TlsOptions};
use firn_engine::pool::Pool;

use super::endpoint::make_directory;
use super::settings::Settings;

/// Starts to serve the pool's volumes and snapshots.
pub(super) fn start(pool: &Pool, settings: &Settings) -> Result<Server, Error> {
    let failed = |source| Error::io("listen", settings.nbd_socket.display(), source);
    make_directory(&settings.nbd_socket).map_err(failed)?;
    let server = Server::start(pool, &options(settings))?;
    for address in server.addresses() {
        tracing::info!(at = address.uri(""), "serving NBD clients");
    }
    Ok(server)
}

fn options(settings: &Settings) -> ServerOptions {
    let security = match settings.allow_plaintext {
        true => Security::PlaintextAllowed,
        false => Security::TlsRequired,
    };
    let mut listen = vec![Listen::Unix(settings.nbd_socket.clone())];
    listen.extend(settings.nbd_listen.iter().map(|&address| Listen::Tcp { address, security }));
    let files = settings.tls_certificate.as_deref().zip(settings.tls_key.as_deref());
    let tls = files.map(|(certificate, key)| TlsOptions {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        client_authority: settings.tls_client_authority.as_deref().map(Path::to_owned),
    });
    let limits = Limits { connections: settings.nbd_connections, ..Limits::default() };
    ServerOptions { listen, tls, limits }
}

/// Where clients on this host find the exports.
pub(super) fn local_address(server: &Server) -> Option<Address> {
    server.addresses().iter().find(|address| matches!(address, Address::Unix(_))).cloned()
}
