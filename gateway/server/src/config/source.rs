//! The `[[source]]` tables: where bytes are bought and at what price.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use serde::{Deserialize, Serialize};
use sourcing::account::Deal;
use sourcing::{Price, SourceId};
use store::ByteSize;

use super::price::price;
use super::{UsdPerGb, UsdPerRequest};

/// One source; `kind` says which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum SourceConfig {
    /// A directory of packages.
    Directory(DirectoryConfig),
    /// A bucket.
    S3(S3Config),
    /// An HTTP origin.
    Http(HttpConfig),
}

/// `kind = "directory"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DirectoryConfig {
    /// What it is called.
    pub(crate) id: SourceId,
    /// The directory.
    pub(crate) path: PathBuf,
    /// Price of the bytes; default 0.
    #[serde(default)]
    pub(crate) usd_per_gb: UsdPerGb,
    /// Price of a request; default 0.
    #[serde(default)]
    pub(crate) usd_per_request: UsdPerRequest,
    /// Prices of the sheet instead; default none.
    #[serde(default)]
    pub(crate) tariff: Option<Deal>,
    /// Bytes of one read; default 256 KiB.
    #[serde(default = "read_size")]
    pub(crate) read_size: ByteSize,
}

fn read_size() -> ByteSize {
    ByteSize::from(256 * 1024)
}

/// `kind = "s3"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct S3Config {
    /// What it is called.
    pub(crate) id: SourceId,
    /// The bucket.
    pub(crate) bucket: String,
    /// The bucket's region.
    pub(crate) region: String,
    /// Put before every object name, ending in `/`; default none.
    #[serde(default)]
    pub(crate) prefix: String,
    /// Another server than AWS's; default none.
    #[serde(default)]
    pub(crate) endpoint_url: Option<String>,
    /// The bucket in the path instead of the host name; default false.
    #[serde(default)]
    pub(crate) path_style: bool,
    /// A file with the access key's id; default the SDK's chain (environment, profile, container, instance).
    #[serde(default)]
    pub(crate) access_key_file: Option<PathBuf>,
    /// A file with its secret; with `access_key_file` or not at all.
    #[serde(default)]
    pub(crate) secret_key_file: Option<PathBuf>,
    /// Price of the bytes; default 0.
    #[serde(default)]
    pub(crate) usd_per_gb: UsdPerGb,
    /// Price of a request; default 0.
    #[serde(default)]
    pub(crate) usd_per_request: UsdPerRequest,
    /// Prices of the sheet instead; default none.
    #[serde(default)]
    pub(crate) tariff: Option<Deal>,
    /// Longest wait for a connection; default 2 s.
    #[serde(default = "connect_timeout", with = "media::human_duration")]
    pub(crate) connect_timeout: Duration,
}

fn connect_timeout() -> Duration {
    Duration::from_secs(2)
}

/// `kind = "http"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpConfig {
    /// What it is called.
    pub(crate) id: SourceId,
    /// What every object name is put after: `https://d111111abcdef8.cloudfront.net/packages`.
    pub(crate) url: String,
    /// Certificates to trust instead of the machine's own, in PEM; default none.
    #[serde(default)]
    pub(crate) ca_file: Option<PathBuf>,
    /// Headers for every request: the name, and the file that holds the value (it may be a secret).
    #[serde(default)]
    pub(crate) header_files: BTreeMap<String, PathBuf>,
    /// Signed URLs; default none.
    #[serde(default)]
    pub(crate) cloudfront: Option<CloudFrontConfig>,
    /// Price of the bytes; default 0.
    #[serde(default)]
    pub(crate) usd_per_gb: UsdPerGb,
    /// Price of a request; default 0.
    #[serde(default)]
    pub(crate) usd_per_request: UsdPerRequest,
    /// Prices of the sheet instead; default none.
    #[serde(default)]
    pub(crate) tariff: Option<Deal>,
    /// Longest wait for a connection; default 2 s.
    #[serde(default = "connect_timeout", with = "media::human_duration")]
    pub(crate) connect_timeout: Duration,
    /// Idle connections kept; default 64.
    #[serde(default = "max_idle_connections")]
    pub(crate) max_idle_connections: usize,
    /// How long they are kept; default 60 s. CloudFront closes them after about a minute.
    #[serde(default = "idle_timeout", with = "media::human_duration")]
    pub(crate) idle_timeout: Duration,
}

