//! How the golden vaults were made: one that is not encrypted, and one that is.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use firn_replicator::format::digest::{Digest, KeyId, PoolId, Signer, VaultId};
use firn_replicator::format::entry::{Action, Committed, Forwarded, Pruned};
use firn_replicator::format::name;
use firn_replicator::format::secret::Secret;
use firn_replicator::format::settings::{Cipher, Settings};
use firn_replicator::format::slot::{Slot, Wrapping};
use firn_replicator::store::{Key, LockMode, Retention};

use crate::content::{HOLE, NOISE};
use crate::writer::{BEGIN_MS, Change, POOL, Writer};

/// What opens the slot `office` of the encrypted vault.
pub(crate) const PASSPHRASE: &str = "correct horse battery st\u{e5}ple";
/// The key file that opens its slot `safe`.
pub(crate) const KEY_FILE: [u8; 32] = *b"golden key file of 32 bytes.....";

const MASTER: [u8; 32] = *b"golden master key of 32 bytes...";
const YEAR_MS: u64 = 365 * 24 * 3600 * 1000;

/// The objects of a vault.
pub(crate) type Objects = BTreeMap<Key, Vec<u8>>;

/// Who signs: the founder, or the second signer.
pub(crate) fn signer(who: u8) -> SigningKey {
    SigningKey::from_bytes(&[who; 32])
}

fn begin(vault: VaultId, cipher: Cipher, lock: Option<LockMode>) -> Writer {
    let founder = signer(1);
    let mut writer = Writer::new(vault, founder.clone());
    let public = Signer(founder.verifying_key().to_bytes());
    let settings = Settings::new(vault, public, BEGIN_MS, cipher, lock).encode();
    writer.log(Action::Init { settings: Digest::of(&settings) });
    writer.put(name::settings(), settings);
    writer
}

fn commit(writer: &mut Writer, points: Vec<Committed>) -> Digest {
    let first = points[0].id;
    let group = (points.len() > 1).then(|| "bank".to_owned());
    writer.log(Action::Commit { points, group });
    first
}

fn prune(writer: &mut Writer, points: &[(Digest, &str)]) {
    let points = points.iter().map(|(id, reason)| Pruned { id: *id, reason: (*reason).to_owned() });
    writer.log(Action::Prune { points: points.collect() });
}

/// Every third block of 0..120, so that the baseline's map is larger than what comes after.
fn every_third(letter: u8) -> Vec<Change> {
    (0..120).step_by(3).map(|first| (first..first + 1, letter)).collect()
}

/// The vault that is not encrypted: every action but those of keys.
pub(crate) fn plain() -> Objects {
    let mut writer = begin(VaultId(*b"golden vault 1 p"), Cipher::None, None);
    let w = &mut writer;
    w.volume(1, "db", 320, KeyId::default());
    w.volume(2, "log", 64, KeyId::default());
    w.volume(3, "scratch", 16, KeyId::default());
    w.volume(4, "empty", 8, KeyId::default());
    w.volume(5, "trial", 16, KeyId::default());

    let mut changes = every_third(b'a');
    // 53 blocks in all: the second pack's second frame is one block that can't be compressed.
    changes.extend([(200..211, b'b'), (318..320, NOISE)]);
    let point = w.send(1, "monday", &changes);
    let monday = commit(w, vec![point]);
    let point = w.send(1, "tuesday", &[(1..3, b'c'), (9..10, HOLE), (203..205, b'c'), (250..252, HOLE)]);
    let tuesday = commit(w, vec![point]);

    let second = Signer(signer(2).verifying_key().to_bytes());
    w.log(Action::AddSigner { signer: second, name: "db-2".into() });
    w.signer = signer(2);
    let db = w.send(1, "wednesday", &[(204..206, b'd')]);
    let log = w.send(2, "wednesday", &[(0..40, b'l')]);
    let wednesday = commit(w, vec![db, log]);
    let point = w.send(3, "monday", &[(5..9, b's')]);
    let scratch = commit(w, vec![point]);
    let point = w.send(4, "monday", &[]);
    commit(w, vec![point]);

    w.signer = signer(1);
    for reason in ["audit", "case 17"] {
        w.log(Action::Hold { point: tuesday, reason: reason.into(), locked: false });
    }
    w.log(Action::Release { point: tuesday, reason: "case 17".into() });
    let until_ms = BEGIN_MS + 20 * YEAR_MS;
    w.log(Action::Retain { points: vec![wednesday], until_ms, locked: None });
    reclaim_scratch(w, scratch);
    w.log(Action::RemoveSigner { signer: second });

    w.resize(1, 400);
    let point = w.send(1, "thursday", &[(0..2, HOLE), (390..400, b'e')]);
    commit(w, vec![point]);
    w.resize(1, 64);
    let point = w.send(1, "friday", &[(60..64, b'f')]);
    commit(w, vec![point]);
    acquit_trial(w);
    prune(w, &[(monday, "not among the newest 5 of class standard")]);
    // Void: a point that is held stays, and so does what would have been pruned with it.
    prune(w, &[(wednesday, "asked for by name"), (tuesday, "asked for by name")]);
    writer.objects
}

