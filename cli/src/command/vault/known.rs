//! `firn vault init`, `add`, `forget`, `list`, `show`, `probe`, `rebuild-index`

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use firn_engine::error::{Error, Kind};
use firn_replicator::format::digest::{Digest, VaultId};
use firn_replicator::format::name::{self, SETTINGS};
use firn_replicator::format::settings::{Cipher, Settings};
use firn_replicator::store::probe::{Outcome, ProbeReport, StoreMode, probe as probe_store};
use firn_replicator::store::{Address, Capabilities, DirectoryStore, LockMode, S3Store, Store};
use firn_replicator::vault::init::InitOptions;
use firn_replicator::vault::keyring::Unlock;
use firn_replicator::vault::{Vault, identity};
use serde::Serialize;

use super::wanted;
use crate::args::vault::{Lock, OneVault, VaultAdd, VaultInit};
use crate::command::{count, or_dash};
use crate::output::Answer;
use crate::size::Size;
use crate::table::Column::Left;
use crate::table::{properties, table};
use crate::time;
use crate::vaults::opening::{Purpose, Wanted, passphrase, settled, store, who};
use crate::vaults::{Known, Vaults, is_address};

#[derive(Serialize)]
struct Made {
    dry_run: bool,
    name: String,
    address: String,
    vault: Option<VaultId>,
    encrypted: bool,
    lock: Option<LockMode>,
    key_file: Option<PathBuf>,
    probe: ProbeReport,
}

pub(super) fn init(vaults: &Vaults, init: VaultInit) -> Result<Answer> {
    let address = settled(&init.address)?;
    let files = (absolute(init.unlock.passphrase_file)?, absolute(init.unlock.key_file)?);
    check_unlock(init.encrypt, &files)?;
    if let Some(known) = vaults.find(&init.name)? {
        let detail = format!("a vault at {} is known as {:?}", known.address, init.name);
        return Err(Error::new(Kind::Conflict, "make vault", detail)
            .hint(format!("choose another name, or `firn vault forget {}` first", init.name))
            .into());
    }
    let lock = lock_mode(init.lock);
    let (store, probe) = match init.dry_run {
        true => (None, rehearse(&address)?),
        false => {
            let store: Arc<dyn Store> = Arc::from(address.open()?);
            let probe = probe_store(store.as_ref())?;
            (Some(store), probe)
        }
    };
    check_probe(&probe, lock)?;
    let cipher = if init.encrypt { Cipher::Aes256Gcm } else { Cipher::None };
    let mut made = Made {
        dry_run: init.dry_run,
        name: init.name,
        address: address.to_string(),
        vault: None,
        encrypted: init.encrypt,
        lock,
        key_file: files.1.clone(),
        probe,
    };
    if let Some(store) = store {
        let unlock = unlock(&files)?;
        let options = InitOptions {
            probed: probed(store.as_ref(), &made.probe),
            cipher,
            lock,
            signing: vaults.signing_key()?,
            unlock: unlock.map(|unlock| (unlock, "first".to_owned())),
            who: who(),
            cache: Some(vaults.cache()?),
        };
        let founded = Vault::init(store, options)?;
        let vault = founded.settings().vault;
        let settings = Digest::of(&founded.settings().encode());
        let known = Known {
            address: made.address.clone(),
            vault,
            settings,
            passphrase_file: files.0,
            key_file: files.1,
        };
        vaults.remember(&made.name, &known)?;
        made.vault = Some(vault);
    }
    let text = made.text();
    Answer::new(&made, text)
}

/// Probes a store in which nothing is to be left, and which must hold no vault.
fn rehearse(address: &Address) -> Result<ProbeReport, Error> {
    match address {
        Address::Directory(path) => rehearse_in_directory(path),
        Address::S3(address) => {
            let store = S3Store::open(address)?;
            let probe = match store.head(&name::settings()) {
                Ok(None) => probe_store(&store),
                Ok(Some(_)) => Err(holds_a_vault(address)),
                Err(error) => Err(error),
            };
            let left = store.leave_no_trace();
            let probe = probe?;
            left?;
            Ok(probe)
        }
    }
}

