//! A service that says it has object lock and does not keep it: moto, from PyPI.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use aws_sdk_s3::Client;
use tempfile::TempDir;

use firn_replicator::store::S3Address;

use crate::service::{OWNER, client, credentials, run};

const VERSION: &str = "moto[server]==5.2.5";

/// The service; it ends with this.
pub(crate) struct Lenient {
    server: Child,
    endpoint: String,
    folder: TempDir,
}

impl Lenient {
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let mut server = Command::new(installed())
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(server.stderr.take().unwrap()).lines();
        let endpoint = lines
            .map_while(Result::ok)
            .find_map(|line| line.split_once("Running on ").map(|(_, url)| url.trim().to_owned()));
        Self { server, endpoint: endpoint.expect("moto starts"), folder }
    }

    /// A client beside the store.
    pub(crate) fn client(&self) -> Client {
        client(&self.endpoint)
    }

    /// A new bucket with object lock.
    pub(crate) fn bucket(&self, bucket: &str) -> S3Address {
        let request = client(&self.endpoint).create_bucket().bucket(bucket);
        run(request.object_lock_enabled_for_bucket(true).send()).unwrap();
        S3Address {
            bucket: bucket.into(),
            endpoint: Some(self.endpoint.clone()),
            path_style: true,
            credentials: Some(credentials(self.folder.path(), OWNER).to_str().unwrap().into()),
            ..S3Address::default()
        }
    }
}

impl Drop for Lenient {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

/// The interpreter of an environment that has it, made where it is missing.
fn installed() -> std::path::PathBuf {
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("moto");
    let lock = File::create(environment.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let (python, done) = (environment.join("bin/python"), environment.join("done"));
    if std::fs::read_to_string(&done).is_ok_and(|version| version == VERSION) {
        return python;
    }
    let mut make = Command::new("python3");
    let mut install = Command::new(&python);
    make.args(["-m", "venv", "--clear"]).arg(&environment);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", VERSION]);
    for step in [&mut make, &mut install] {
        let output = step.output().unwrap();
        assert!(output.status.success(), "{step:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    std::fs::write(done, VERSION).unwrap();
    python
}
