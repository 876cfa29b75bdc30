//! Large bodies, sent in parts. The object appears when the parts are put together, conditionally where the service
//! can do that; where it can't, large bodies are sent whole, and so are those with a lock.

use std::sync::Arc;

use aws_sdk_s3::config::Config;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use tokio::task::JoinSet;

use super::S3Store;
use super::body::{Body, Part};
use super::failure::Failure;
use super::put::{Creation, MARK};

/// Parts that an upload has at most.
const PARTS_MAX: u64 = 10_000;

/// An upload that was begun.
struct Upload {
    object: Arc<str>,
    id: Arc<str>,
}

impl S3Store {
    /// Sends a body in parts and puts them together unless something is there. What fails leaves no parts behind, as
    /// far as the service can be told.
    pub(super) async fn send_parts(&self, creation: &Creation<'_>) -> std::result::Result<(), Failure> {
        let upload = self.begin(creation).await?;
        let completed = match self.upload_parts(&upload, creation.body).await {
            Ok(parts) => self.complete(&upload, parts).await,
            Err(failure) => Err(failure),
        };
        if completed.is_err() {
            let request = self.client().abort_multipart_upload().bucket(self.bucket());
            // An upload that stays is invisible, and ended by the bucket's lifecycle rule.
            let _ = request.key(&*upload.object).upload_id(&*upload.id).send().await;
        }
        completed
    }

    async fn begin(&self, creation: &Creation<'_>) -> std::result::Result<Upload, Failure> {
        let request = self.client().create_multipart_upload().bucket(self.bucket()).key(creation.object);
        let reply = request.metadata(MARK, &creation.mark).send().await?;
        match reply.upload_id() {
            Some(id) => Ok(Upload { object: creation.object.into(), id: id.into() }),
            None => Err(Failure::of_body(&"the upload has no name")),
        }
    }

    async fn upload_parts(
        &self,
        upload: &Upload,
        body: &Body,
    ) -> std::result::Result<Vec<CompletedPart>, Failure> {
        let bytes = body.bytes();
        let part_bytes = self.limits.part_bytes.max(bytes.div_ceil(PARTS_MAX)).max(1);
        let mut offsets = (0..bytes).step_by(usize::try_from(part_bytes).unwrap_or(usize::MAX)).zip(1..);
        let mut sending = JoinSet::new();
        let mut parts = Vec::new();
        loop {
            while sending.len() < self.limits.parts_in_flight.max(1)
                && let Some((offset, number)) = offsets.next()
            {
                let part = body.part(offset, part_bytes.min(bytes - offset));
                sending.spawn(self.upload_part(upload, part, number)?);
            }
            match sending.join_next().await {
                Some(Ok(part)) => parts.push(part?),
                Some(Err(error)) => return Err(Failure::of_body(&error)),
                None => break,
            }
        }
        parts.sort_unstable_by_key(CompletedPart::part_number);
        Ok(parts)
    }

    /// The sending of one part. The client repeats it: a part may be sent any number of times.
    fn upload_part(
        &self,
        upload: &Upload,
        part: Part,
        number: i32,
    ) -> std::result::Result<impl Future<Output = std::result::Result<CompletedPart, Failure>> + use<>, Failure>
    {
        let md5 = part.md5().map_err(|error| Failure::of_body(&error))?;
        let request = self.client().upload_part().bucket(self.bucket()).key(&*upload.object);
        let request = request.upload_id(&*upload.id).part_number(number).content_md5(md5);
        let request = request.content_length(i64::try_from(part.bytes()).unwrap_or(i64::MAX));
        let timeouts = Config::builder().timeout_config(self.timeouts(part.bytes()));
        let request = request.body(part.stream()).customize().config_override(timeouts);
        Ok(async move {
            let reply = request.send().await?;
            let done = CompletedPart::builder().part_number(number);
            Ok(done.set_e_tag(reply.e_tag().map(str::to_owned)).build())
        })
    }

    async fn complete(&self, upload: &Upload, parts: Vec<CompletedPart>) -> std::result::Result<(), Failure> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self.client().complete_multipart_upload().bucket(self.bucket()).key(&*upload.object);
        let request = request.upload_id(&*upload.id).multipart_upload(parts).if_none_match("*");
        // Services put the parts together before they answer, so this takes as long as a large transfer may.
        let once = self.once(self.limits.multipart_min_bytes);
        request.customize().config_override(once).send().await?;
        Ok(())
    }
}