/// In a place of its own, in the directory itself or, while that is not there, in what is there of the path to it.
fn rehearse_in_directory(path: &Path) -> Result<ProbeReport, Error> {
    if path.join(SETTINGS).exists() {
        return Err(holds_a_vault(path.display()));
    }
    let present = path.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/"));
    let failed = |source| Error::io("try directory", present.display(), source);
    let place = tempfile::Builder::new().prefix(".firn-trial-").tempdir_in(present).map_err(failed)?;
    let probe = probe_store(&DirectoryStore::open(place.path())?)?;
    place.close().map_err(failed)?;
    Ok(ProbeReport { store: format!("directory {}", path.display()), ..probe })
}

fn holds_a_vault(at: impl std::fmt::Display) -> Error {
    Error::new(Kind::Conflict, "make vault", format!("{at} holds a vault already"))
        .hint("`firn vault add NAME ADDRESS` gives it a name on this machine")
}

fn absolute(path: Option<PathBuf>) -> Result<Option<PathBuf>, Error> {
    path.map(|path| {
        std::path::absolute(&path).map_err(|source| Error::io("find key", path.display(), source))
    })
    .transpose()
}

fn check_unlock(encrypt: bool, files: &(Option<PathBuf>, Option<PathBuf>)) -> Result<(), Error> {
    let wrong = |why: &str| Error::new(Kind::Invalid, "make vault", why.to_owned());
    match (encrypt, files) {
        (true, (None, None)) => Err(wrong("an encrypted vault needs something that opens it")
            .hint("give --key-file FILE, which is made if there is none, or --passphrase-file FILE")),
        (_, (Some(_), Some(_))) => Err(wrong("both a passphrase and a key file were given")
            .hint("begin with one; `firn vault keys add` adds the other")),
        (false, (None, None)) => Ok(()),
        (false, _) => Err(wrong("a key was given for a vault that is not to be encrypted")
            .hint("add --encrypt, or leave the key away")),
        (true, _) => Ok(()),
    }
}

/// What opens the new vault. A key file that is not there is made.
fn unlock(files: &(Option<PathBuf>, Option<PathBuf>)) -> Result<Option<Unlock>, Error> {
    match files {
        (Some(file), _) => passphrase(file).map(Unlock::Passphrase).map(Some),
        (None, Some(file)) if file.exists() => identity::read_key_file(file).map(Unlock::KeyFile).map(Some),
        (None, Some(file)) => identity::create_key_file(file).map(Unlock::KeyFile).map(Some),
        (None, None) => Ok(None),
    }
}

fn lock_mode(lock: Lock) -> Option<LockMode> {
    match lock {
        Lock::None => None,
        Lock::Governance => Some(LockMode::Governance),
        Lock::Compliance => Some(LockMode::Compliance),
    }
}

/// Says why a store can't have the vault that is wanted.
fn check_probe(probe: &ProbeReport, lock: Option<LockMode>) -> Result<(), Error> {
    let lacks = || probe.lacks().collect::<Vec<_>>().join("; ");
    match (probe.mode, lock) {
        (None, _) => Err(Error::new(Kind::Invalid, "make vault", format!("{} can't be trusted: {}", probe.store, lacks()))
            .hint("choose another store: a vault rests on what this one does wrong")),
        (Some(StoreMode::Plain), Some(_)) => {
            Err(Error::new(Kind::Invalid, "make vault", format!("{} can't lock: {}", probe.store, lacks())).hint(
                "choose a bucket with versions and Object Lock, or the weaker mode --lock none, in which firn alone keeps \
                 what has a date",
            ))
        }
        _ => Ok(()),
    }
}

/// What the store says it can do, as far as it was seen to.
fn probed(store: &dyn Store, probe: &ProbeReport) -> Capabilities {
    let said = store.capabilities();
    let is_worm = probe.mode == Some(StoreMode::Worm);
    Capabilities { retention: said.retention && is_worm, legal_hold: said.legal_hold && is_worm, ..said }
}

