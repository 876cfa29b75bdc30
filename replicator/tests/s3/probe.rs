//! What a probe finds out about services.

use firn_replicator::store::probe::{Outcome, ProbeReport, Property, StoreMode, probe};
use firn_replicator::store::{S3Store, Store};

use crate::lenient::Lenient;
use crate::service::{Service, limits, open, run};

/// How one property came out.
fn outcome(report: &ProbeReport, property: Property) -> Option<Outcome> {
    report.findings.iter().find(|finding| finding.property == property).map(|finding| finding.outcome)
}

#[test]
fn a_bucket_with_object_lock_is_worm_and_is_left_as_it_was() {
    let service = Service::borrow();
    let store = open(&service.bucket(true));
    let report = probe(&store).unwrap();
    assert_eq!(report.mode, Some(StoreMode::Worm), "{report:?}");
    assert_eq!(report.findings.len(), 10);
    assert!(report.lacks().next().is_none());
    assert!(store.list("", None).unwrap().is_empty());
    let client = service.client();
    let versions = client.list_object_versions().bucket(&store.address().bucket).send();
    assert!(run(versions).unwrap().versions().is_empty(), "the probe left versions");
}

#[test]
fn a_plain_bucket_is_plain() {
    let service = Service::borrow();
    let store = open(&service.bucket(false));
    let report = probe(&store).unwrap();
    assert_eq!(report.mode, Some(StoreMode::Plain), "{report:?}");
    assert!(report.lacks().any(|lack| lack.contains("no object lock")));
    assert!(store.list("", None).unwrap().is_empty());
}

#[test]
fn a_service_that_shortens_a_compliance_lock_is_refused() {
    let lenient = Lenient::start();
    let store = S3Store::open_with(&lenient.bucket("firn-lenient"), limits()).unwrap();
    let report = probe(&store).unwrap();
    assert_eq!(outcome(&report, Property::LockNotShortened), Some(Outcome::Broken), "{report:?}");
    assert_eq!(report.mode, None);
    assert!(report.lacks().any(|lack| lack.contains("shortened")), "{report:?}");
    assert!(store.list("", None).unwrap().is_empty());
}

/// Where the service keeps to the condition of a put, the object that says so stays in a bucket that is used.
#[test]
fn a_bucket_that_was_only_tried_is_left_as_it_was() {
    let lenient = Lenient::start();
    let address = lenient.bucket("firn-tried");
    let versions = || {
        let listed = run(lenient.client().list_object_versions().bucket("firn-tried").send()).unwrap();
        listed.versions().len() + listed.delete_markers().len()
    };
    let (tried, used) = (open(&address), open(&address));
    assert_eq!(versions(), 1);
    used.leave_no_trace().unwrap();
    assert_eq!(versions(), 1, "somebody else left it");
    tried.leave_no_trace().unwrap();
    assert_eq!(versions(), 0);
}
