//! An S3 bucket as object store, of AWS or of anything that speaks its protocol.
//!
//! Files above a threshold go up in parts, a bounded number at a time; an upload that fails is aborted so that
//! its parts are not paid for. A put is atomic because S3 shows an object only when it is complete. Retries and
//! timeouts are the SDK's own; its errors are folded into [`ObjectError`].

use std::path::Path;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{ByteStream, Length};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use futures_util::{StreamExt, TryStreamExt, stream};
use media::ByteRange;
use tokio_util::io::ReaderStream;

use crate::seams::{BoxFuture, ObjectError, ObjectInfo, ObjectRead, ObjectStore, Payload, check_object_name};

/// How to reach a bucket.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// The bucket.
    pub bucket: String,
    /// Put before every object name, without a slash at its end; may be empty.
    pub prefix: String,
    /// The region; `None` leaves it to the default chain.
    pub region: Option<String>,
    /// The endpoint of a server that is not AWS.
    pub endpoint_url: Option<String>,
    /// Name the bucket in the path instead of the host name.
    pub path_style: bool,
    /// Access key id and secret; `None` leaves them to the default chain.
    pub credentials: Option<(String, String)>,
    /// Files longer than this go up in parts.
    pub multipart_threshold: u64,
    /// Bytes of one part; S3 wants at least 5 MiB and at most 10,000 parts.
    pub part_len: u64,
    /// Parts in flight at once.
    pub parallel_parts: usize,
}

/// The object store.
#[derive(Debug, Clone)]
pub struct S3Store {
    client: Client,
    options: S3Options,
}

impl S3Store {
    /// Prepares a client. No request is made: a wrong bucket shows at the first use.
    pub async fn new(options: S3Options) -> Self {
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12());
        if let Some(region) = &options.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some((id, secret)) = &options.credentials {
            loader = loader.credentials_provider(Credentials::new(id, secret, None, None, "files"));
        }
        let mut config = aws_sdk_s3::config::Builder::from(&loader.load().await);
        config = config.force_path_style(options.path_style);
        if let Some(url) = &options.endpoint_url {
            config = config.endpoint_url(url);
        }
        Self { client: Client::from_conf(config.build()), options }
    }

    fn key(&self, name: &str) -> Result<String, ObjectError> {
        check_object_name(name)?;
        Ok(self.full(name))
    }

    fn full(&self, name: &str) -> String {
        match self.options.prefix.as_str() {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        }
    }

    async fn put_whole(&self, key: &str, body: ByteStream) -> Result<(), ObjectError> {
        let put = self.client.put_object().bucket(&self.options.bucket).key(key).body(body);
        put.send().await.map(drop).map_err(|e| fold(key, &e))
    }

    async fn put_file(&self, key: &str, path: &Path) -> Result<u64, ObjectError> {
        let unreadable =
            |e: &dyn std::fmt::Display| ObjectError::Unavailable(format!("{}: {e}", path.display()));
        let len = tokio::fs::metadata(path).await.map_err(|e| unreadable(&e))?.len();
        if len > self.options.multipart_threshold {
            self.put_parts(key, path, len).await?;
        } else {
            let body = ByteStream::from_path(path).await.map_err(|e| unreadable(&e))?;
            self.put_whole(key, body).await?;
        }
        Ok(len)
    }

    async fn put_parts(&self, key: &str, path: &Path, len: u64) -> Result<(), ObjectError> {
        let create = self.client.create_multipart_upload().bucket(&self.options.bucket).key(key);
        let created = create.send().await.map_err(|e| fold(key, &e))?;
        let upload =
            created.upload_id().ok_or_else(|| ObjectError::Unavailable(format!("{key}: no upload id")))?;
        let done = self.upload_parts(key, upload, path, len).await;
        if done.is_err() {
            let abort = self.client.abort_multipart_upload().bucket(&self.options.bucket).key(key);
            if let Err(error) = abort.upload_id(upload).send().await {
                let detail = fold(key, &error).to_string();
                tracing::warn!(
                    key,
                    upload,
                    detail,
                    "an unfinished upload could not be aborted: its parts cost money"
                );
            }
        }
        done
    }

    async fn upload_parts(&self, key: &str, upload: &str, path: &Path, len: u64) -> Result<(), ObjectError> {
        // More than 10,000 parts are refused, so very long files get longer parts.
        let part_len = self.options.part_len.max(len.div_ceil(10_000));
        let starts = (1..).zip((0..len).step_by(usize::try_from(part_len).unwrap_or(usize::MAX)));
        let parts = starts.map(|(number, start)| async move {
            let range = (start, part_len.min(len - start));
            self.upload_part(key, upload, path, number, range).await
        });
        let parts: Vec<CompletedPart> =
            stream::iter(parts).buffered(self.options.parallel_parts).try_collect().await?;
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let complete = self.client.complete_multipart_upload().bucket(&self.options.bucket).key(key);
        let complete = complete.upload_id(upload).multipart_upload(parts);
        complete.send().await.map(drop).map_err(|e| fold(key, &e))
    }

    async fn upload_part(
        &self,
        key: &str,
        upload: &str,
        path: &Path,
        number: i32,
        (start, len): (u64, u64),
    ) -> Result<CompletedPart, ObjectError> {
        let body = ByteStream::read_from().path(path).offset(start).length(Length::Exact(len)).build().await;
        let body = body.map_err(|e| ObjectError::Unavailable(format!("{}: {e}", path.display())))?;
        let part = self.client.upload_part().bucket(&self.options.bucket).key(key).upload_id(upload);
        let sent = part.part_number(number).body(body).send().await.map_err(|e| fold(key, &e))?;
        Ok(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).build())
    }

    async fn list_all(&self, prefix: &str) -> Result<Vec<ObjectInfo>, ObjectError> {
        let full = self.full(prefix);
        let list = self.client.list_objects_v2().bucket(&self.options.bucket).prefix(&full);
        let mut pages = list.into_paginator().send();
        let mut found = Vec::new();
        let strip = self.full("").len();
        while let Some(page) = pages.try_next().await.map_err(|e| fold(&full, &e))? {
            for object in page.contents.unwrap_or_default() {
                let name = object.key.as_deref().and_then(|key| key.get(strip..)).unwrap_or_default();
                // Whatever else lies in the bucket under names we would not give is not ours to see.
                if check_object_name(name).is_ok() {
                    let len = object.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
                    found.push(ObjectInfo { name: name.to_owned(), len });
                }
            }
        }
        Ok(found)
    }
}

