//! Whether the service keeps what its interface promises of conditional requests. It is tried, for what is ignored is
//! not reported.

use firn_engine::sys::random_bytes;

use super::S3Store;
use super::body::Body;
use super::failure::Failure;
use super::put::Creation;
use crate::error::Result;

/// What is put in a bucket with versions, conditionally. No key starts with a dot.
const PUT_TRIAL: &str = ".conditional-put";
/// Where it is tried whether uploads are completed conditionally.
const PARTS_TRIAL: &str = ".conditional-parts";

/// What a trial of conditional puts found, and left.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trial {
    /// A put over an object is refused if it should be.
    pub(super) is_honoured: bool,
    /// It put the object there that the next trial finds.
    pub(super) has_left: bool,
}

impl S3Store {
    /// Whether a put over an object is refused if it should be, in a bucket with versions. Where it is, the trial stays
    /// behind, and one request answers the next time.
    pub(super) async fn try_conditions(&self) -> Result<Trial> {
        let object = self.object_prefix(PUT_TRIAL);
        for has_left in [false, true] {
            let body = Body::from(b"firn tries whether puts are conditional\n".as_slice()).whole();
            let request = self.client().put_object().bucket(self.bucket()).key(&object).if_none_match("*");
            match request.content_md5(body.md5()?).body(body.stream()).send().await.map_err(Failure::from) {
                Ok(_) => {}
                Err(failure) if failure.is_condition() => return Ok(Trial { is_honoured: true, has_left }),
                // Who may only read takes the first version, which is right either way.
                Err(failure) if failure.is_refusal() => return Ok(Trial { is_honoured: false, has_left }),
                Err(failure) => return Err(failure.error("try conditional put", &PUT_TRIAL)),
            }
        }
        self.remove_trial().await?;
        Ok(Trial::default())
    }

    /// Removes what a trial of conditional puts left.
    pub(super) async fn remove_trial(&self) -> Result<()> {
        self.remove_object(PUT_TRIAL, &self.object_prefix(PUT_TRIAL), false).await
    }

    /// Whether the service refuses to complete an upload over an object that is there. Some ignore the condition, and
    /// two writers would both be told that theirs is the object. Tried once, with a name of no key.
    pub(super) async fn completes_conditionally(&self) -> Result<bool> {
        if let Some(known) = self.conditional_parts.get() {
            return Ok(*known);
        }
        let operation = "try upload in parts";
        let name = format!("{PARTS_TRIAL}-{:032x}", u128::from_le_bytes(random_bytes()?));
        let object = self.object_prefix(&name);
        let body = Body::from(b"x".as_slice());
        let creation = Creation { object: &object, body: &body, retention: None, mark: name.clone() };
        let put = self.client().put_object().bucket(self.bucket()).key(&object).body(body.whole().stream());
        put.send().await.map_err(|error| Failure::from(error).error(operation, &name))?;
        let tried = match self.send_parts(&creation).await {
            Ok(()) => Ok(false),
            Err(failure) if failure.is_condition() => Ok(true),
            // It knows no such uploads, or not with a condition.
            Err(failure) if failure.is_not_implemented() => Ok(false),
            Err(failure) => Err(failure.error(operation, &name)),
        };
        self.remove_object(&name, &object, false).await?;
        let tried = tried?;
        Ok(*self.conditional_parts.get_or_init(|| tried))
    }
}