/// A vault in which a point went on as another one: of the packs of its baseline almost nothing lived.
pub(crate) fn forwarded() -> Objects {
    let mut writer = begin(VaultId(*b"golden vault 2 f"), Cipher::None, None);
    let w = &mut writer;
    w.volume(1, "db", 64, KeyId::default());
    let point = w.send(1, "monday", &[(0..64, b'a')]);
    let monday = commit(w, vec![point]);
    let tuesday = w.send(1, "tuesday", &[(4..60, b'b'), (60..64, b'c')]);
    commit(w, vec![tuesday.clone()]);
    prune(w, &[(monday, "older than a day")]);
    let there = w.forward(1, &tuesday, &[(0..4, b'a'), (4..60, b'b'), (60..64, b'c')]);
    w.log(Action::Forward { points: vec![there] });
    let point = w.send(1, "wednesday", &[(0..2, b'd')]);
    commit(w, vec![point]);
    // Void: what left goes nowhere any more.
    let nowhere = Committed { id: Digest::of(b"nowhere"), ..tuesday.clone() };
    w.log(Action::Forward { points: vec![Forwarded { from: tuesday.id, to: nowhere }] });
    writer.objects
}

/// A vault in which a stolen key let a point go on as others, with other content, and one that was pruned; and whatever
/// a `forward` can't be. Returns the two that left.
pub(crate) fn former() -> (Objects, [Digest; 2]) {
    let mut writer = begin(VaultId(*b"golden vault 2 k"), Cipher::None, None);
    let w = &mut writer;
    w.volume(1, "db", 64, KeyId::default());
    w.volume(2, "log", 16, KeyId::default());
    let until_ms = BEGIN_MS + 20 * YEAR_MS;
    let locked = Retention { mode: LockMode::Governance, until_ms: BEGIN_MS + YEAR_MS };
    w.locked = Some(locked);
    let monday = w.send(1, "monday", &[(0..64, b'a')]);
    commit(w, vec![monday.clone()]);
    w.locked = None;
    let log = w.send(2, "monday", &[(0..4, b'l')]);
    let pruned = commit(w, vec![log.clone()]);
    for reason in ["audit", "case 17"] {
        w.log(Action::Hold { point: monday.id, reason: reason.into(), locked: false });
    }
    w.log(Action::Retain { points: vec![monday.id], until_ms, locked: None });
    w.log(Action::Retain { points: vec![pruned], until_ms: BEGIN_MS + 1, locked: None });
    let mut first = w.forward(1, &monday, &[(0..64, b'x')]);
    first.to.retain_until_ms = Some(until_ms);
    forwards_that_are_void(w, &first, &log);
    w.log(Action::Forward { points: vec![first.clone()] });
    w.log(Action::Release { point: first.to.id, reason: "audit".into() });
    w.log(Action::Hold { point: first.to.id, reason: "late".into(), locked: false });
    let mut second = w.forward(1, &first.to, &[(0..64, b'y')]);
    second.to.retain_until_ms = Some(until_ms + 1);
    w.log(Action::Forward { points: vec![second.clone()] });
    w.log(Action::Release { point: second.to.id, reason: "late".into() });
    prune(w, &[(pruned, "to hide it")]);
    (writer.objects, [monday.id, pruned])
}

/// Each rule of what voids a `forward`, by itself.
fn forwards_that_are_void(w: &mut Writer, good: &Forwarded, other: &Committed) {
    let Forwarded { from, to } = good;
    let one = |to: Committed| vec![Forwarded { from: *from, to }];
    let new = |to: &Committed| Committed { id: Digest::of(b"another"), ..to.clone() };
    let shorter = to.locked.map(|locked| Retention { until_ms: locked.until_ms - 1, ..locked });
    let both = |to: Committed| vec![good.clone(), Forwarded { from: other.id, to }];
    for points in [
        vec![],
        [one(to.clone()), one(new(to))].concat(),
        both(Committed { id: to.id, ..other.clone() }),
        vec![Forwarded { from: Digest::of(b"stranger"), to: to.clone() }],
        one(Committed { id: other.id, ..to.clone() }),
        one(Committed { id: *from, ..to.clone() }),
        one(Committed { pool: PoolId([9; 16]), ..to.clone() }),
        one(Committed { volume: 2, ..to.clone() }),
        one(Committed { name: "x".into(), ..to.clone() }),
        one(Committed { snapshot: "x".into(), ..to.clone() }),
        one(Committed { created_ms: 1, ..to.clone() }),
        one(Committed { bytes: 4096, ..to.clone() }),
        one(Committed { changed_bytes: 1, ..to.clone() }),
        one(Committed { stored_bytes: 1, ..to.clone() }),
        one(Committed { parent: Some(other.id), ..to.clone() }),
        one(Committed { key: KeyId([9; 16]), ..to.clone() }),
        one(Committed { retain_until_ms: to.retain_until_ms.map(|until_ms| until_ms - 1), ..to.clone() }),
        one(Committed { retain_until_ms: None, ..to.clone() }),
        one(Committed { locked: shorter, ..to.clone() }),
        one(Committed { locked: None, ..to.clone() }),
    ] {
        w.log(Action::Forward { points });
    }
}