impl ObjectStore for S3Store {
    fn put<'a>(&'a self, name: &'a str, payload: Payload) -> BoxFuture<'a, Result<u64, ObjectError>> {
        Box::pin(async move {
            let key = self.key(name)?;
            match payload {
                Payload::File(path) => self.put_file(&key, &path).await,
                Payload::Bytes(bytes) => {
                    let len = bytes.len() as u64;
                    self.put_whole(&key, ByteStream::from(bytes)).await.map(|()| len)
                }
            }
        })
    }

    fn read<'a>(
        &'a self,
        name: &'a str,
        range: Option<ByteRange>,
    ) -> BoxFuture<'a, Result<ObjectRead, ObjectError>> {
        Box::pin(async move {
            let key = self.key(name)?;
            let get = self.client.get_object().bucket(&self.options.bucket).key(&key);
            let got = get.set_range(range.map(ByteRange::header)).send().await.map_err(|e| fold(name, &e))?;
            let len = got.content_length.and_then(|len| u64::try_from(len).ok()).unwrap_or(0);
            // S3 shortens a range that begins inside and ends outside; for us that is a mistake.
            if range.is_some_and(|range| range.len() != len) {
                return Err(ObjectError::Range(name.to_owned()));
            }
            let version = got.e_tag.unwrap_or_default();
            let body = ReaderStream::with_capacity(got.body.into_async_read(), 128 * 1024);
            Ok(ObjectRead {
                len,
                version,
                body: Box::pin(body.map_err(|e| ObjectError::Unavailable(e.to_string()))),
            })
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ObjectInfo>, ObjectError>> {
        Box::pin(self.list_all(prefix))
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ObjectError>> {
        Box::pin(async move {
            let key = self.key(name)?;
            let delete = self.client.delete_object().bucket(&self.options.bucket).key(&key);
            delete.send().await.map(drop).map_err(|e| fold(name, &e))
        })
    }
}

/// Folds an SDK error into ours by its HTTP status; the code and message stay in the text.
fn fold<E>(name: &str, error: &SdkError<E>) -> ObjectError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.code().map(str::to_owned);
    // A missing bucket is a mistake in the configuration, not a missing object.
    let no_bucket = code.as_deref() == Some("NoSuchBucket");
    let text = aws_sdk_s3::error::DisplayErrorContext(error);
    match status {
        Some(404) if !no_bucket => ObjectError::NotFound(name.to_owned()),
        Some(416) => ObjectError::Range(name.to_owned()),
        Some(401 | 403) => ObjectError::Refused(format!("{name}: {text}")),
        _ => ObjectError::Unavailable(format!("{name}: {text}")),
    }
}
