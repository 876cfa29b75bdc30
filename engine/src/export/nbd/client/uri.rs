//! NBD URIs, as the NBD project writes them down (doc/uri.md): `nbd://HOST[:PORT]/EXPORT`,
//! `nbd+unix:///EXPORT?socket=PATH`, and both with `nbds` for TLS. `tls-certificates=DIR` says where its certificates
//! are, and `tls-hostname=NAME` whose the server's must be.

use std::fmt;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::super::protocol::{PORT, STRING_BYTES_MAX};
use crate::error::{Error, Kind};

/// Where an export is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    /// The socket.
    pub address: Address,
    /// The connection must be encrypted.
    pub is_tls: bool,
    /// The directory of certificates and keys for that (`tls-certificates`).
    pub certificates: Option<PathBuf>,
    /// The name that the server's certificate must bear, if it is not the host's (`tls-hostname`).
    pub certified_name: Option<String>,
    /// The export's name; empty is the server's default.
    pub export: String,
}

/// A server's socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// A host, by name or address, and its port.
    Tcp(String, u16),
}

impl Uri {
    /// An export behind a unix socket.
    pub fn unix(socket: impl Into<PathBuf>, export: impl Into<String>) -> Self {
        let address = Address::Unix(socket.into());
        Self { address, is_tls: false, certificates: None, certified_name: None, export: export.into() }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "nbds" } else { "nbd" };
        let export = escaped(&self.export);
        let mut parameters = Vec::new();
        match &self.address {
            Address::Unix(path) => {
                write!(f, "{scheme}+unix:///{export}")?;
                parameters.push(("socket", path.to_string_lossy()));
            }
            address @ Address::Tcp(..) => write!(f, "{scheme}://{address}/{export}")?,
        }
        let certificates = self.certificates.as_ref().map(|path| path.to_string_lossy());
        parameters.extend(certificates.map(|path| ("tls-certificates", path)));
        parameters.extend(self.certified_name.as_deref().map(|name| ("tls-hostname", name.into())));
        let mut between = '?';
        parameters.iter().try_for_each(|(name, value)| {
            write!(f, "{}{name}={}", std::mem::replace(&mut between, '&'), escaped(value))
        })
    }
}

impl FromStr for Uri {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(|why| {
            Error::new(Kind::Invalid, "read NBD URI", format!("{text:?}: {why}")).hint(
                "write it as nbd+unix:///VOLUME?socket=PATH, nbd://HOST/VOLUME or, with TLS, nbds://HOST/VOLUME",
            )
        })
    }
}

fn parse(text: &str) -> Result<Uri, &'static str> {
    let (scheme, rest) = text.split_once("://").ok_or("it has no scheme")?;
    let (is_tls, is_unix) = match scheme {
        "nbd" => (false, false),
        "nbds" => (true, false),
        "nbd+unix" => (false, true),
        "nbds+unix" => (true, true),
        _ => return Err("its scheme is none of nbd, nbds, nbd+unix and nbds+unix"),
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, export) = place.split_once('/').unwrap_or((place, ""));
    // The document asks that parameters nobody knows are passed over.
    let parameter = |name: &str| {
        let mut all = query.split('&').filter_map(|parameter| parameter.split_once('='));
        all.find(|(key, _)| *key == name).map(|(_, value)| unescaped(value)).transpose()
    };
    let socket = parameter("socket")?.map(PathBuf::from);
    let address = match (is_unix, socket) {
        (true, Some(path)) if path != Path::new("") => Address::Unix(path),
        (true, _) => return Err("a unix socket needs ?socket=PATH"),
        (false, None) => tcp(authority)?,
        (false, Some(_)) => return Err("?socket= goes with nbd+unix only"),
    };
    let export = unescaped(export)?;
    if export.len() > STRING_BYTES_MAX {
        return Err("its export's name is longer than 4096 bytes");
    }
    let certificates = parameter("tls-certificates")?.map(PathBuf::from);
    Ok(Uri { address, is_tls, certificates, certified_name: parameter("tls-hostname")?, export })
}

fn tcp(authority: &str) -> Result<Address, &'static str> {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("an IPv6 address ends with ]")?;
            (host, after.strip_prefix(':'))
        }
        None => authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        None | Some("") => PORT,
        Some(port) => port.parse().map_err(|_| "its port is no number below 65536")?,
    };
    if host.is_empty() { Err("it names no host") } else { Ok(Address::Tcp(unescaped(host)?, port)) }
}

/// Text with `%41` for what must not stand for itself.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:@+".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string can't fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn unescaped(text: &str) -> Result<String, &'static str> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
        let (high, low) = (digit().ok_or("a % wants two digits")?, digit().ok_or("a % wants two digits")?);
        out.push(u8::try_from(high * 16 + low).map_err(|_| "a % wants two digits")?);
    }
    String::from_utf8(out).map_err(|_| "it is no UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, address: Address, is_tls: bool, export: &str) {
        let uri: Uri = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!((&uri.address, uri.is_tls, uri.export.as_str()), (&address, is_tls, export), "{text}");
        assert_eq!(uri.to_string().parse::<Uri>().expect("it reads its own text"), uri, "{text}");
    }

    #[test]
    fn uris_of_the_document_are_read() {
        let tcp = |host: &str, port| Address::Tcp(host.to_owned(), port);
        let unix = |path: &str| Address::Unix(path.into());
        check("nbd://example.com", tcp("example.com", 10809), false, "");
        check("nbd://example.com:10810/pg", tcp("example.com", 10810), false, "pg");
        check("nbds://[2001:db8::1]:7/a/b", tcp("2001:db8::1", 7), true, "a/b");
        check("nbd://[::1]", tcp("::1", 10809), false, "");
        check("nbds://alice@example.com/pg", tcp("example.com", 10809), true, "pg");
        check("nbd+unix:///pg@monday?socket=/run/a.sock", unix("/run/a.sock"), false, "pg@monday");
        check("nbd+unix:///?socket=/tmp/a%20b&new=1", unix("/tmp/a b"), false, "");
        check("nbds+unix:///x%3fy?new=/etc/x&socket=/s", unix("/s"), true, "x?y");
        let uri: Uri = "nbds://h/x?tls-certificates=/etc/a%20b&tls-hostname=storage".parse().expect("a URI");
        assert_eq!(uri.certificates.as_deref(), Some(Path::new("/etc/a b")));
        assert_eq!(uri.certified_name.as_deref(), Some("storage"));
        assert_eq!(uri.to_string().parse::<Uri>().expect("it reads its own text"), uri);
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        for text in [
            "pg",
            "http://example.com/pg",
            "nbd://",
            "nbd:///pg",
            "nbd://host:port/pg",
            "nbd://host:65536/pg",
            "nbd://[::1/pg",
            "nbd+unix:///pg",
            "nbd+unix:///pg?socket=",
            "nbd://host/pg?socket=/s",
            "nbd://host/%",
            "nbd://host/%4",
            "nbd://host/%zz",
            "nbd://host/%ff",
        ] {
            let error = text.parse::<Uri>().expect_err(text);
            assert_eq!(error.kind(), Kind::Invalid, "{text}");
        }
    }
}
