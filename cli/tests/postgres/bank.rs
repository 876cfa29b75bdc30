//! A bank with its accounts in two PostgreSQL servers, east and west, and transfers from one to the other.
//!
//! A transfer is one transaction at each side, brought together by two-phase commit:
//!
//! 1. Each side changes its account and notes the transfer, in one transaction, which is prepared: in the east, then in
//!    the west. Every transfer takes its locks in this order, so two never wait for each other.
//! 2. When both are prepared, one side commits, which may be either. **This is the decision, and the note that becomes
//!    visible with it is the coordinator's log.**
//! 3. The other side commits.
//!
//! So where a note is visible, the other side was prepared before, and has committed or is still prepared. The rule to
//! resolve what is prepared needs nothing else: if the other side has the note, commit it, otherwise roll it back. It
//! holds for two servers that stopped at one point in time, and for nothing less.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::cluster::Cluster;
use crate::session::Session;
use crate::shell::random::Random;

/// The names of the two sides, which are those of their volumes.
pub(crate) const SIDES: [&str; 2] = ["east", "west"];
/// Accounts at each side.
const ACCOUNTS: u64 = 50;
/// What each account begins with.
const BALANCE: i64 = 1000;
/// Settings of the servers under load. What one acknowledges is on its volume.
pub(crate) const SETTINGS: [&str; 6] = [
    "shared_buffers=4MB",
    "max_connections=20",
    "max_prepared_transactions=20",
    "max_wal_size=32MB",
    "max_worker_processes=0",
    "fsync=on",
];
/// Settings of a clone, which is thrown away when it was looked at.
const CLONE_SETTINGS: [&str; 6] = [
    "shared_buffers=1MB",
    "max_connections=20",
    "max_prepared_transactions=20",
    "max_worker_processes=0",
    "autovacuum=off",
    "fsync=off",
];

/// Makes the accounts of one side.
pub(crate) fn open_accounts(cluster: &Cluster) {
    Session::open(cluster).ask(&format!(
        "create table account (id int primary key, balance bigint not null);
         create table transfer (id bigint primary key, amount bigint not null);
         insert into account select id, {BALANCE} from generate_series(0, {ACCOUNTS} - 1) id;
         checkpoint"
    ));
}

/// How many transfers there were, as the workers count them.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    begun: AtomicU64,
    finished: AtomicU64,
    is_over: AtomicBool,
}

impl Counts {
    /// Transfers that were begun, and may have been decided.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// Transfers of which both sides said that they are committed.
    pub(crate) fn finished(&self) -> u64 {
        self.finished.load(Ordering::SeqCst)
    }

    /// Whether there are to be no more of them.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Ends the transfers when it is dropped, so that nobody waits for one that will not come.
    pub(crate) fn ending(&self) -> Ending<'_> {
        Ending(self)
    }
}

/// The end of the transfers.
pub(crate) struct Ending<'a>(&'a Counts);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }
}

/// Makes random transfers until they are over.
pub(crate) fn work(sides: [&Cluster; 2], seed: u64, counts: &Counts) {
    let mut random = Random::new(seed);
    let mut sessions = sides.map(Session::open);
    while !counts.is_over() {
        let id = counts.begun.fetch_add(1, Ordering::SeqCst);
        transfer(&mut sessions, id, &mut random);
        counts.finished.fetch_add(1, Ordering::SeqCst);
    }
}

fn transfer(sessions: &mut [Session; 2], id: u64, random: &mut Random) {
    let sum = 1 + random.below(100).cast_signed();
    let amounts = if random.below(2) == 0 { [sum, -sum] } else { [-sum, sum] };
    for (session, amount) in sessions.iter_mut().zip(amounts) {
        let account = random.below(ACCOUNTS);
        session.ask(&format!(
            "begin;
             update account set balance = balance + ({amount}) where id = {account};
             insert into transfer values ({id}, {amount});
             prepare transaction '{id}'"
        ));
    }
    let first = usize::from(random.below(2) == 0);
    for side in [first, 1 - first] {
        sessions[side].ask(&format!("commit prepared '{id}'"));
    }
}

/// Both sides of a bank as two snapshots had them, when everything is resolved.
#[derive(Debug)]
pub(crate) struct Books {
    sides: [Side; 2],
    /// Prepared transactions that were committed, because the other side had the note.
    pub(crate) committed: u64,
    /// Those that were rolled back.
    pub(crate) rolled_back: u64,
}

#[derive(Debug)]
struct Side {
    /// All that is on its accounts.
    balance: i64,
    /// All that its transfers brought.
    moved: i64,
    transfers: u64,
    /// Of all numbers and amounts: the same at both sides if they have the same transfers.
    digest: String,
}

impl Books {
    /// Recovers two clusters that somebody else's crash left, resolves what is prepared, and reads what there is.
    pub(crate) fn read(mut clusters: [Cluster; 2]) -> Self {
        clusters.iter_mut().for_each(|cluster| cluster.start(&CLONE_SETTINGS));
        let mut sessions = clusters.each_ref().map(Session::open);
        let [committed, rolled_back] = resolve(&mut sessions);
        let sides = sessions.each_mut().map(Side::read);
        drop(sessions);
        clusters.iter_mut().for_each(Cluster::abort);
        Self { sides, committed, rolled_back }
    }

    /// How much money there is more than in the beginning.
    pub(crate) fn appeared(&self) -> i64 {
        let beginning = 2 * ACCOUNTS.cast_signed() * BALANCE;
        self.sides.iter().map(|side| side.balance).sum::<i64>() - beginning
    }

    /// Holds everything against everything, and gives the number of transfers.
    pub(crate) fn check(&self) -> u64 {
        let [east, west] = &self.sides;
        assert_eq!(self.appeared(), 0, "money appeared or vanished: {self:?}");
        assert_eq!((east.transfers, &east.digest), (west.transfers, &west.digest), "{self:?}");
        for side in &self.sides {
            assert_eq!(side.balance, ACCOUNTS.cast_signed() * BALANCE + side.moved, "{self:?}");
        }
        east.transfers
    }
}

impl Side {
    fn read(session: &mut Session) -> Self {
        let row = session.ask_one(
            "select (select sum(balance) from account), coalesce(sum(amount), 0), count(*),
                md5(string_agg(id || ' ' || abs(amount), ' ' order by id)) from transfer",
        );
        let fields: Vec<&str> = row.split('|').collect();
        let [balance, moved, transfers, digest] = fields[..] else { panic!("{row}") };
        let number = |text: &str| text.parse().expect("a number");
        Self {
            balance: number(balance),
            moved: number(moved),
            transfers: transfers.parse().expect("a count"),
            digest: digest.to_owned(),
        }
    }
}

/// Ends what is prepared by the rule, and gives how many were committed and how many rolled back.
fn resolve(sessions: &mut [Session; 2]) -> [u64; 2] {
    let mut counts = [0, 0];
    for side in [0, 1] {
        for id in sessions[side].ask("select gid from pg_prepared_xacts") {
            let noted = sessions[1 - side].ask_one(&format!("select count(*) from transfer where id = {id}"));
            let (verb, count) = if noted == "0" { ("rollback", 1) } else { ("commit", 0) };
            sessions[side].ask(&format!("{verb} prepared '{id}'"));
            counts[count] += 1;
        }
    }
    counts
}
