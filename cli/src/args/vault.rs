//! `firn vault`

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::name::PointName;
use crate::retention::Until;
use crate::size::Size;

/// What is done to vaults.
#[derive(Debug, Subcommand)]
pub(crate) enum VaultVerb {
    /// Make a vault in a directory or an S3 bucket
    ///
    /// The store is tried first: whether of many who write one object exactly one succeeds, whether it keeps versions
    /// and locks as it says. What it lacks is told, and a vault that needs it is not made.
    Init(VaultInit),
    /// Know a vault that exists by a name, on this machine
    Add(VaultAdd),
    /// No longer know a vault by a name; the vault stays as it is
    Forget {
        /// The name
        vault: String,
    },
    /// List the vaults that this machine knows
    List,
    /// Show one vault: what it is, what lies in it, who may write to it
    Show(OneVault),
    /// Try what a store can do: races, ranges, versions, locks, clock
    Probe {
        /// A vault's name, or a store's address
        #[arg(value_name = "VAULT|ADDRESS")]
        vault: String,
    },
    /// Send a volume, a snapshot or a consistency group: all of it once, then what changed
    ///
    /// Without @SNAPSHOT a snapshot is taken, and goes again when a newer one was sent. A send that was cut is gone on
    /// with by the next: at most one pack is sent again.
    Send(VaultSend),
    /// List recovery points
    Points(VaultPoints),
    /// Write a recovery point to a new volume, a file or stdout; or all volumes of a consistency group
    ///
    /// A group that was sent as one is restored as one: `firn vault restore main bank@tuesday` makes its volumes under
    /// their own names, and a consistency group of them. It is refused before anything is written when one of the
    /// volumes exists. Volumes that are not whole have the tag firn:restore; the same command begins anew with them.
    Restore(VaultRestore),
    /// List the objects of a vault, and what reaches them
    Ls(VaultLs),
    /// Prove that what is stored is what was written
    Verify(VaultVerify),
    /// Take recovery points out of the vault by a policy; says why each goes or stays
    Prune(VaultPrune),
    /// Delete objects that no recovery point needs any more
    Reclaim(VaultReclaim),
    /// Keep a recovery point until it is released, whatever its date
    Hold(VaultHold),
    /// Take back a hold
    Release(VaultHold),
    /// Keep a recovery point at least until a date; the date only ever moves later
    Retain(VaultRetain),
    /// Keys of an encrypted vault, and who may write
    #[command(subcommand, subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
    Keys(KeysVerb),
    /// Prove that the vault's log is unbroken, and that everything it names is there
    Check(OneVault),
    /// Make this machine's index of the vault anew from the vault alone
    RebuildIndex(OneVault),
}

/// A vault, and what opens it.
#[derive(Debug, Args)]
pub(crate) struct OneVault {
    /// A vault's name, or a store's address such as a directory or s3://bucket/prefix
    pub(crate) vault: String,
    #[command(flatten)]
    pub(crate) unlock: Unlock,
}

/// What opens an encrypted vault. Without one it is what the vault was known with on this machine.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Unlock {
    /// A file whose first line is the passphrase of an encrypted vault
    #[arg(long, env = "FIRN_VAULT_PASSPHRASE_FILE", hide_env_values = true, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// The key file of an encrypted vault
    #[arg(long, env = "FIRN_VAULT_KEY_FILE", hide_env_values = true, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
}

/// Whether and how points with a date are locked in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lock {
    /// Not in the store: firn alone keeps them
    #[default]
    None,
    /// By the store; a privileged user may still delete
    Governance,
    /// By the store; nobody may delete before the date
    Compliance,
}

