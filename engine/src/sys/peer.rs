//! Noticing that the other end of a TCP connection is gone.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use rustix::net::sockopt;

/// Makes reads and writes on `stream` fail when the peer was silent for `limit`, asked or not. Whole seconds.
///
/// # Errors
/// What the operating system said.
pub fn watch_peer(stream: &TcpStream, limit: Duration) -> io::Result<()> {
    const PROBES: u32 = 4;
    let pause = (limit / (PROBES + 1)).max(Duration::from_secs(1));
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, pause)?;
    sockopt::set_tcp_keepintvl(stream, pause)?;
    sockopt::set_tcp_keepcnt(stream, PROBES)?;
    // Without it, data that is never acknowledged is sent again for a quarter of an hour.
    let millis = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
    Ok(sockopt::set_tcp_user_timeout(stream, millis)?)
}