fn findings(probe: &ProbeReport) -> String {
    let rows = probe.findings.iter().map(|finding| {
        let outcome = match finding.outcome {
            Outcome::Passed => "ok",
            Outcome::Lacking => "lacking",
            Outcome::Broken => "BROKEN",
        };
        let property = format!("{:?}", finding.property);
        vec![words(&property), outcome.to_owned(), finding.detail.clone()]
    });
    table(&[Left("PROPERTY"), Left(""), Left("SEEN")], rows)
}

/// `ConditionalPut` as `conditional put`.
fn words(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

impl Made {
    fn text(&self) -> String {
        let mut text = findings(&self.probe);
        text += match self.probe.mode {
            Some(StoreMode::Worm) => {
                "the store can lock: what has a date can be kept from everybody until then\n"
            }
            _ => "the store can't lock: whoever may write to it may delete\n",
        };
        let how = match (self.encrypted, self.lock) {
            (true, Some(mode)) => format!("encrypted, locking in {mode:?} mode").to_lowercase(),
            (true, None) => "encrypted, not locking".to_owned(),
            (false, Some(mode)) => format!("not encrypted, locking in {mode:?} mode").to_lowercase(),
            (false, None) => "not encrypted, not locking".to_owned(),
        };
        match self.vault {
            None => text += &format!("would make vault {} at {}: {how}", self.name, self.address),
            Some(vault) => {
                text += &format!("vault {} made at {}: {how}, id {vault}", self.name, self.address);
                if let Some(file) = &self.key_file {
                    text += &format!(
                        "\nkeep a copy of {} elsewhere: without it nobody reads what is in the vault",
                        file.display()
                    );
                }
            }
        }
        text
    }
}

#[derive(Serialize)]
struct KnownView {
    name: String,
    #[serde(flatten)]
    known: Known,
}

pub(super) fn add(vaults: &Vaults, add: VaultAdd) -> Result<Answer> {
    let vault = wanted(add.address.clone(), add.unlock.clone())?;
    let address = settled(&add.address)?;
    let opened = Wanted { vault: address.to_string(), ..vault.clone() }.open(vaults, Purpose::Read)?;
    let known = Known {
        address: address.to_string(),
        vault: opened.settings().vault,
        settings: Digest::of(&opened.settings().encode()),
        passphrase_file: vault.passphrase_file,
        key_file: vault.key_file,
    };
    vaults.remember(&add.name, &known)?;
    let points = opened.catalog().points().len() as u64;
    let text =
        format!("{} is the vault at {}, with {}", add.name, known.address, count(points, "recovery point"));
    Answer::new(&KnownView { name: add.name, known }, text)
}

#[derive(Serialize)]
struct Forgotten {
    name: String,
}

pub(super) fn forget(vaults: &Vaults, name: &str) -> Result<Answer> {
    vaults.forget(name)?;
    let text = format!("{name} is not known any more; the vault itself stays as it is");
    Answer::new(&Forgotten { name: name.to_owned() }, text)
}

#[derive(Serialize)]
struct KnownVaults {
    vaults: Vec<KnownView>,
}

pub(super) fn list(vaults: &Vaults) -> Result<Answer> {
    let known = vaults.all()?.into_iter().map(|(name, known)| KnownView { name, known }).collect();
    let known = KnownVaults { vaults: known };
    if known.vaults.is_empty() {
        return Answer::new(
            &known,
            "no vaults: `firn vault init NAME ADDRESS` makes one, `firn vault add` names one that exists",
        );
    }
    let rows = known.vaults.iter().map(|view| {
        let opened_by = match (&view.known.passphrase_file, &view.known.key_file) {
            (Some(file), _) => format!("passphrase in {}", file.display()),
            (None, Some(file)) => format!("key file {}", file.display()),
            (None, None) => String::new(),
        };
        vec![view.name.clone(), view.known.address.clone(), view.known.vault.short(), or_dash(opened_by)]
    });
    let text = table(&[Left("NAME"), Left("ADDRESS"), Left("ID"), Left("OPENED BY")], rows);
    Answer::new(&known, text)
}

#[derive(Serialize)]
struct Shown<'a> {
    address: String,
    settings: &'a Settings,
    entries: u64,
    last_entry_ms: u64,
    points: usize,
    volumes: usize,
    held: usize,
    /// Bytes that sending the points that are in the vault has stored. What they share with pruned ones is not counted.
    stored_bytes: u64,
    newest_point_ms: Option<u64>,
    signers: usize,
    void_entries: usize,
}

