//! What went wrong with a request, in words that help.

use std::error::Error as StdError;
use std::fmt::{self, Display};

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::error::{Error, Kind};

/// A request that failed, as far as its reply says.
#[derive(Debug)]
pub(super) struct Failure {
    /// The reply's status; none when there was no reply.
    status: Option<u16>,
    /// The service's code for it, such as `NoSuchKey`; may be empty.
    code: String,
    message: String,
    kind: Kind,
    hint: Option<&'static str>,
}

impl<E> From<SdkError<E, HttpResponse>> for Failure
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        match &error {
            SdkError::ServiceError(context) => {
                let (status, meta) = (context.raw().status().as_u16(), context.err().meta());
                let code = meta.code().unwrap_or_default().to_owned();
                let (kind, hint) = classify(status, &code);
                let message = match (code.as_str(), meta.message()) {
                    ("", None) => format!("status {status}"),
                    (code, None) => format!("{code} (status {status})"),
                    (code, Some(message)) => format!("{code}: {message}"),
                };
                Self { status: Some(status), code, message, kind, hint }
            }
            // A reply that could not be understood, such as one that was cut short.
            SdkError::ResponseError(context) => {
                let status = Some(context.raw().status().as_u16());
                let message = format!("the reply makes no sense: {}", root_cause(&error));
                Self { status, code: String::new(), message, kind: Kind::Retry, hint: Some(SILENT) }
            }
            SdkError::TimeoutError(_) => Self::without_reply(Kind::Retry, "no answer in time".into(), SILENT),
            SdkError::DispatchFailure(_) => Self::of_dispatch(&error, Kind::Retry),
            _ => Self::of_dispatch(&error, Kind::Invalid),
        }
    }
}

impl Failure {
    fn without_reply(kind: Kind, message: String, hint: &'static str) -> Self {
        Self { status: None, code: String::new(), message, kind, hint: Some(hint) }
    }

    /// A body that ended too early or too late.
    pub(super) fn of_body(error: &dyn Display) -> Self {
        Self::without_reply(Kind::Retry, format!("the transfer broke off: {error}"), SILENT)
    }

    /// A request that never became one: no credentials, no connection, or a setting that can't be.
    fn of_dispatch(error: &(dyn StdError + 'static), otherwise: Kind) -> Self {
        let causes = chain(error);
        let cause = causes.last().cloned().unwrap_or_default();
        if causes.iter().any(|cause| cause.to_ascii_lowercase().contains("credential")) {
            return Self::without_reply(Kind::Unavailable, format!("no credentials: {cause}"), CREDENTIALS);
        }
        if is_distrust(error) {
            return Self::without_reply(Kind::Unavailable, cause, DISTRUST);
        }
        Self::without_reply(otherwise, cause, SILENT)
    }

    /// The object, version or upload is not there.
    pub(super) fn is_absent(&self) -> bool {
        self.kind == Kind::NotFound
    }

    /// A condition of the request did not hold.
    pub(super) fn is_condition(&self) -> bool {
        self.status == Some(412)
    }

    /// The same request may succeed later, or has succeeded already.
    pub(super) fn is_transient(&self) -> bool {
        self.kind == Kind::Retry
    }

    /// The request was refused: for want of a right, or by a lock.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self.status, Some(400 | 403 | 409))
    }

    /// The range begins behind the object's end.
    pub(super) fn is_range(&self) -> bool {
        self.status == Some(416)
    }

    /// The object or bucket has no lock.
    pub(super) fn is_unlocked(&self) -> bool {
        matches!(
            self.code.as_str(),
            "NoSuchObjectLockConfiguration"
                | "ObjectLockConfigurationNotFoundError"
                | "ObjectLockConfigurationNotFound"
        )
    }

    /// The service said yes, and then something that is no answer to this request.
    pub(super) fn is_senseless(&self) -> bool {
        self.code.is_empty() && matches!(self.status, Some(200..=299))
    }

    /// The service does not know such requests.
    pub(super) fn is_not_implemented(&self) -> bool {
        self.status == Some(501) || matches!(self.code.as_str(), "NotImplemented" | "MethodNotAllowed")
    }

