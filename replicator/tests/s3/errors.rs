//! What a user sees who got something wrong.

use firn_replicator::error::Kind;
use firn_replicator::store::{S3Address, S3Limits, S3Store};

use crate::service::{MISTYPED, STRANGER, Service, UNKNOWN, User, limits};

/// Opening must fail so, with a next step that names `step`.
fn refused(address: &S3Address, kind: Kind, step: &str) {
    let error = S3Store::open_with(address, S3Limits { attempts: 2, ..limits() }).err().unwrap();
    assert_eq!(error.kind(), kind, "{error}");
    let hint = error.next_step().unwrap_or_default();
    assert!(hint.contains(step), "{error}\n{hint}");
}

#[test]
fn credentials_that_are_wrong_or_missing_are_named() {
    let service = Service::borrow();
    let address = service.bucket(false);
    let by = |user: User| {
        let credentials = Some(service.credentials(user).to_str().unwrap().into());
        S3Address { credentials, ..address.clone() }
    };
    refused(&by(UNKNOWN), Kind::Unavailable, "AWS_ACCESS_KEY_ID");
    refused(&by(MISTYPED), Kind::Unavailable, "AWS_ACCESS_KEY_ID");
    refused(&by(STRANGER), Kind::Unavailable, "lacks a right");
    let nowhere = S3Address { credentials: Some("no/such/file".into()), ..address.clone() };
    refused(&nowhere, Kind::Unavailable, "AWS_ACCESS_KEY_ID");
    let no_profile = S3Address { profile: Some("no-such-profile".into()), ..address };
    refused(&no_profile, Kind::Unavailable, "AWS_ACCESS_KEY_ID");
}

#[test]
fn a_place_that_is_wrong_is_named() {
    let service = Service::borrow();
    refused(&service.address("firn-no-such-bucket"), Kind::Unavailable, "no such bucket");
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let silent = S3Address { endpoint: Some(format!("http://127.0.0.1:{port}")), ..service.address("b") };
    refused(&silent, Kind::Retry, "endpoint");
    let endpoint = service.endpoint().replace("http://", "https://");
    let plain = S3Address { endpoint: Some(endpoint), ..service.address("b") };
    refused(&plain, Kind::Unavailable, "certificate");
}
