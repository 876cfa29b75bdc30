//! A vault on real services whose objects somebody hides: one that takes the first version of each (radosgw ignores
//! conditions), and one that takes the newest (moto keeps to them).

use std::sync::Arc;

use aws_sdk_s3::Client;
use firn_replicator::SigningKey;
use firn_replicator::format::entry::Who;
use firn_replicator::format::settings::Cipher;
use firn_replicator::store::{Key, LockMode, S3Address, Store, each_object};
use firn_replicator::vault::init::InitOptions;
use firn_replicator::vault::send::SendOptions;
use firn_replicator::vault::source::Source;
use firn_replicator::vault::verify::Depth;
use firn_replicator::vault::{OpenOptions, Vault};

use crate::lenient::Lenient;
use crate::model::{Random, Target, Volume};
use crate::service::{Service, open, run};

fn keys(store: &dyn Store) -> Vec<Key> {
    let mut keys = Vec::new();
    each_object(store, "", |object| {
        keys.push(object.key);
        Ok(())
    })
    .unwrap();
    keys
}

/// Hides every object of a vault, in turn by a mark of deletion and by a newer version, and restores from it.
fn check(address: &S3Address, client: &Client, lock: Option<LockMode>) {
    let store: Arc<dyn Store> = Arc::new(open(address));
    let options = InitOptions {
        probed: store.capabilities(),
        cipher: Cipher::None,
        lock,
        signing: SigningKey::from_bytes(&[5; 32]),
        unlock: None,
        who: Who::default(),
        cache: None,
    };
    let vault = Vault::init(store.clone(), options).unwrap();
    let (mut volume, mut random) = (Volume::new(1, 40), Random(4));
    let mut points = Vec::new();
    for _ in 0..2 {
        (0..20).for_each(|_| volume.write(random.below(40), random.block()));
        let snapshot = volume.snapshot();
        let until_ms = store.clock_ms().unwrap() + 600_000;
        let options = SendOptions { retain_until_ms: Some(until_ms), ..SendOptions::default() };
        let sent = vault.send(&[&snapshot as &dyn Source], &options, &()).unwrap();
        points.push((sent.points[0].id, snapshot));
    }
    assert_eq!(vault.verify(Depth::Content, &()).unwrap().damaged, []);
    assert_eq!(vault.check().unwrap().findings, []);

    let all = keys(store.as_ref());
    assert!(all.len() >= 10, "{all:?}");
    for (index, key) in all.iter().enumerate() {
        let object = match address.prefix.as_str() {
            "" => key.to_string(),
            prefix => format!("{prefix}/{key}"),
        };
        if index % 2 == 0 {
            run(client.delete_object().bucket(&address.bucket).key(&object).send()).unwrap();
        } else {
            let body = b"theirs".to_vec().into();
            run(client.put_object().bucket(&address.bucket).key(&object).body(body).send()).unwrap();
        }
    }
    let opened = || Vault::open(Arc::new(open(address)), OpenOptions::default()).unwrap();
    let vault = opened();
    for (id, snapshot) in &points {
        let reader = vault.open_point(*id).unwrap();
        let target = Target::new(reader.point().bytes);
        let _ = reader.restore(&target, &()).unwrap().whole().unwrap();
        assert!(target.content() == snapshot.content(), "{id}");
    }
    let damaged = opened().verify(Depth::Content, &()).unwrap().damaged;
    assert!(damaged.iter().all(|damage| damage.detail.contains("hidden by a newer version")), "{damaged:?}");
    assert_eq!(
        damaged.iter().map(|damage| &damage.object).collect::<Vec<_>>(),
        all.iter().collect::<Vec<_>>()
    );
    let findings = opened().check().unwrap().findings;
    assert!(findings.iter().all(|one| one.detail.contains("hidden by a newer version")), "{findings:?}");
}

#[test]
fn what_a_stranger_hides_on_a_service_that_takes_the_first_version_is_restored() {
    let service = Service::borrow();
    check(&service.bucket(true), &service.client(), Some(LockMode::Governance));
}

#[test]
fn what_a_stranger_hides_on_a_service_that_takes_the_newest_version_is_restored() {
    let lenient = Lenient::start();
    let address = lenient.bucket("firn-hidden");
    let (store, key) = (open(&address), Key::new("overwritten").unwrap());
    store.put_if_absent(&key, b"ours").unwrap();
    let put = lenient.client().put_object().bucket(&address.bucket).key(key.as_str());
    run(put.body(b"theirs".to_vec().into()).send()).unwrap();
    assert_eq!(store.get(&key).unwrap(), b"theirs", "this service keeps to conditions");
    assert!(store.uncover(&key).unwrap());
    assert!(!store.uncover(&Key::new("another").unwrap()).unwrap());
    assert_eq!(store.get(&key).unwrap(), b"ours");
    assert_eq!(store.get_range(&key, 1, 2).unwrap(), b"ur");
    assert_eq!(store.head(&key).unwrap().unwrap().bytes, 4);
    assert_eq!(store.hidden(), std::slice::from_ref(&key));
    // It also fails to say that an object has no lock, so the vault has none.
    check(&lenient.bucket("firn-hidden-vault"), &lenient.client(), None);
}