    /// It as an error while doing `operation` to `subject`.
    pub(super) fn error(self, operation: &'static str, subject: &impl Display) -> Error {
        let error = Error::new(self.kind, operation, format!("{subject}: {}", self.message));
        match self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

const SILENT: &str = "the service does not answer as it should: are endpoint and network right?";
const DISTRUST: &str =
    "is the endpoint https, and its certificate one that this machine trusts? SSL_CERT_FILE adds others";
const CREDENTIALS: &str =
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the machine a role";
const DENIED: &str = "the user lacks a right: docs/operations.md lists the rights that firn needs";

/// What the caller and the user can do about a reply.
fn classify(status: u16, code: &str) -> (Kind, Option<&'static str>) {
    let (kind, hint) = match code {
        "NoSuchBucket" => {
            (Kind::Unavailable, "there is no such bucket there: create it, or look at the address")
        }
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidToken"
        | "TokenRefreshRequired" => (Kind::Unavailable, CREDENTIALS),
        "RequestTimeTooSkewed" => {
            (Kind::Unavailable, "set this machine's clock: it is minutes away from the service's")
        }
        "PermanentRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException"
        | "TemporaryRedirect" => {
            (Kind::Unavailable, "the bucket is in another region: add region=NAME to the address")
        }
        "InvalidObjectState" => {
            (Kind::Unavailable, "the object is archived: restore it to a class that can be read")
        }
        "QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage" => {
            (Kind::OutOfSpace, "raise the quota, or free room in the service")
        }
        "EntityTooLarge" => (Kind::Invalid, "the service takes no object of this size"),
        // Said with status 200 when an upload is completed, and with 400.
        "InternalError" | "SlowDown" | "ServiceUnavailable" | "RequestTimeout" => (Kind::Retry, SILENT),
        "BadDigest" => (Kind::Retry, "the body was damaged on its way"),
        "NoSuchKey" | "NoSuchVersion" | "NoSuchUpload" | "NotFound" => return (Kind::NotFound, None),
        _ => return classify_status(status),
    };
    (kind, Some(hint))
}

fn classify_status(status: u16) -> (Kind, Option<&'static str>) {
    match status {
        404 => (Kind::NotFound, None),
        301 | 307 | 308 => {
            (Kind::Unavailable, Some("the bucket is in another region: add region=NAME to the address"))
        }
        401 | 403 => (Kind::Unavailable, Some(DENIED)),
        507 => (Kind::OutOfSpace, Some("raise the quota, or free room in the service")),
        // 501 will be said the next time as well.
        408 | 409 | 425 | 429 | 500 | 502..=599 => (Kind::Retry, Some(SILENT)),
        412 => (Kind::Conflict, None),
        _ => (Kind::Unavailable, None),
    }
}

/// Whether the service's end of TLS was refused, and not just cut off.
fn is_distrust(error: &(dyn StdError + 'static)) -> bool {
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage, NoCertificatesPresented};
    if let Some(tls) = error.downcast_ref() {
        return matches!(
            tls,
            AlertReceived(_) | InvalidCertificate(_) | InvalidMessage(_) | NoCertificatesPresented
        );
    }
    // What an I/O error holds is not its source.
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inner) => is_distrust(inner),
        None => error.source().is_some_and(is_distrust),
    }
}

/// The messages of an error and those beneath it.
fn chain(error: &dyn StdError) -> Vec<String> {
    let mut messages = vec![error.to_string()];
    let mut next = error.source();
    while let Some(error) = next {
        messages.push(error.to_string());
        next = error.source();
    }
    messages
}

fn root_cause(error: &dyn StdError) -> String {
    chain(error).pop().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_says_has_a_kind_and_mostly_a_next_step() {
        for (status, code, kind, step) in [
            (404, "NoSuchKey", Kind::NotFound, ""),
            (404, "", Kind::NotFound, ""),
            (404, "NoSuchBucket", Kind::Unavailable, "no such bucket"),
            (403, "AccessDenied", Kind::Unavailable, "right"),
            (403, "RequestTimeTooSkewed", Kind::Unavailable, "clock"),
            (400, "ExpiredToken", Kind::Unavailable, "AWS_ACCESS_KEY_ID"),
            (301, "PermanentRedirect", Kind::Unavailable, "region"),
            (400, "AuthorizationHeaderMalformed", Kind::Unavailable, "region"),
            (403, "InvalidObjectState", Kind::Unavailable, "archived"),
            (403, "QuotaExceeded", Kind::OutOfSpace, "quota"),
            (507, "", Kind::OutOfSpace, "quota"),
            (400, "EntityTooLarge", Kind::Invalid, "size"),
            (400, "RequestTimeout", Kind::Retry, "answer"),
            (200, "InternalError", Kind::Retry, "answer"),
            (409, "ConditionalRequestConflict", Kind::Retry, "answer"),
            (503, "SlowDown", Kind::Retry, "answer"),
            (502, "", Kind::Retry, "answer"),
            (501, "NotImplemented", Kind::Unavailable, ""),
            (412, "PreconditionFailed", Kind::Conflict, ""),
        ] {
            let (found, hint) = classify(status, code);
            assert_eq!(found, kind, "{status} {code}");
            assert!(hint.unwrap_or_default().contains(step), "{status} {code}: {hint:?}");
        }
    }
}