/// `firn vault init`
#[derive(Debug, Args)]
pub(crate) struct VaultInit {
    /// What the vault is called on this machine
    pub(crate) name: String,
    /// A directory, or s3://BUCKET/PREFIX
    ///
    /// An S3 address takes ?endpoint=URL&region=REGION&path-style=true; credentials are found as the AWS tools find
    /// them.
    pub(crate) address: String,
    /// Encrypt everything before it leaves this machine, under a passphrase or a key file
    ///
    /// A key file that does not exist is made. Whoever loses it has lost what is in the vault.
    #[arg(long)]
    pub(crate) encrypt: bool,
    #[command(flatten)]
    pub(crate) unlock: Unlock,
    /// Lock points with a date in the store
    #[arg(long, value_enum, default_value = "none", value_name = "MODE")]
    pub(crate) lock: Lock,
    /// Only try the store, and say what would be made
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `firn vault add`
#[derive(Debug, Args)]
pub(crate) struct VaultAdd {
    /// What the vault is to be called on this machine
    pub(crate) name: String,
    /// Its directory, or s3://BUCKET/PREFIX
    pub(crate) address: String,
    #[command(flatten)]
    pub(crate) unlock: Unlock,
}

/// `firn vault send`
#[derive(Debug, Args)]
pub(crate) struct VaultSend {
    /// A volume or a consistency group, or a snapshot of it such as pg@nightly
    #[arg(value_name = "VOLUME[@SNAPSHOT]|GROUP[@SNAPSHOT]")]
    pub(crate) source: PointName,
    /// The vault's name or address
    pub(crate) vault: String,
    #[command(flatten)]
    pub(crate) unlock: Unlock,
    /// Keep the point at least for a time such as 30d, 12w, 7y, or until a date such as 2033-01-31
    #[arg(long, value_name = "TIME|DATE")]
    pub(crate) retain: Option<Until>,
    /// Where the application stands, such as lsn=0/3000148; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) application: Vec<crate::name::Tag>,
    /// Most bytes sent in a second [default: as fast as it goes]
    #[arg(long, value_name = "SIZE")]
    pub(crate) rate: Option<Size>,
    /// Send all of it, even if a point is there that only what changed since need be sent
    #[arg(long)]
    pub(crate) baseline: bool,
    /// Only say what would be sent
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `firn vault points`
#[derive(Debug, Args)]
pub(crate) struct VaultPoints {
    #[command(flatten)]
    pub(crate) vault: OneVault,
    /// Only those of this volume
    #[arg(long)]
    pub(crate) volume: Option<String>,
    /// Those instead that left the vault and are kept all the same, since they were retained or held: pruned before their
    /// time, or before another point took their place
    #[arg(long)]
    pub(crate) former: bool,
}

/// `firn vault restore`
#[derive(Debug, Args)]
pub(crate) struct VaultRestore {
    /// The vault's name or address
    pub(crate) vault: String,
    /// A recovery point: the first digits of its id, pg@nightly, pg for the newest one of a volume, or pg@2026-11-24T12:00
    /// for the newest at that time; or a consistency group in the same ways, such as bank@nightly
    ///
    /// Where a volume and a group have one name, write volume/pg or group/pg. group/ before the digits of a point's id
    /// means the group that it was sent with. former/ before the digits of a point that left the vault means that point
    /// itself, and not what took its place; `firn vault points --former` lists those.
    #[arg(value_name = "POINT|GROUP[@SNAPSHOT]")]
    pub(crate) point: String,
    /// A new volume; or a file, whose name has a slash in it, such as ./pg.img; or - for stdout. Of a group: VOLUME=NEW for
    /// each volume that gets another name, or a directory for a file of each, such as ./bank/
    #[arg(long, value_name = "VOLUME|FILE|-|VOLUME=NEW|DIR/")]
    pub(crate) to: Vec<String>,
    /// The consistency group that is made of a group's volumes [default: one of the same name, unless there is one]
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Option<String>,
    #[command(flatten)]
    pub(crate) unlock: Unlock,
    /// Only these bytes of it, as OFFSET:LENGTH, such as 1G:64K; to a file or stdout
    #[arg(long, value_name = "OFFSET:LENGTH")]
    pub(crate) range: Option<String>,
    /// Take a file or block device that exists, and lose what is in it
    #[arg(long)]
    pub(crate) overwrite: bool,
}

/// `firn vault ls`
#[derive(Debug, Args)]
pub(crate) struct VaultLs {
    #[command(flatten)]
    pub(crate) vault: OneVault,
    /// Only what this recovery point reaches
    #[arg(long)]
    pub(crate) point: Option<String>,
}

/// How deep `firn vault verify` looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Depth {
    /// The log, and every point and run it names
    Catalog,
    /// That every object is there, as long as it must be, and locked as long as it must be
    #[default]
    Objects,
    /// All bytes of all objects; decrypted and decompressed too where the keys are given
    Content,
}

/// `firn vault verify`
#[derive(Debug, Args)]
pub(crate) struct VaultVerify {
    #[command(flatten)]
    pub(crate) vault: OneVault,
    /// How deep
    #[arg(long, value_enum, default_value = "objects")]
    pub(crate) depth: Depth,
}

/// `firn vault prune`
#[derive(Debug, Args)]
pub(crate) struct VaultPrune {
    #[command(flatten)]
    pub(crate) vault: OneVault,
    /// How many to keep: last=3,hourly=24,daily=7,weekly=5,monthly=12,yearly=20,within=30d, any of them
    #[arg(long, value_name = "POLICY", required_unless_present = "point")]
    pub(crate) keep: Option<String>,
    /// Take out these recovery points instead
    #[arg(long, conflicts_with = "keep")]
    pub(crate) point: Vec<String>,
    /// Only those of this volume, and what was committed with them as a consistency group
    #[arg(long)]
    pub(crate) volume: Option<String>,
    /// Only say what would go and what would stay, and why
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `firn vault reclaim`
#[derive(Debug, Args)]
pub(crate) struct VaultReclaim {
    #[command(flatten)]
    pub(crate) vault: OneVault,
    /// First copy what is needed of packs that are mostly not, so that they can be given back whole
    #[arg(long)]
    pub(crate) compact: bool,
    /// Only say what would be copied and deleted
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `firn vault hold` and `firn vault release`
#[derive(Debug, Args)]
pub(crate) struct VaultHold {
    #[command(flatten)]
    pub(crate) vault: OneVault,
    /// The recovery point
    pub(crate) point: String,
    /// Why; each reason is a hold of its own
    #[arg(long, default_value = "user", value_name = "REASON")]
    pub(crate) reason: String,
}

/// `firn vault retain`
#[derive(Debug, Args)]
pub(crate) struct VaultRetain {
    #[command(flatten)]
    pub(crate) vault: OneVault,
    /// The recovery point
    pub(crate) point: String,
    /// A time from now such as 7y, or a date such as 2033-01-31
    pub(crate) until: Until,
}

/// What is done to keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysVerb {
    /// List key slots, data keys and signers
    List(OneVault),
    /// Let another passphrase or key file open the vault
    Add(KeysAdd),
    /// Close a slot: its passphrase or key file no longer opens the vault
    Remove {
        #[command(flatten)]
        vault: OneVault,
        /// The first digits of the slot's id
        slot: String,
    },
    /// Destroy the data key of a volume: its points can never be read again, by nobody
    Destroy {
        #[command(flatten)]
        vault: OneVault,
        /// The volume's name, or the first digits of the key's id
        volume: String,
        /// Do it; without this it is only said what would be lost
        #[arg(long)]
        yes: bool,
    },
    /// Print the public key that this machine signs with
    Signer,
    /// Let another machine write to the vault
    AddSigner {
        #[command(flatten)]
        vault: OneVault,
        /// Its public key, as `firn vault keys signer` prints it there
        signer: String,
        /// What it is called
        #[arg(long, default_value = "")]
        name: String,
    },
    /// Let a machine no longer write to the vault
    RemoveSigner {
        #[command(flatten)]
        vault: OneVault,
        /// Its public key, or the first digits
        signer: String,
    },
}

/// `firn vault keys add`
#[derive(Debug, Args)]
pub(crate) struct KeysAdd {
    #[command(flatten)]
    pub(crate) vault: OneVault,
    /// A file whose first line is the new passphrase
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "new_key_file",
        conflicts_with = "new_key_file"
    )]
    pub(crate) new_passphrase_file: Option<PathBuf>,
    /// The new key file, which is made if there is none
    #[arg(long, value_name = "FILE")]
    pub(crate) new_key_file: Option<PathBuf>,
    /// What the slot is called
    #[arg(long, default_value = "")]
    pub(crate) name: String,
}
