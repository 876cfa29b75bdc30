//! Addresses: how a user writes where a store is.
//!
//! `s3://BUCKET/PREFIX?endpoint=URL&region=NAME&path-style=true&profile=NAME&credentials=FILE` is a bucket, all but its
//! name optional. `file:///DIR` or a plain path is a directory. An address may say where credentials are, and never
//! holds them, so that it may be shown and stored.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::{DirectoryStore, Key, S3Address, S3Store, Store};
use crate::error::{Error, Kind, Result};

/// What a value in the query can't hold as it is.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'&').add(b'+').add(b'#').add(b'=');
/// What a path in a URL can't hold as it is.
const PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'?').add(b'#');
/// Bytes in a bucket's name at most. AWS allows 63, others more.
const BUCKET_BYTES_MAX: usize = 255;

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// In a directory.
    Directory(PathBuf),
    /// In a bucket.
    S3(S3Address),
}

impl Address {
    /// Opens the store. A directory is made when it is not there; a bucket must be there.
    ///
    /// # Errors
    /// As [`DirectoryStore::open`] and [`S3Store::open`].
    pub fn open(&self) -> Result<Box<dyn Store>> {
        match self {
            Self::Directory(path) => Ok(Box::new(DirectoryStore::open(path)?)),
            Self::S3(address) => Ok(Box::new(S3Store::open(address)?)),
        }
    }
}

impl FromStr for Address {
    type Err = Error;

    /// # Errors
    /// [`Kind::Invalid`], with what is wrong.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::new(Kind::Invalid, "read address", format!("{text:?}: {why}")).hint(
                "write s3://BUCKET/PREFIX?endpoint=URL&region=NAME&path-style=true, file:///DIR or a path",
            )
        };
        match text.split_once("://") {
            None if text.is_empty() => Err(wrong("nothing is named")),
            None => Ok(Self::Directory(PathBuf::from(text))),
            Some(("s3", rest)) => s3_address(rest).map(Self::S3).map_err(|why| wrong(&why)),
            Some(("file", path)) if path.starts_with('/') => {
                let decoded = percent_decode_str(path).decode_utf8().map_err(|_| wrong("not UTF-8"))?;
                Ok(Self::Directory(PathBuf::from(decoded.as_ref())))
            }
            Some(("file", _)) => Err(wrong("file:// is followed by an absolute path")),
            Some((scheme, _)) => Err(wrong(&format!("{scheme:?} is no kind of store"))),
        }
    }
}

/// Reads what follows `s3://`, or says what is wrong with it.
fn s3_address(rest: &str) -> std::result::Result<S3Address, String> {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if !(1..=BUCKET_BYTES_MAX).contains(&bucket.len()) || !bucket.bytes().all(is_allowed) {
        return Err(format!("{bucket:?} can be no bucket"));
    }
    if !prefix.is_empty() && Key::new(prefix).is_err() {
        return Err(format!("{prefix:?} can be no prefix: use letters, digits, ._- and single slashes"));
    }
    let mut address = S3Address { bucket: bucket.into(), prefix: prefix.into(), ..S3Address::default() };
    let pairs: Vec<(String, String)> =
        serde_urlencoded::from_str(query).map_err(|error| format!("its query: {error}"))?;
    for (name, value) in pairs {
        match name.as_str() {
            "endpoint" if is_endpoint(&value) => address.endpoint = Some(value),
            "endpoint" => return Err(format!("endpoint {value:?} is no http:// or https:// URL")),
            "region" if !value.is_empty() => address.region = Some(value),
            "profile" if !value.is_empty() => address.profile = Some(value),
            "credentials" if !value.is_empty() => address.credentials = Some(value),
            "path-style" => {
                address.path_style =
                    value.parse().map_err(|_| format!("path-style={value:?} is not true or false"))?;
            }
            _ => return Err(format!("{name}={value:?} says nothing about a bucket")),
        }
    }
    Ok(address)
}

fn is_endpoint(value: &str) -> bool {
    let host = value.strip_prefix("http://").or_else(|| value.strip_prefix("https://"));
    // A user and password in it would be shown wherever the address is.
    host.is_some_and(|host| !host.is_empty() && !host.contains(['@', '?', '#']) && !host.starts_with('/'))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3(address) => address.fmt(f),
            Self::Directory(path) => {
                let text = path.to_string_lossy();
                // A relative path that looks like another kind of address could not be read back as it is.
                match text.starts_with('/') && text.contains("://") {
                    true => write!(f, "file://{}", utf8_percent_encode(&text, PATH)),
                    false => f.write_str(&text),
                }
            }
        }
    }
}

impl fmt::Display for S3Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        let path_style = self.path_style.then(|| String::from("true"));
        let values = [
            ("endpoint", &self.endpoint),
            ("region", &self.region),
            ("path-style", &path_style),
            ("profile", &self.profile),
            ("credentials", &self.credentials),
        ];
        let given = values.iter().filter_map(|(name, value)| value.as_ref().map(|value| (name, value)));
        for (index, (name, value)) in given.enumerate() {
            let sign = if index == 0 { '?' } else { '&' };
            write!(f, "{sign}{name}={}", utf8_percent_encode(value, QUERY))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Address {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for text in [
            "s3://vault",
            "s3://vault/a/b-c.d?region=eu-central-1",
            "s3://vault?endpoint=http://127.0.0.1:18000&region=us-east-1&path-style=true",
            "s3://vault?profile=offsite&credentials=/etc/firn/s3",
            "s3://vault/a?endpoint=https://minio.example:9000/base",
            "/srv/vault",
            "relative/vault",
            "/srv/with space?and#more",
        ] {
            assert_eq!(read(text).to_string(), text);
        }
        let odd = Address::Directory("/srv/a://b c%".into());
        assert_eq!(odd.to_string(), "file:///srv/a://b%20c%25");
        assert_eq!(read(&odd.to_string()), odd);
    }

    #[test]
    fn the_parts_are_found() {
        let expected = S3Address {
            bucket: "vault".into(),
            prefix: "pre/fix".into(),
            endpoint: Some("http://[::1]:9000".into()),
            region: Some("a b&c".into()),
            path_style: true,
            profile: Some("p".into()),
            credentials: None,
        };
        let text =
            "s3://vault/pre/fix/?path-style=true&endpoint=http%3A%2F%2F[::1]:9000&region=a+b%26c&profile=p";
        assert_eq!(read(text), Address::S3(expected.clone()));
        assert_eq!(read(&expected.to_string()), Address::S3(expected));
        assert_eq!(read("file:///srv/a%20b"), Address::Directory("/srv/a b".into()));
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_reason() {
        for (text, why) in [
            ("", "nothing is named"),
            ("s3://", "can be no bucket"),
            ("s3:///prefix", "can be no bucket"),
            ("s3://user:password@bucket", "can be no bucket"),
            ("s3://bucket/../other", "can be no prefix"),
            ("s3://bucket//a", "can be no prefix"),
            ("s3://bucket?endpoint=ftp://x", "is no http:// or https:// URL"),
            ("s3://bucket?endpoint=http://user:secret@x", "is no http:// or https:// URL"),
            ("s3://bucket?path-style=yes", "is not true or false"),
            ("s3://bucket?region=", "says nothing"),
            ("s3://bucket?acl=public", "says nothing"),
            ("file://host/dir", "absolute path"),
            ("gs://bucket", "no kind of store"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid);
            assert!(error.to_string().contains(why), "{text}: {error}");
        }
    }
}