pub(super) fn show(vaults: &Vaults, one: OneVault) -> Result<Answer> {
    let asked = wanted(one.vault, one.unlock)?;
    let (address, _) = asked.find(vaults)?;
    let vault = asked.open(vaults, Purpose::Read)?;
    let catalog = vault.catalog();
    let points = catalog.points().values();
    let volumes: std::collections::BTreeSet<_> =
        points.clone().map(|point| (point.committed.pool, point.committed.volume)).collect();
    let shown = Shown {
        address: address.to_string(),
        settings: vault.settings(),
        entries: catalog.head().number,
        last_entry_ms: catalog.head().time_ms,
        points: catalog.points().len(),
        volumes: volumes.len(),
        held: points.clone().filter(|point| !point.holds.is_empty()).count(),
        stored_bytes: points.clone().map(|point| point.committed.stored_bytes).sum(),
        newest_point_ms: points.map(|point| point.time_ms).max(),
        signers: catalog.signers().len(),
        void_entries: catalog.void().len(),
    };
    let text = shown.text();
    Answer::new(&shown, text)
}

impl Shown<'_> {
    fn text(&self) -> String {
        let settings = self.settings;
        let cipher = match settings.cipher {
            Cipher::None => "no".to_owned(),
            Cipher::Aes256Gcm => "AES-256-GCM".to_owned(),
        };
        let lock = settings.lock.map_or("no".to_owned(), |mode| format!("{mode:?}").to_lowercase());
        properties([
            ("address", self.address.clone()),
            ("id", settings.vault.to_string()),
            ("made", time::local(settings.created_ms)),
            ("encrypted", cipher),
            ("locking", lock),
            ("points", format!("{} of {}", self.points, count(self.volumes as u64, "volume"))),
            ("held", self.held.to_string()),
            ("newest", self.newest_point_ms.map_or("-".to_owned(), time::local)),
            ("stored", format!("{} by these points", Size(self.stored_bytes))),
            (
                "log",
                format!("{}, the last one {}", count(self.entries, "entry"), time::local(self.last_entry_ms))
                    .replace("entrys", "entries"),
            ),
            ("signers", self.signers.to_string()),
        ])
    }
}

pub(super) fn probe(vaults: &Vaults, vault: &str) -> Result<Answer> {
    let address = match is_address(vault) {
        true => settled(vault)?,
        false => Wanted { vault: vault.to_owned(), ..Wanted::default() }.find(vaults)?.0,
    };
    let report = probe_store(store(&address, None)?.as_ref())?;
    let mut text = findings(&report);
    text += match report.mode {
        Some(StoreMode::Worm) => "fit for a vault that locks",
        Some(StoreMode::Plain) => "fit for a vault that does not lock",
        None => "NOT fit for a vault",
    };
    let answer = Answer::new(&report, text)?;
    Ok(if report.mode.is_none() { answer.of_damage() } else { answer })
}

#[derive(Serialize)]
struct Rebuilt {
    entries: u64,
    points: usize,
}

pub(super) fn rebuild(vaults: &Vaults, one: OneVault) -> Result<Answer> {
    let asked = wanted(one.vault.clone(), one.unlock)?;
    let vault = asked.open_anew(vaults)?;
    let catalog = vault.catalog();
    let rebuilt = Rebuilt { entries: catalog.head().number, points: catalog.points().len() };
    let text = format!("the index of {} is made anew from {} log entries", one.vault, rebuilt.entries);
    Answer::new(&rebuilt, text)
}
