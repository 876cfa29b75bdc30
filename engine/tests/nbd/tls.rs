//! TLS: with libnbd's client, with certificates made here.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::channel;

use firn_engine::error::Kind;
use firn_engine::export::nbd::client::{self, ClientOptions, Reconnect};
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

fn connect(uri: &str) -> firn_engine::error::Result<client::Client> {
    let options = ClientOptions { connections: 2, reconnect: Reconnect::Forever, observer: None };
    client::Client::connect(&uri.parse().expect("a URI"), options)
}

/// Everything under way at once, both ways, and more than sockets hold.
fn write_and_read(client: &client::Client) {
    let (sender, answers) = channel();
    let ask = |request| {
        let sender = sender.clone();
        client.submit(request, Box::new(move |result| _ = sender.send(result.expect("answered"))));
    };
    for at in 0..16 {
        ask(client::Request::Write { offset: at * MIB, data: noise(at, 1 << 20), is_durable: at % 2 == 0 });
    }
    (0..16).for_each(|_| _ = answers.recv().expect("answered"));
    (0..64).for_each(|at| ask(client::Request::Read { offset: at % 16 * MIB, bytes: 1 << 20 }));
    let mut sums = Vec::new();
    for _ in 0..64 {
        let client::Response::Data(data) = answers.recv().expect("answered") else { panic!("data") };
        sums.push(crc32(&data));
    }
    let mut expected: Vec<u32> = (0..64).map(|at| crc32(&noise(at % 16, 1 << 20))).collect();
    sums.sort_unstable();
    expected.sort_unstable();
    assert_eq!(sums, expected);
    let mut whole = vec![0; 16 << 20];
    client.read_at(0, &mut whole).expect("read");
    assert!((0..16).all(|at| whole[at << 20..][..1 << 20] == noise(at as u64, 1 << 20)));
}

fn crc32(data: &[u8]) -> u32 {
    firn_engine::checksum::checksum(data)
}

#[test]
fn our_own_client_speaks_tls() {
    let mut place = Place::new();
    place.volume("a", 16 * MIB);
    let [ours, theirs] = ["ours", "theirs"].map(|name| Certificates::new(&place, name));
    serve(&mut place, ours.server(true), Security::TlsRequired);
    let uri = ours.uri(&place, "a");
    write_and_read(&connect(&uri).expect("connected"));
    // On the unix socket too, where the certificate is localhost's.
    let folder = ours.folder.to_str().expect("plain");
    let unix = format!("nbds+unix:///a?socket={}&tls-certificates={folder}", place.socket().display());
    write_and_read(&connect(&unix).expect("connected"));
    // A server that nobody we trust vouches for, or for another host, and one that does not know us.
    let kinds = |uri: &str| connect(uri).expect_err("refused").kind();
    assert_eq!(kinds(&theirs.uri(&place, "a")), Kind::Unavailable);
    assert_eq!(kinds(&format!("{uri}&tls-hostname=elsewhere")), Kind::Unavailable);
    assert_eq!(kinds(&place.uri("a")), Kind::Invalid, "no certificates are named");
    assert_eq!(kinds(&format!("{}?tls-certificates=/nowhere", place.uri("a"))), Kind::NotFound);
    assert_eq!(kinds(&place.uri("a").replace("nbds:", "nbd:")), Kind::Invalid, "never in plain text");
    fs::remove_file(ours.folder.join("client-cert.pem")).expect("removed");
    assert_eq!(kinds(&uri), Kind::Unavailable);
    place.wait_until(|statistics| statistics.connections_open == 0);
}

/// nbdkit, ended when it is dropped.
struct Nbdkit(std::process::Child);

impl Drop for Nbdkit {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test waits for a process, with a bound")]
fn our_client_speaks_tls_with_nbdkit() {
    let place = Place::new();
    let certificates = Certificates::new(&place, "tls");
    let (socket, folder) = (place.disk.path().join("kit"), certificates.folder.to_str().expect("plain"));
    let arguments = ["-f", "--tls=require", "--tls-verify-peer", "--tls-certificates", folder, "-U"];
    let mut nbdkit = std::process::Command::new("nbdkit");
    nbdkit.args(arguments).arg(&socket).args(["memory", "16M"]);
    let _nbdkit = Nbdkit(nbdkit.spawn().expect("`make packages-test` installs it"));
    let uri = format!("nbds+unix:///?socket={}&tls-certificates={folder}", socket.display());
    let start = std::time::Instant::now();
    // It is there before it listens.
    while UnixStream::connect(&socket).is_err() {
        assert!(start.elapsed().as_secs() < 60, "it does not listen");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    write_and_read(&connect(&uri).expect("connected"));
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
