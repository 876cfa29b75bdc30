//! A network and a service that fail: each call ends in the right outcome or in an error, and nothing is half there.

use std::time::Duration;

use firn_engine::sys::{Clock, SystemClock};
use firn_replicator::error::Kind;
use firn_replicator::store::{Key, LockMode, Put, Retention, S3Address, S3Limits, S3Store, Store};

use crate::proxy::Fault;
use crate::proxy::Proxy;
use crate::service::{Service, limits, open};

/// The service does not do it.
const WITHOUT_EFFECT: [Fault; 7] = [
    Fault::Cut,
    Fault::CutRequest,
    Fault::Hang,
    Fault::Reply(409),
    Fault::Reply(412),
    Fault::Reply(500),
    Fault::Reply(503),
];
/// The service does it, and that is not said.
const WITH_EFFECT: [Fault; 6] = [
    Fault::LoseReply,
    Fault::CutReply,
    Fault::ReplyAfter(409),
    Fault::ReplyAfter(412),
    Fault::ReplyAfter(500),
    Fault::ReplyAfter(503),
];
/// What may be tried again whatever it was.
const TRANSIENT: [Fault; 7] = [
    Fault::Cut,
    Fault::Hang,
    Fault::Reply(500),
    Fault::Reply(503),
    Fault::LoseReply,
    Fault::CutReply,
    Fault::ReplyAfter(500),
];
/// Longer than all attempts and waits of one call.
const CALL_MAX: Duration = Duration::from_secs(60);

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

/// A store that is reached through the proxy, which soon gives up waiting.
fn through(proxy: &Proxy, address: &S3Address) -> S3Store {
    through_with(proxy, address, S3Limits { attempt: Duration::from_secs(2), attempts: 3, ..limits() })
}

fn through_with(proxy: &Proxy, address: &S3Address, limits: S3Limits) -> S3Store {
    let address = S3Address { endpoint: Some(proxy.endpoint()), ..address.clone() };
    S3Store::open_with(&address, limits).unwrap()
}

#[test]
fn a_conditional_put_knows_its_outcome_whatever_happens_to_it() {
    let service = Service::borrow();
    let proxy = Proxy::start(service.endpoint());
    for has_lock in [false, true] {
        let address = service.bucket(has_lock);
        let (direct, store) = (open(&address), through(&proxy, &address));
        for (index, fault) in WITHOUT_EFFECT.into_iter().chain(WITH_EFFECT).enumerate() {
            let name = key(&format!("ours/{index}"));
            proxy.once("PUT", fault);
            assert_eq!(store.put_if_absent(&name, b"ours").unwrap(), Put::Created, "{fault:?} {has_lock}");
            assert!(proxy.is_done(), "{fault:?} did not happen");
            assert_eq!(store.put_if_absent(&name, b"ours").unwrap(), Put::Exists, "{fault:?} {has_lock}");
            assert_eq!(direct.get(&name).unwrap(), b"ours");
            if has_lock {
                assert_eq!(direct.versions(&name).unwrap().len(), 1, "{fault:?} left a version");
            }
        }
    }
}

#[test]
fn a_conditional_put_that_lost_says_so_whatever_happens_to_it() {
    let service = Service::borrow();
    let proxy = Proxy::start(service.endpoint());
    let address = service.bucket(false);
    let (direct, store) = (open(&address), through(&proxy, &address));
    for (index, fault) in WITHOUT_EFFECT.into_iter().chain(WITH_EFFECT).enumerate() {
        let name = key(&format!("theirs/{index}"));
        direct.put_if_absent(&name, b"ours").unwrap();
        proxy.once("PUT", fault);
        // The same body: only the mark tells whose it is.
        assert_eq!(store.put_if_absent(&name, b"ours").unwrap(), Put::Exists, "{fault:?}");
        assert!(proxy.is_done(), "{fault:?} did not happen");
        assert_eq!(direct.get(&name).unwrap(), b"ours");
    }
}

#[test]
fn a_staged_body_arrives_whole_or_not_at_all() {
    let service = Service::borrow();
    let proxy = Proxy::start(service.endpoint());
    let address = service.bucket(false);
    let (direct, store) = (open(&address), through(&proxy, &address));
    let body: Vec<u8> = (0..3 << 20).map(|index: u32| index.to_le_bytes()[(index % 3) as usize]).collect();
    for (index, fault) in [Fault::CutRequest, Fault::LoseReply].into_iter().enumerate() {
        let name = key(&format!("staged/{index}"));
        let mut stage = store.stage().unwrap();
        stage.append(&body).unwrap();
        proxy.once("PUT", fault);
        assert_eq!(stage.publish(&name).unwrap(), Put::Created);
        assert!(direct.get(&name).unwrap() == body);
    }
    proxy.always(Some(Fault::CutRequest));
    let mut stage = store.stage().unwrap();
    stage.append(&body).unwrap();
    assert_eq!(stage.publish(&key("staged/never")).unwrap_err().kind(), Kind::Retry);
    assert_eq!(direct.head(&key("staged/never")).unwrap(), None);
}

