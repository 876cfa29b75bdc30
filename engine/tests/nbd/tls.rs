//! TLS: with libnbd's client, with certificates made here.

use std::fs;
use std::path::PathBuf;

use firn_engine::error::Kind;
use firn_engine::export::nbd::protocol::handshake::{ExportQuery, option, reply};
use firn_engine::export::nbd::{Listen, Security, Server, ServerOptions, TlsOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::client::Client;
use crate::place::{MIB, Place, fail, noise, run};

/// Certificates for a server at localhost and for a client, by an authority, in the files that libnbd looks for.
struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    fn new(place: &Place, name: &str) -> Self {
        let folder = place.disk.path().join(name);
        fs::create_dir(&folder).expect("created");
        let made = Self { folder };
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
        made.write("ca-cert.pem", &authority.pem());
        for role in ["server", "client"] {
            let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
            let params = CertificateParams::new(names).expect("parameters");
            let key = KeyPair::generate().expect("a key");
            let certificate = params.signed_by(&key, &authority).expect("signed");
            made.write(&format!("{role}-cert.pem"), &certificate.pem());
            made.write(&format!("{role}-key.pem"), &key.serialize_pem());
        }
        made
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).expect("written");
    }

    fn server(&self, client_authority: bool) -> TlsOptions {
        TlsOptions {
            certificate: self.folder.join("server-cert.pem"),
            key: self.folder.join("server-key.pem"),
            client_authority: client_authority.then(|| self.folder.join("ca-cert.pem")),
        }
    }

    /// A URI with these certificates for the client.
    fn uri(&self, place: &Place, export: &str) -> String {
        let folder = self.folder.to_str().expect("plain");
        format!("{}?tls-certificates={folder}", place.uri(export))
    }
}

fn serve(place: &mut Place, tls: TlsOptions, security: Security) {
    let address = "127.0.0.1:0".parse().expect("an address");
    let listen = vec![Listen::Tcp { address, security }, Listen::Unix(place.socket())];
    place.serve(&ServerOptions { listen, tls: Some(tls), ..ServerOptions::default() });
}

#[test]
fn data_goes_through_tls_both_ways() {
    let mut place = Place::new();
    place.volume("a", 32 * MIB);
    let certificates = Certificates::new(&place, "tls");
    serve(&mut place, certificates.server(true), Security::TlsRequired);
    let [from, back] = ["from", "back"].map(|name| place.disk.path().join(name));
    fs::write(&from, noise(1, 32 << 20)).expect("written");
    let uri = certificates.uri(&place, "a");
    assert!(uri.starts_with("nbds://"));
    run("nbdcopy", &["--connections=2", from.to_str().expect("plain"), &uri]);
    run("nbdcopy", &[&uri, back.to_str().expect("plain")]);
    assert!(fs::read(&back).expect("read") == noise(1, 32 << 20), "it came back otherwise");
    let said = run("nbdinfo", &[&uri]);
    assert!(said.contains("with TLS"), "{said}");
    let script = "
h = nbd.NBD()
h.set_uri_allow_local_file(True)
h.connect_uri(URI)
assert h.get_tls_negotiated() and h.get_structured_replies_negotiated()
assert h.pread(4096, 0) == h.pread(8192, 0)[:4096]
h.trim(h.get_size(), 0)
h.flush()
assert h.pread(1 << 20, 0) == bytes(1 << 20)
h.shutdown()
";
    run("nbdsh", &["-c", &script.replace("URI", &format!("'{uri}'"))]);
    place.wait_until(|statistics| statistics.connections_open == 0);
}

#[test]
fn a_client_without_a_certificate_from_the_authority_is_refused() {
    let mut place = Place::new();
    place.volume("a", MIB);
    let [ours, theirs] = ["ours", "theirs"].map(|name| Certificates::new(&place, name));
    serve(&mut place, ours.server(true), Security::TlsRequired);
    // Theirs trust our authority, but ours did not sign them.
    fs::copy(ours.folder.join("ca-cert.pem"), theirs.folder.join("ca-cert.pem")).expect("copied");
    fail("nbdinfo", &[&theirs.uri(&place, "a")]);
    for file in ["client-cert.pem", "client-key.pem"] {
        fs::remove_file(theirs.folder.join(file)).expect("removed");
    }
    fail("nbdinfo", &[&theirs.uri(&place, "a")]);
    run("nbdinfo", &[&ours.uri(&place, "a")]);
    serve(&mut place, ours.server(false), Security::TlsRequired);
    run("nbdinfo", &[&theirs.uri(&place, "a")]);
    place.wait_until(|statistics| statistics.connections_open == 0);
}

#[test]
fn where_tls_is_required_nothing_is_said_without() {
    let mut place = Place::new();
    place.volume("a", MIB);
    let certificates = Certificates::new(&place, "tls");
    serve(&mut place, certificates.server(false), Security::TlsRequired);
    let plain = place.uri("a").replace("nbds://", "nbd://");
    fail("nbdinfo", &[&plain]);
    let script = format!(
        "
h = nbd.NBD()
h.set_tls(nbd.TLS_DISABLE)
h.set_opt_mode(True)
h.connect_uri('{plain}')
for f in [lambda: h.opt_list(lambda *a: 0), h.opt_info, h.opt_go]:
    try:
        f()
    except nbd.Error as e:
        assert 'TLS' in e.string or 'policy' in e.string or e.errnum, e.string
    else:
        raise AssertionError('it was answered')
h.opt_abort()
"
    );
    run("nbdsh", &["-c", &script]);
    // On the unix socket plain text is allowed, and TLS offered: but not with something slipped in before it.
    let mut client = Client::greeted(&place);
    assert_eq!(client.ask(option::INFO, &ExportQuery { name: "a", wanted: vec![] }.encode()), reply::ACK);
    let mut both = Vec::new();
    firn_engine::export::nbd::protocol::handshake::put_option(&mut both, option::STARTTLS, &[]);
    firn_engine::export::nbd::protocol::handshake::put_option(&mut both, option::LIST, &[]);
    client.send(&both);
    assert_eq!(client.replies().last().expect("one").0, reply::ACK);
    assert!(client.is_closed());
    // One that asks for TLS and then speaks plain text.
    let mut client = Client::greeted(&place);
    assert_eq!(client.ask(option::STARTTLS, &[]), reply::ACK);
    client.send(&noise(1, 1000));
    assert!(client.is_closed());
    place.wait_until(|statistics| statistics.connections_open == 0);
}

#[test]
fn a_server_is_not_started_with_files_of_no_use() {
    let place = Place::new();
    let certificates = Certificates::new(&place, "tls");
    let other = Certificates::new(&place, "other");
    let good = certificates.server(true);
    let missing = place.disk.path().join("missing");
    let cases = [
        (TlsOptions { certificate: missing, ..good.clone() }, Kind::NotFound),
        (TlsOptions { key: good.certificate.clone(), ..good.clone() }, Kind::Invalid),
        (TlsOptions { certificate: good.key.clone(), ..good.clone() }, Kind::Invalid),
        (TlsOptions { key: other.folder.join("server-key.pem"), ..good.clone() }, Kind::Invalid),
        (TlsOptions { client_authority: Some(good.key.clone()), ..good }, Kind::Invalid),
    ];
    for (tls, expected) in cases {
        let options = ServerOptions { tls: Some(tls), ..ServerOptions::default() };
        assert_eq!(Server::start(&place.pool, &options).expect_err("refused").kind(), expected);
    }
}
