//! Objects from S3 or anything that speaks its protocol.

use std::error::Error;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    RequestChecksumCalculation, ResponseChecksumValidation, SharedCredentialsProvider,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::primitives::ByteStream as S3Body;
use futures_util::stream;
use sourcing::{BoxFuture, Opened, Reason, Source, SourceError, SourceId, SourceKind, Want};

use super::answer::{Answer, checked_name, exact, fault, judge, refusal};
use super::refusal::{Cause, Complaints, Facts, cause, retry_after, skew};

/// How the bucket is reached.
#[derive(Debug, Clone)]
pub(crate) struct S3Options {
    pub(crate) bucket: String,
    /// Put before every object name; empty or ending in `/`.
    pub(crate) prefix: String,
    pub(crate) region: String,
    /// Another server than AWS's.
    pub(crate) endpoint_url: Option<String>,
    /// The bucket in the path instead of the host name.
    pub(crate) path_style: bool,
    pub(crate) connect_timeout: Duration,
    /// Who we are; `None` for the SDK's default chain (environment, profile, container, instance).
    pub(crate) credentials: Option<SharedCredentialsProvider>,
}

/// A bucket: `<prefix><title>/<package>/<object>`.
///
/// The SDK is kept from deciding anything that `sourcing` decides: it does not retry, it has no deadlines
/// beyond the connection's, and it does not watch for stalls. Checksums are validated only where S3 insists:
/// ranged answers have none, and every byte is verified against the signed index anyway.
pub(crate) struct S3Source {
    id: SourceId,
    bucket: String,
    prefix: String,
    now: fn() -> u64,
    complaints: Complaints,
    client: Client,
}

impl S3Source {
    pub(crate) async fn new(
        id: SourceId,
        options: S3Options,
        now: fn() -> u64,
        complaints: Complaints,
    ) -> Self {
        let timeouts = TimeoutConfig::builder().connect_timeout(options.connect_timeout).build();
        let mut shared = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(options.region))
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Some(credentials) = options.credentials {
            shared = shared.credentials_provider(credentials);
        }
        if let Some(url) = options.endpoint_url {
            shared = shared.endpoint_url(url);
        }
        let config = aws_sdk_s3::config::Builder::from(&shared.load().await)
            .force_path_style(options.path_style)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        let client = Client::from_conf(config.build());
        Self { id, bucket: options.bucket, prefix: options.prefix, now, complaints, client }
    }

    /// For tests that fill the bucket.
    #[cfg(test)]
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    async fn transfer(&self, want: &Want) -> Result<Opened, SourceError> {
        let key = format!("{}{}", self.prefix, checked_name(&want.object)?);
        let get = self.client.get_object().bucket(&self.bucket).key(key);
        let get = get.set_range(want.range.map(media::ByteRange::header));
        let output = get.send().await.map_err(|error| self.told(&error))?;
        let content_range = output.content_range();
        let length = output.content_length().and_then(|length| u64::try_from(length).ok());
        let len = judge(&Answer { partial: content_range.is_some(), length, content_range }, want)?;
        let chunks = stream::try_unfold(output.body, |mut body: S3Body| async move {
            match body.next().await {
                None => Ok(None),
                Some(Ok(chunk)) => Ok(Some((chunk, body))),
                Some(Err(error)) => Err(fault(Reason::Cut, DisplayErrorContext(error))),
            }
        });
        Ok(Opened { len, body: exact(len, chunks) })
    }
}

impl Source for S3Source {
    fn id(&self) -> &SourceId {
        &self.id
    }

    fn kind(&self) -> SourceKind {
        SourceKind::S3
    }

    fn open<'a>(&'a self, want: &'a Want) -> BoxFuture<'a, Result<Opened, SourceError>> {
        Box::pin(self.transfer(want))
    }
}

impl S3Source {
    fn told(&self, error: &SdkError<GetObjectError>) -> SourceError {
        let (reason, now) = (why(error), (self.now)());
        let header = |name: &str| error.raw_response().and_then(|response| response.headers().get(name));
        if reason != Reason::Refused {
            let pause = header("retry-after").and_then(|text| retry_after(text, now));
            return pause.into_iter().fold(fault(reason, describe(error)), SourceError::after);
        }
        let status = error.raw_response().map_or(0, |response| response.status().as_u16());
        let (code, skew) = (error.code(), header("date").and_then(|date| skew(date, now)));
        let says_expired = error.message().is_some_and(|message| message.contains("has expired"));
        let facts = Facts { status, code, says_expired, skew };
        let cause = if lacks_credentials(error) { Cause::Credentials } else { cause(&facts) };
        self.complaints.refuse(cause, &describe(error))
    }
}

/// Whether the SDK found nobody to sign as. It has no type for that which its clients could name without a further
/// crate, but whatever its providers say, they say it of credentials, and before anything is sent.
fn lacks_credentials(error: &SdkError<GetObjectError>) -> bool {
    let unsent = match error {
        SdkError::DispatchFailure(failure) => !failure.is_io() && !failure.is_timeout(),
        SdkError::ConstructionFailure(_) => true,
        _ => false,
    };
    unsent && describe(error).contains("credential")
}

fn why(error: &SdkError<GetObjectError>) -> Reason {
    match error {
        error if lacks_credentials(error) => Reason::Refused,
        SdkError::TimeoutError(_) => Reason::Timeout,
        SdkError::DispatchFailure(failure) if failure.is_timeout() => Reason::Timeout,
        SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => Reason::Unavailable,
        SdkError::ServiceError(context) => reason(context.err().code(), context.raw().status().as_u16()),
        // An impossible endpoint: nothing that asking again would change.
        _ => Reason::Refused,
    }
}

/// What an S3 error means; its code says more than its status.
fn reason(code: Option<&str>, status: u16) -> Reason {
    match code {
        Some("NoSuchKey") => Reason::NotFound,
        // Nothing of this bucket will ever be found: not the object's fault but the configuration's.
        Some("NoSuchBucket" | "PermanentRedirect" | "InvalidObjectState") => Reason::Refused,
        Some("SlowDown" | "RequestLimitExceeded" | "Throttling" | "TooManyRequests") => Reason::Throttled,
        Some("ExpiredToken" | "TokenRefreshRequired" | "InvalidToken") => Reason::Refused,
        Some("InvalidRange") => Reason::Changed,
        Some("RequestTimeout") => Reason::Timeout,
        _ => refusal(status),
    }
}

fn describe(error: &SdkError<GetObjectError>) -> String {
    let code = error.code().map(|code| format!("{code}: ")).unwrap_or_default();
    let source = error.source().map(|source| DisplayErrorContext(source).to_string()).unwrap_or_default();
    format!("{code}{}", error.message().unwrap_or(&source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_errors_mean_what_they_mean() {
        for (code, status, expected) in [
            (Some("NoSuchKey"), 404, Reason::NotFound),
            (Some("NoSuchBucket"), 404, Reason::Refused),
            (Some("SlowDown"), 503, Reason::Throttled),
            (None, 503, Reason::Throttled),
            (Some("InternalError"), 500, Reason::Unavailable),
            (Some("AccessDenied"), 403, Reason::Refused),
            (Some("InvalidObjectState"), 403, Reason::Refused),
            (Some("InvalidRange"), 416, Reason::Changed),
            (Some("RequestTimeout"), 400, Reason::Timeout),
            (Some("NotFound"), 404, Reason::NotFound),
            (None, 301, Reason::Refused),
        ] {
            assert_eq!(reason(code, status), expected, "{code:?} {status}");
        }
    }
}