#[test]
fn reads_survive_what_passes() {
    let service = Service::borrow();
    let proxy = Proxy::start(service.endpoint());
    let address = service.bucket(false);
    let (direct, store) = (open(&address), through(&proxy, &address));
    let body: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    direct.put(&key("a"), &body).unwrap();
    for fault in TRANSIENT {
        for _ in 0..2 {
            proxy.once("GET", fault);
        }
        assert!(store.get(&key("a")).unwrap() == body, "{fault:?}");
        assert!(proxy.is_done(), "{fault:?} did not happen");
        proxy.once("GET", fault);
        assert_eq!(store.get_range(&key("a"), 1000, 50).unwrap(), body[1000..1050], "{fault:?}");
        proxy.once("GET", fault);
        assert_eq!(store.list("", None).unwrap().len(), 1, "{fault:?}");
        proxy.once("HEAD", fault);
        assert_eq!(store.head(&key("a")).unwrap().unwrap().bytes, 100_000, "{fault:?}");
        proxy.once("HEAD", fault);
        store.clock_ms().unwrap();
        assert!(proxy.is_done(), "{fault:?} did not happen");
    }
}

#[test]
fn writes_and_locks_survive_what_passes() {
    let service = Service::borrow();
    let proxy = Proxy::start(service.endpoint());
    let address = service.bucket(true);
    let (direct, store) = (open(&address), through(&proxy, &address));
    let until_ms = direct.clock_ms().unwrap() + 3_600_000;
    for (index, fault) in TRANSIENT.into_iter().enumerate() {
        let name = key(&format!("w/{index}"));
        proxy.once("PUT", fault);
        store.put(&name, b"body").unwrap();
        assert_eq!(direct.get(&name).unwrap(), b"body", "{fault:?}");
        let lock = Retention { mode: LockMode::Governance, until_ms };
        proxy.once("PUT", fault);
        store.set_retention(&name, lock).unwrap();
        proxy.once("GET", fault);
        assert_eq!(store.retention(&name).unwrap(), Some(lock), "{fault:?}");
        proxy.once("PUT", fault);
        store.set_legal_hold(&name, true).unwrap();
        assert!(direct.legal_hold(&name).unwrap(), "{fault:?}");
        store.set_legal_hold(&name, false).unwrap();
        proxy.once("DELETE", fault);
        store.delete_governed(&name).unwrap();
        assert!(proxy.is_done(), "{fault:?} did not happen");
        assert!(direct.versions(&name).unwrap().is_empty(), "{fault:?} left a version");
    }
}

#[test]
fn a_service_that_is_gone_is_an_error_in_time() {
    let service = Service::borrow();
    let proxy = Proxy::start(service.endpoint());
    let address = service.bucket(false);
    let limits = S3Limits { attempt: Duration::from_secs(1), attempts: 2, ..limits() };
    let (direct, store) = (open(&address), through_with(&proxy, &address, limits));
    direct.put(&key("a"), b"body").unwrap();
    for fault in [Fault::Cut, Fault::Hang, Fault::Reply(503)] {
        proxy.always(Some(fault));
        let calls: [&dyn Fn() -> Option<Kind>; 7] = [
            &|| store.put_if_absent(&key("new"), b"x").err().map(|error| error.kind()),
            &|| store.put(&key("new"), b"x").err().map(|error| error.kind()),
            &|| store.get(&key("a")).err().map(|error| error.kind()),
            &|| store.head(&key("a")).err().map(|error| error.kind()),
            &|| store.list("", None).err().map(|error| error.kind()),
            &|| store.delete(&key("a")).err().map(|error| error.kind()),
            &|| store.clock_ms().err().map(|error| error.kind()),
        ];
        for (index, call) in calls.iter().enumerate() {
            let start = SystemClock.monotonic();
            assert_eq!(call(), Some(Kind::Retry), "{fault:?} {index}");
            assert!(SystemClock.monotonic() - start < CALL_MAX, "{fault:?} {index} took too long");
        }
    }
    proxy.always(None);
    assert_eq!(direct.get(&key("a")).unwrap(), b"body");
    assert_eq!(direct.list("", None).unwrap().len(), 1, "a request that failed took effect");
}

#[test]
fn when_nobody_can_say_the_error_says_so_and_the_object_is_whole() {
    let service = Service::borrow();
    let proxy = Proxy::start(service.endpoint());
    let address = service.bucket(false);
    let (direct, store) = (open(&address), through(&proxy, &address));
    proxy.always(Some(Fault::LoseReply));
    let error = store.put_if_absent(&key("a"), b"body").unwrap_err();
    assert_eq!(error.kind(), Kind::Retry);
    assert!(error.to_string().contains("not known"), "{error}");
    proxy.always(None);
    assert_eq!(direct.get(&key("a")).unwrap(), b"body");
    assert_eq!(store.put_if_absent(&key("a"), b"body").unwrap(), Put::Exists);
}
