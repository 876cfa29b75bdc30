//! `firn vault ...`
//!
//! What needs a pool (sending, restoring to a volume) is done by the service, as every other work on a pool. What needs
//! a vault alone is done by this process: it asks no daemon, and works on a machine that has no pool.

mod former;
mod keys;
mod known;
mod objects;
mod points;
mod restore;
mod retention;
mod send;

use anyhow::Result;
use firn_engine::error::Error;
use firn_replicator::vault::Vault;

use crate::args::Globals;
use crate::args::vault::{OneVault, Unlock, VaultVerb};
use crate::output::Answer;
use crate::vaults::Vaults;
use crate::vaults::opening::{Purpose, Wanted};

pub(super) fn run(globals: &Globals, verb: VaultVerb) -> Result<Answer> {
    let vaults = Vaults::of(globals)?;
    match verb {
        VaultVerb::Init(init) => known::init(&vaults, init),
        VaultVerb::Add(add) => known::add(&vaults, add),
        VaultVerb::Forget { vault } => known::forget(&vaults, &vault),
        VaultVerb::List => known::list(&vaults),
        VaultVerb::Show(one) => known::show(&vaults, one),
        VaultVerb::Probe { vault } => known::probe(&vaults, &vault),
        VaultVerb::Send(send) => send::run(globals, send),
        VaultVerb::Points(points) => points::list(&vaults, points),
        VaultVerb::Restore(restore) => restore::run(globals, &vaults, restore),
        VaultVerb::Ls(ls) => objects::list(&vaults, ls),
        VaultVerb::Verify(verify) => objects::verify(&vaults, verify),
        VaultVerb::Prune(prune) => retention::prune(&vaults, prune),
        VaultVerb::Reclaim(reclaim) => retention::reclaim(&vaults, reclaim),
        VaultVerb::Hold(hold) => retention::hold(&vaults, hold),
        VaultVerb::Release(hold) => retention::release(&vaults, hold),
        VaultVerb::Retain(retain) => retention::retain(&vaults, retain),
        VaultVerb::Keys(verb) => keys::run(&vaults, verb),
        VaultVerb::Check(one) => objects::check(&vaults, one),
        VaultVerb::RebuildIndex(one) => known::rebuild(&vaults, one),
    }
}

/// What was typed, as a request.
fn wanted(vault: String, unlock: Unlock) -> Result<Wanted, Error> {
    let Unlock { passphrase_file, key_file } = unlock;
    Wanted { vault, passphrase_file, key_file }.absolute()
}

fn open(vaults: &Vaults, one: OneVault, purpose: Purpose) -> Result<Vault, Error> {
    wanted(one.vault, one.unlock)?.open(vaults, purpose)
}
