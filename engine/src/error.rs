//! The engine's one error type: a kind that tells the caller what to do, what was being done to what, and why.

use std::error::Error as StdError;
use std::fmt;

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The same call may succeed later: something is busy or still starting.
    Retry,
    /// The call can never succeed as it was made.
    Invalid,
    /// There is no such pool, volume, snapshot or group.
    NotFound,
    /// The call contradicts the present state (a name is taken, a snapshot is held).
    Conflict,
    /// What was read is not what was written. Nothing wrong was returned.
    Damaged,
    /// The pool or its device does not take this work now (read-only after a failed write, closed).
    Unavailable,
    /// There is no room left.
    OutOfSpace,
    /// Our own fault.
    Bug,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Retry => "try again",
            Kind::Invalid => "invalid request",
            Kind::NotFound => "not found",
            Kind::Conflict => "conflict",
            Kind::Damaged => "damaged data",
            Kind::Unavailable => "unavailable",
            Kind::OutOfSpace => "out of space",
            Kind::Bug => "bug",
        })
    }
}

/// An error of the engine. It is cheap to clone, because one failure of the device may answer many requests.
#[derive(Clone)]
pub struct Error(std::sync::Arc<Inner>);

struct Inner {
    kind: Kind,
    operation: &'static str,
    detail: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The engine's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind` while doing `operation` (a verb phrase such as "open pool"), with values in `detail`.
    pub fn new(kind: Kind, operation: &'static str, detail: impl Into<String>) -> Self {
        Self(std::sync::Arc::new(Inner { kind, operation, detail: detail.into(), hint: None, source: None }))
    }

    /// The same error with what the user can do next.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        let hint = Some(hint.into());
        Self(std::sync::Arc::new(match std::sync::Arc::try_unwrap(self.0) {
            Ok(inner) => Inner { hint, ..inner },
            Err(shared) => Inner {
                kind: shared.kind,
                operation: shared.operation,
                detail: shared.detail.clone(),
                hint,
                source: None,
            },
        }))
    }

    /// The same error with the error that caused it.
    #[must_use]
    pub fn source(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let source = Some(source.into());
        Self(std::sync::Arc::new(match std::sync::Arc::try_unwrap(self.0) {
            Ok(inner) => Inner { source, ..inner },
            Err(shared) => Inner {
                kind: shared.kind,
                operation: shared.operation,
                detail: shared.detail.clone(),
                hint: shared.hint.clone(),
                source,
            },
        }))
    }

    /// An operating-system error while doing `operation` to `subject`; a full file system is [`Kind::OutOfSpace`].
    pub fn io(operation: &'static str, subject: impl fmt::Display, source: std::io::Error) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Kind::OutOfSpace,
            std::io::ErrorKind::NotFound => Kind::NotFound,
            std::io::ErrorKind::WouldBlock => Kind::Retry,
            _ => Kind::Unavailable,
        };
        Self::new(kind, operation, subject.to_string()).source(source)
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What the user can do next, where we know.
    pub fn next_step(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.operation, self.0.detail)?;
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