fn max_idle_connections() -> usize {
    64
}

fn idle_timeout() -> Duration {
    Duration::from_secs(60)
}

/// `[source.cloudfront]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CloudFrontConfig {
    /// The id of the public key in CloudFront.
    pub(crate) key_pair_id: String,
    /// The private key in PEM, RSA or ECDSA P-256.
    pub(crate) private_key: PathBuf,
    /// Keys that take over at a moment; none by default.
    #[serde(default)]
    pub(crate) later_key: Vec<LaterKey>,
    /// `wildcard` (the default) or `canned`.
    #[serde(default)]
    pub(crate) policy: SigningPolicy,
    /// How long a signature is good for; default 1 h.
    #[serde(default = "lifetime", with = "media::human_duration")]
    pub(crate) lifetime: Duration,
    /// The network it is good for, in CIDR form; only with `wildcard`, default none.
    #[serde(default)]
    pub(crate) source_ip: Option<String>,
}

fn lifetime() -> Duration {
    Duration::from_secs(3_600)
}

/// `[[source.cloudfront.later_key]]`: the newest key that is valid signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LaterKey {
    /// The id of the public key in CloudFront.
    pub(crate) key_pair_id: String,
    /// The private key in PEM, RSA or ECDSA P-256.
    pub(crate) private_key: PathBuf,
    /// From when it signs, like `2026-12-01T00:00:00Z`.
    valid_from: String,
}

impl LaterKey {
    /// From when it signs, in Unix seconds.
    pub(crate) fn valid_from(&self) -> Option<u64> {
        let moment = humantime::parse_rfc3339(&self.valid_from).ok()?;
        moment.duration_since(std::time::UNIX_EPOCH).ok().map(|passed| passed.as_secs())
    }
}

/// What one signature opens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SigningPolicy {
    /// Everything below the URL; renewed at half its life.
    #[default]
    Wildcard,
    /// One object; made anew for each request.
    Canned,
}

impl SourceConfig {
    /// What it is called.
    pub(crate) fn id(&self) -> &SourceId {
        match self {
            Self::Directory(directory) => &directory.id,
            Self::S3(s3) => &s3.id,
            Self::Http(http) => &http.id,
        }
    }

    /// What it charges.
    pub(crate) fn price(&self) -> Price {
        match self {
            Self::Directory(directory) => price(directory.usd_per_gb, directory.usd_per_request),
            Self::S3(s3) => price(s3.usd_per_gb, s3.usd_per_request),
            Self::Http(http) => price(http.usd_per_gb, http.usd_per_request),
        }
    }

    /// How it is paid by the price sheet.
    pub(crate) fn deal(&self) -> Option<&Deal> {
        match self {
            Self::Directory(directory) => directory.tariff.as_ref(),
            Self::S3(s3) => s3.tariff.as_ref(),
            Self::Http(http) => http.tariff.as_ref(),
        }
    }

    /// Every path in it, to be resolved.
    pub(super) fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Directory(directory) => vec![&mut directory.path],
            Self::S3(s3) => s3.access_key_file.iter_mut().chain(&mut s3.secret_key_file).collect(),
            Self::Http(http) => {
                let keys = http.cloudfront.iter_mut().flat_map(CloudFrontConfig::paths_mut);
                http.ca_file.iter_mut().chain(keys).chain(http.header_files.values_mut()).collect()
            }
        }
    }

    /// Everything that makes no sense, each with its key.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, text: &str| {
            if !holds {
                problems.push(format!("source.{}.{text}", self.id()));
            }
        };
        match self {
            Self::Directory(directory) => directory.check(&mut require),
            Self::S3(s3) => s3.check(&mut require),
            Self::Http(http) => http.check(&mut require),
        }
        if let Some(deal) = self.deal() {
            let price = self.price();
            let once = deal.bytes.is_none() || price.picodollars_per_byte == 0;
            require(once, "tariff.bytes: there is a usd_per_gb too");
            let once = deal.requests.is_none() || price.picodollars_per_request == 0;
            require(once, "tariff.requests: there is a usd_per_request too");
            require(*deal != Deal::default(), "tariff: names no price");
        }
        problems
    }
}

