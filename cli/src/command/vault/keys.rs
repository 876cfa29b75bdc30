//! `firn vault keys ...`

use anyhow::Result;
use firn_engine::error::{Error, Kind};
use firn_replicator::format::digest::{KeyId, Signer};
use firn_replicator::format::entry::Action;
use firn_replicator::vault::catalog::{Catalog, LivePoint};
use firn_replicator::vault::keyring::Unlock;
use firn_replicator::vault::{Vault, identity};
use serde::Serialize;

use super::open;
use super::points::PointView;
use super::retention::refusal;
use crate::args::vault::{KeysAdd, KeysVerb, OneVault};
use crate::output::Answer;
use crate::table::Column::{Left, Right};
use crate::table::table;
use crate::time;
use crate::vaults::Vaults;
use crate::vaults::opening::{Purpose, passphrase};

/// Digits of a data key at least, since destroying it can't be undone and a volume may be called `db`.
const KEY_DIGITS_MIN: usize = 8;

pub(super) fn run(vaults: &Vaults, verb: KeysVerb) -> Result<Answer> {
    match verb {
        KeysVerb::List(one) => list(vaults, one),
        KeysVerb::Add(add) => self::add(vaults, add),
        KeysVerb::Remove { vault, slot } => remove(vaults, vault, &slot),
        KeysVerb::Destroy { vault, volume, yes } => destroy(vaults, vault, &volume, yes),
        KeysVerb::Signer => signer(vaults),
        KeysVerb::AddSigner { vault, signer, name } => add_signer(vaults, vault, &signer, name),
        KeysVerb::RemoveSigner { vault, signer } => remove_signer(vaults, vault, &signer),
    }
}

#[derive(Serialize)]
struct Keys {
    slots: Vec<SlotView>,
    data_keys: Vec<DataKeyView>,
    signers: Vec<SignerView>,
}

#[derive(Serialize)]
struct SlotView {
    id: KeyId,
    name: String,
    added_ms: u64,
}

#[derive(Serialize)]
struct DataKeyView {
    id: KeyId,
    /// The volume, by the name that its newest point has.
    volume: Option<String>,
    points: usize,
    destroyed_ms: Option<u64>,
}

#[derive(Serialize)]
struct SignerView {
    signer: Signer,
    name: String,
    is_this_machine: bool,
}

impl Keys {
    fn of(catalog: &Catalog, own: Signer) -> Self {
        let slots = catalog.slots().iter().map(|(id, slot)| SlotView {
            id: *id,
            name: slot.name.clone(),
            added_ms: slot.time_ms,
        });
        let data_keys = catalog.keys().iter().map(|(id, key)| {
            let points = catalog.points_of(key.pool, key.volume);
            DataKeyView {
                id: *id,
                volume: points.last().map(|point| point.committed.name.clone()),
                points: points.iter().filter(|point| point.committed.key == *id).count(),
                destroyed_ms: key.destroyed_ms,
            }
        });
        let signers = catalog.signers().iter().map(|(signer, name)| SignerView {
            signer: *signer,
            name: name.clone(),
            is_this_machine: *signer == own,
        });
        Self { slots: slots.collect(), data_keys: data_keys.collect(), signers: signers.collect() }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if !self.slots.is_empty() {
            let rows = self.slots.iter();
            let rows =
                rows.map(|slot| vec![slot.id.to_string(), time::local(slot.added_ms), slot.name.clone()]);
            text += &table(&[Left("SLOT"), Left("ADDED"), Left("NAME")], rows);
            text += "\n";
        }
        if !self.data_keys.is_empty() {
            let rows = self.data_keys.iter().map(|key| {
                let state = key
                    .destroyed_ms
                    .map_or("in use".to_owned(), |at| format!("destroyed {}", time::local(at)));
                let volume = key.volume.clone().unwrap_or_else(|| "-".to_owned());
                vec![key.id.to_string(), volume, key.points.to_string(), state]
            });
            text += &table(&[Left("DATA KEY"), Left("VOLUME"), Right("POINTS"), Left("STATE")], rows);
            text += "\n";
        }
        let rows = self.signers.iter().map(|signer| {
            let here = if signer.is_this_machine { "this machine" } else { "" };
            vec![signer.signer.to_string(), signer.name.clone(), here.to_owned()]
        });
        text + &table(&[Left("SIGNER"), Left("NAME"), Left("")], rows)
    }
}

fn list(vaults: &Vaults, one: OneVault) -> Result<Answer> {
    let vault = open(vaults, one, Purpose::Read)?;
    let keys = Keys::of(&vault.catalog(), own(vaults)?);
    let text = keys.text();
    Answer::new(&keys, text)
}

fn own(vaults: &Vaults) -> Result<Signer, Error> {
    Ok(identity::signer(&vaults.signing_key()?))
}

#[derive(Serialize)]
struct Changed<T> {
    id: T,
}

fn add(vaults: &Vaults, add: KeysAdd) -> Result<Answer> {
    let vault = open(vaults, add.vault, Purpose::Write)?;
    let (unlock, what) = match (&add.new_passphrase_file, &add.new_key_file) {
        (Some(file), _) => (Unlock::Passphrase(passphrase(file)?), "the passphrase"),
        (None, Some(file)) if file.exists() => {
            (Unlock::KeyFile(identity::read_key_file(file)?), "the key file")
        }
        (None, Some(file)) => (Unlock::KeyFile(identity::create_key_file(file)?), "the new key file"),
        (None, None) => {
            return Err(Error::new(
                Kind::Invalid,
                "add key slot",
                "neither a passphrase nor a key file was given",
            )
            .into());
        }
    };
    let id = vault.add_slot(&unlock, &add.name)?;
    Answer::new(&Changed { id }, format!("{what} opens the vault from now on: slot {id}"))
}