/// Takes the only point of `scratch` back, with all that it reached; the same content sent again gets new names.
fn reclaim_scratch(w: &mut Writer, scratch: Digest) {
    prune(w, &[(scratch, "asked for by name")]);
    let mut objects = w.newest_objects(3);
    objects.push(name::point(scratch));
    objects.sort();
    w.log(Action::Condemn { objects: objects.clone() });
    w.log(Action::Delete { objects: objects.clone() });
    objects.iter().for_each(|key| drop(w.objects.remove(key)));
    w.volume_anew(3);
    let point = w.send(3, "again", &[(5..9, b's')]);
    commit(w, vec![point]);
}

/// Takes the only point of `trial` back; before anything is deleted the same content is sent again, and used again.
fn acquit_trial(w: &mut Writer) {
    let point = w.send(5, "one", &[(2..12, b't')]);
    let one = commit(w, vec![point]);
    prune(w, &[(one, "asked for by name")]);
    let objects = w.newest_objects(5);
    w.log(Action::Condemn { objects: objects.clone() });
    w.volume_anew(5);
    let point = w.send(5, "two", &[(2..12, b't')]);
    w.log(Action::Acquit { objects });
    commit(w, vec![point]);
}

/// The encrypted vault, whose points are locked: key slots and data keys come and go.
pub(crate) fn encrypted() -> Objects {
    let vault = VaultId(*b"golden vault 1 e");
    let mut writer = begin(vault, Cipher::Aes256Gcm, Some(LockMode::Compliance));
    let w = &mut writer;
    let master = Secret::new(MASTER);
    let file = Wrapping::of_key_file(&Secret::new(KEY_FILE));
    let office = Wrapping::passphrase(*b"golden salt of 1");
    let from_passphrase = office.of_passphrase(PASSPHRASE).expect("derived");
    slot(w, 1, "office", office, &from_passphrase, &master);
    slot(w, 2, "safe", Wrapping::KeyFile, &file, &master);
    slot(w, 3, "old", Wrapping::KeyFile, &Secret::new([3; 32]), &master);
    w.log(Action::RemoveSlot { id: key_id(3) });
    w.objects.remove(&name::slot(key_id(3)));

    data_key(w, 1, &master);
    data_key(w, 2, &master);
    w.volume(1, "db", 320, key_id(11));
    w.volume(2, "log", 64, key_id(12));
    let mut changes = every_third(b'a');
    changes.extend([(200..211, b'b'), (318..320, NOISE)]);
    let point = w.send(1, "monday", &changes);
    let monday = commit(w, vec![point]);
    w.locked = Some(Retention { mode: LockMode::Governance, until_ms: BEGIN_MS + YEAR_MS });
    let db = w.send(1, "tuesday", &[(1..3, b'c'), (9..10, HOLE), (203..205, b'c'), (250..252, HOLE)]);
    let log = w.send(2, "tuesday", &[(0..40, b'l')]);
    let tuesday = commit(w, vec![db, log]);
    w.locked = None;
    let point = w.send(1, "wednesday", &[(100..140, b'd'), (0..1, HOLE)]);
    commit(w, vec![point]);
    let until_ms = BEGIN_MS + 7 * YEAR_MS;
    w.log(Action::Retain { points: vec![tuesday], until_ms, locked: Some(LockMode::Compliance) });
    w.log(Action::Hold { point: tuesday, reason: "audit".into(), locked: true });
    prune(w, &[(monday, "older than 30 days")]);

    data_key(w, 3, &master);
    w.volume(3, "payroll", 16, key_id(13));
    let point = w.send(3, "january", &[(0..4, b'p')]);
    commit(w, vec![point]);
    w.log(Action::DestroyKey { id: key_id(13) });
    w.objects.remove(&name::slot(key_id(13)));
    writer.objects
}

fn key_id(number: u8) -> KeyId {
    KeyId([number; 16])
}

fn slot(w: &mut Writer, number: u8, name: &str, wrapping: Wrapping, with: &Secret, master: &Secret) {
    let id = key_id(number);
    let slot = Slot::wrap(w.vault, id, wrapping, with, master, [number; 12]).expect("wrapped").encode();
    let object = Digest::of(&slot);
    w.put(name::slot(id), slot);
    w.log(Action::AddSlot { id, object, name: name.to_owned() });
}

/// The data key of a volume, under the identity 10 above the volume's.
fn data_key(w: &mut Writer, volume: u8, master: &Secret) {
    let id = key_id(10 + volume);
    let secret = Secret::new([100 + volume; 32]);
    let wrapping = Wrapping::MasterKey { pool: POOL, volume: volume.into() };
    let slot =
        Slot::wrap(w.vault, id, wrapping, master, &secret, [10 + volume; 12]).expect("wrapped").encode();
    let object = Digest::of(&slot);
    w.put(name::slot(id), slot);
    w.log(Action::AddKey { id, object, pool: POOL, volume: volume.into() });
    w.use_key(id, &secret);
}
