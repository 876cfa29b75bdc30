//! Who does what is asked: a daemon, or this process with a pool that it opens itself.
//!
//! 1. A socket that was named must have a daemon behind it. Without one, a pool that was named is opened here. With
//!    neither, the daemon at the default socket is asked.
//! 2. What was typed counts more than what the environment says.
//! 3. A pool opened here is closed cleanly even if the work failed, and then it is the work's error that is told.

use std::path::{Path, PathBuf};

use anyhow::Result;
use firn_engine::error::{Error, Kind};
use firn_engine::journal::tail::TailShape;
use firn_engine::pool::{Pool, PoolOptions};

use crate::args::Globals;
use crate::client::{Client, Patience};
use crate::operation::served::Filling;
use crate::operation::{LongOperation, Operation, Served};
use crate::output::Answer;
use crate::runtime;

/// Who does what is asked.
pub(crate) enum Service {
    /// This process.
    Pool(Box<Served>),
    /// A daemon.
    Daemon(Client),
}

/// Who is to be asked, by what was typed and by the environment.
pub(crate) enum Choice<'a> {
    Pool(&'a Path),
    Daemon(PathBuf, Patience),
}

impl Service {
    fn find(globals: &Globals) -> Result<Self, Error> {
        match choose(globals)? {
            Choice::Pool(path) => Ok(Self::Pool(Box::new(open(path, globals)?))),
            Choice::Daemon(socket, patience) => Client::connect(socket, patience).map(Self::Daemon),
        }
    }

    /// Does an operation.
    pub(crate) fn call<O: Operation>(&self, request: O) -> Result<O::View> {
        match self {
            Self::Pool(served) => Ok(request.run(served)?),
            Self::Daemon(client) => client.call(&request),
        }
    }

    /// Does a long operation, and shows `told` what it finds on the way.
    pub(crate) fn long<O: LongOperation>(
        &self,
        request: O,
        mut told: impl FnMut(O::Event) -> Result<(), Error>,
    ) -> Result<O::View> {
        match self {
            Self::Pool(served) => Ok(request.run(served, &mut told)?),
            Self::Daemon(client) => client.long(&request, told),
        }
    }
}

/// Finds who does it, lets `work` use it, and lets go of it.
pub(crate) fn with_service(
    globals: &Globals,
    work: impl FnOnce(&Service) -> Result<Answer>,
) -> Result<Answer> {
    used(Service::find(globals)?, work)
}

/// As [`with_service`], for one that was found already.
pub(crate) fn used(service: Service, work: impl FnOnce(&Service) -> Result<Answer>) -> Result<Answer> {
    let answer = work(&service);
    let closed = match service {
        Service::Pool(served) => served.pool.close(),
        Service::Daemon(_) => Ok(()),
    };
    let answer = answer?;
    closed?;
    Ok(answer)
}

/// Who is to be asked.
pub(crate) fn choose(globals: &Globals) -> Result<Choice<'_>, Error> {
    let typed = globals.typed;
    match (&globals.socket, &globals.pool) {
        (Some(_), Some(_)) if typed.socket && typed.pool => {
            Err(Error::new(Kind::Invalid, "choose a pool", "both --socket and --pool were given")
                .hint("--socket asks the daemon there, --pool opens the pool without one: give one of them"))
        }
        (Some(socket), None) => Ok(Choice::Daemon(socket.clone(), Patience::Named)),
        (Some(socket), Some(_)) if !typed.pool => Ok(Choice::Daemon(socket.clone(), Patience::Named)),
        (_, Some(pool)) => Ok(Choice::Pool(pool)),
        (None, None) => Ok(Choice::Daemon(runtime::default_socket(), Patience::Default)),
    }
}

/// What one command's writes need of shared memory, twice of which (that of a dead process and a new one) fits into
/// the 64 MiB that a container has by default.
const TAIL: TailShape = TailShape { data_slots: 4096, journal_slots: 1024 };

/// How one command opens the pool.
pub(crate) fn options(globals: &Globals) -> PoolOptions {
    PoolOptions { meta: globals.meta.clone(), tail: TAIL, ..PoolOptions::default() }
}

/// The pool that was named.
pub(crate) fn pool_path(globals: &Globals) -> Result<&Path, Error> {
    globals.pool.as_deref().ok_or_else(|| {
        Error::new(Kind::Invalid, "open pool", "no pool was named")
            .hint("give --pool PATH, or set FIRN_POOL to the path")
    })
}

/// Where the metadata of the pool at `path` is.
pub(crate) fn metadata(path: &Path, meta: Option<&Path>) -> PathBuf {
    meta.map_or_else(
        || {
            let mut beside = path.as_os_str().to_owned();
            beside.push(".meta");
            beside.into()
        },
        Path::to_owned,
    )
}

fn open(path: &Path, globals: &Globals) -> Result<Served, Error> {
    let pool = Pool::open(path, &options(globals)).map_err(|error| explain_open(error, path))?;
    Ok(own(pool, path, globals))
}

/// A pool that this process has for one command.
pub(crate) fn own(pool: Pool, path: &Path, globals: &Globals) -> Served {
    let metadata = metadata(path, globals.meta.as_deref());
    Served {
        pool,
        path: path.to_owned(),
        metadata,
        nbd: None,
        state: globals.state.clone(),
        restoring: Filling::default(),
    }
}

/// Says how a pool that is not there is made, and who has one that is locked.
pub(crate) fn explain_open(error: Error, path: &Path) -> Error {
    match error.kind() {
        Kind::NotFound if !path.exists() => {
            error.hint(format!("`firn pool create {} --size 100G` makes a pool there", path.display()))
        }
        Kind::Conflict => match runtime::serving(path) {
            Some(socket) => error.hint(format!(
                "a daemon serves it: ask that one with --socket {}, or stop it first",
                socket.display()
            )),
            None => error,
        },
        _ => error,
    }
}