fn remove(vaults: &Vaults, one: OneVault, slot: &str) -> Result<Answer> {
    let vault = open(vaults, one, Purpose::Write)?;
    let catalog = vault.catalog();
    let id = *chosen("key slot", slot, catalog.slots().keys(), |id| id.to_string())?;
    vault.remove_slot(id)?;
    Answer::new(&Changed { id }, format!("slot {id} is removed: what opened it opens the vault no more"))
}

#[derive(Serialize)]
struct Destroyed {
    dry_run: bool,
    id: KeyId,
    points: Vec<String>,
}

fn destroy(vaults: &Vaults, one: OneVault, volume: &str, yes: bool) -> Result<Answer> {
    let vault = open(vaults, one, Purpose::Write)?;
    let catalog = vault.catalog();
    let id = data_key(&vault, volume)?;
    let key = &catalog.keys()[&id];
    let lost = catalog.points_of(key.pool, key.volume);
    let lost: Vec<_> = lost.into_iter().filter(|point| point.committed.key == id).collect();
    // So that what is only said is what would be done.
    if let Some(refusal) = refusal(&vault, &lost, "destroy key")? {
        return Err(refusal.into());
    }
    if let Some(why) = catalog.objection(&Action::DestroyKey { id }, vault.store().clock_ms()?) {
        return Err(Error::new(Kind::Conflict, "destroy key", why).into());
    }
    let name =
        |point: &&LivePoint| format!("{} {}", PointView::of(point).full_name(), point.committed.id.short());
    let points: Vec<String> = lost.iter().map(name).collect();
    let listed: String = points.iter().map(|point| format!("  {point}\n")).collect();
    let text = match yes {
        true => {
            vault.destroy_key(id)?;
            format!("data key {id} is destroyed; these points can never be read again:\n{listed}")
        }
        false => format!(
            "data key {id} would be destroyed; these points could never be read again, by nobody:\n{listed}nothing was \
             done: add --yes to do it"
        ),
    };
    Answer::new(&Destroyed { dry_run: !yes, id, points }, text)
}

/// The data key of a volume by the volume's name or the key's first digits.
fn data_key(vault: &Vault, volume: &str) -> Result<KeyId, Error> {
    let catalog = vault.catalog();
    let alive = || catalog.keys().iter().filter(|(_, key)| key.destroyed_ms.is_none());
    let named: Vec<KeyId> = alive()
        .filter(|(_, key)| {
            catalog.points_of(key.pool, key.volume).last().is_some_and(|point| point.committed.name == volume)
        })
        .map(|(id, _)| *id)
        .collect();
    match named[..] {
        [id] => Ok(id),
        [] if volume.len() >= KEY_DIGITS_MIN => {
            chosen("data key", volume, alive().map(|(id, _)| id), |id| id.to_string()).copied()
        }
        [] => Err(Error::new(
            Kind::NotFound,
            "find key",
            format!("no volume {volume:?} has a data key in the vault"),
        )
        .hint("`firn vault keys list VAULT` shows what there is; of a key give at least 8 digits")),
        _ => Err(Error::new(
            Kind::Invalid,
            "find key",
            format!("{} volumes are called {volume:?}", named.len()),
        )
        .hint("`firn vault keys list VAULT` shows their keys: give the digits of one")),
    }
}

fn signer(vaults: &Vaults) -> Result<Answer> {
    let id = own(vaults)?;
    Answer::new(&Changed { id }, id.to_string())
}

fn add_signer(vaults: &Vaults, one: OneVault, signer: &str, name: String) -> Result<Answer> {
    let vault = open(vaults, one, Purpose::Write)?;
    let id = Signer::parse(signer)?;
    let text = format!("{id} may write to the vault from now on");
    let action = Action::AddSigner { signer: id, name };
    vault.append(&mut |catalog, _| Ok((!catalog.signers().contains_key(&id)).then(|| action.clone())))?;
    Answer::new(&Changed { id }, text)
}

fn remove_signer(vaults: &Vaults, one: OneVault, signer: &str) -> Result<Answer> {
    let vault = open(vaults, one, Purpose::Write)?;
    let catalog = vault.catalog();
    let id = *chosen("signer", signer, catalog.signers().keys(), |id| id.to_string())?;
    vault.append(&mut |catalog, _| {
        Ok(catalog.signers().contains_key(&id).then_some(Action::RemoveSigner { signer: id }))
    })?;
    Answer::new(&Changed { id }, format!("{id} may write to the vault no more"))
}

/// The only one whose text starts so.
fn chosen<'a, T>(
    what: &'static str,
    digits: &str,
    all: impl Iterator<Item = &'a T>,
    text: impl Fn(&T) -> String,
) -> Result<&'a T, Error> {
    let found: Vec<&T> = all.filter(|one| !digits.is_empty() && text(one).starts_with(digits)).collect();
    match found[..] {
        [one] => Ok(one),
        [] => Err(Error::new(Kind::NotFound, "find key", format!("no {what} {digits:?} is in the vault"))
            .hint("`firn vault keys list VAULT` shows what there is")),
        _ => Err(Error::new(
            Kind::Invalid,
            "find key",
            format!("{} {what}s begin with {digits:?}", found.len()),
        )
        .hint("give more digits")),
    }
}