impl DirectoryConfig {
    fn check(&self, require: &mut dyn FnMut(bool, &str)) {
        require(!self.path.as_os_str().is_empty(), "path: must not be empty");
        let sane = ByteSize::from(4_096)..=ByteSize::mib(16);
        require(sane.contains(&self.read_size), "read_size: 4KiB to 16MiB");
    }
}

impl S3Config {
    fn check(&self, require: &mut dyn FnMut(bool, &str)) {
        require(!self.bucket.is_empty(), "bucket: must not be empty");
        require(!self.region.is_empty(), "region: must not be empty");
        let prefix = self.prefix.is_empty() || (self.prefix.ends_with('/') && !self.prefix.starts_with('/'));
        require(prefix, "prefix: must end in `/` and not begin with it");
        let keys = self.access_key_file.is_some() == self.secret_key_file.is_some();
        require(keys, "access_key_file, secret_key_file: both or neither");
        let endpoint = self.endpoint_url.as_deref().is_none_or(|url| web_uri(url).is_some());
        require(endpoint, "endpoint_url: must be an http or https URL");
        require(!self.connect_timeout.is_zero(), "connect_timeout: must not be 0");
    }
}

impl HttpConfig {
    fn check(&self, require: &mut dyn FnMut(bool, &str)) {
        let uri = web_uri(&self.url);
        require(uri.is_some(), "url: must be an http or https URL");
        let plain = uri.is_none_or(|uri| uri.query().is_none() && !self.url.contains('#'));
        require(plain, "url: must have no query and no fragment; object names are put after it");
        for name in self.header_files.keys() {
            let known = name.parse::<http::HeaderName>().is_ok();
            require(known, &format!("header_files: {name:?} is no header name"));
            let ours = ["host", "range", "accept-encoding"].contains(&name.to_ascii_lowercase().as_str());
            require(!ours, &format!("header_files: {name:?} is set by this program"));
        }
        require(!self.connect_timeout.is_zero(), "connect_timeout: must not be 0");
        require(!self.idle_timeout.is_zero(), "idle_timeout: must not be 0");
        require(self.max_idle_connections <= 4_096, "max_idle_connections: at most 4096");
        if let Some(cloudfront) = &self.cloudfront {
            cloudfront.check(require);
        }
    }
}

impl CloudFrontConfig {
    fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let later = self.later_key.iter_mut().map(|key| &mut key.private_key);
        std::iter::once(&mut self.private_key).chain(later)
    }

    fn check(&self, require: &mut dyn FnMut(bool, &str)) {
        let good = |id: &str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric());
        require(good(&self.key_pair_id), "cloudfront.key_pair_id: letters and digits");
        for key in &self.later_key {
            require(good(&key.key_pair_id), "cloudfront.later_key.key_pair_id: letters and digits");
            let moment = "cloudfront.later_key.valid_from: a moment like 2026-12-01T00:00:00Z";
            require(key.valid_from().is_some(), moment);
        }
        let lifetime = (Duration::from_secs(60)..=Duration::from_secs(7 * 86_400)).contains(&self.lifetime);
        require(lifetime, "cloudfront.lifetime: 1m to 7days");
        let ip = self.source_ip.is_none() || self.policy == SigningPolicy::Wildcard;
        require(ip, "cloudfront.source_ip: only with `policy = \"wildcard\"`");
    }
}

fn web_uri(url: &str) -> Option<Uri> {
    let uri: Uri = url.parse().ok()?;
    (matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()).then_some(uri)
}
