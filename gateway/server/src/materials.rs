//! Everything that the configuration names and that lies in other files: keys, certificates, credentials. Read
//! once, before anything starts; all problems are reported together.

use std::path::Path;
use std::sync::{Arc, Mutex};

use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use control_api::keys::parse_index_public;
use control_api::token::TokenKey;
use http::{HeaderMap, HeaderName, HeaderValue};
use media::index::PublicKey;
use peer::Identity;
use prometheus::IntCounterVec;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sourcing::{Offer, Source};

use crate::clock;
use crate::config::{
    CloudFrontConfig, Config, DirectoryConfig, HttpConfig, PeerConfig, S3Config, SigningPolicy, SourceConfig,
};
use crate::cost::Prices;
use crate::sources::{
    Complaints, DirectorySource, HttpOptions, HttpSource, KeyRing, S3Options, S3Source, Signer, Signing,
    refusals, tls,
};

/// The longest file that is read as a key, a certificate or a header value.
const MAX_FILE_LEN: u64 = 1024 * 1024;

/// What a node needs beside its configuration.
pub(crate) struct Materials {
    pub(crate) token_keys: Vec<TokenKey>,
    pub(crate) index_keys: Vec<PublicKey>,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    pub(crate) identity: Option<Identity>,
    pub(crate) offers: Vec<Offer>,
    /// What whoever purges must know.
    pub(crate) admin_key: Option<String>,
    /// What whoever wants to see the sources must know.
    pub(crate) debug_key: Option<String>,
    pub(crate) prices: Option<Prices>,
    /// The counters of refusals, to be registered.
    pub(crate) refusals: IntCounterVec,
}

impl Materials {
    /// Reads every file. Nothing is asked over the network.
    ///
    /// # Errors
    /// All problems, each with the key of the configuration that named the file.
    pub(crate) async fn load(config: &Config) -> Result<Self, Vec<String>> {
        let mut problems = Problems::default();
        let token_keys = config.trust.token_keys.iter();
        let token_keys = token_keys.filter_map(|path| problems.keep("trust.token_keys", token_key(path)));
        let token_keys = token_keys.collect();
        let index_keys = config.trust.index_keys.iter();
        let index_keys = index_keys.filter_map(|path| problems.keep("trust.index_keys", index_key(path)));
        let index_keys = index_keys.collect();
        let tls = config.tls.as_ref().map(|tls| front_tls(&tls.cert, &tls.key));
        let tls = tls.and_then(|loaded| problems.keep("tls", loaded));
        let identity = config.peer.as_ref().and_then(|peer| problems.keep("peer", identity(peer)));
        let admin_key = config.admin.key_file.as_ref();
        let admin_key = admin_key.and_then(|path| problems.keep("admin.key_file", key_text(path)));
        let debug_key = config.front.debug_key_file.as_ref();
        let debug_key = debug_key.and_then(|path| problems.keep("front.debug_key_file", key_text(path)));
        let prices = Prices::load(config).and_then(|loaded| problems.keep("cost", loaded));
        let refusals = refusals().map_err(|error| vec![format!("metrics: {error}")])?;
        let mut offers = Vec::new();
        for source in &config.source {
            let loaded = load_source(source, &refusals).await;
            if let Some(loaded) = problems.keep(&format!("source.{}", source.id()), loaded) {
                offers.push(Offer { source: loaded, price: source.price() });
            }
        }
        if problems.0.is_empty() {
            Ok(Self { token_keys, index_keys, tls, identity, offers, admin_key, debug_key, prices, refusals })
        } else {
            Err(problems.0)
        }
    }
}

#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn keep<T>(&mut self, key: &str, loaded: Result<T, String>) -> Option<T> {
        loaded.map_err(|problem| self.0.push(format!("{key}: {problem}"))).ok()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let told = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let len = std::fs::metadata(path).map_err(told)?.len();
    if len > MAX_FILE_LEN {
        return Err(format!("{} has {len} bytes, at most {MAX_FILE_LEN} are read", path.display()));
    }
    std::fs::read(path).map_err(told)
}

fn read_text(path: &Path) -> Result<String, String> {
    String::from_utf8(read(path)?).map_err(|_| format!("{} is not text", path.display()))
}

fn about<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> String {
    move |error| format!("{}: {error}", path.display())
}

fn token_key(path: &Path) -> Result<TokenKey, String> {
    read_text(path)?.parse().map_err(about(path))
}

fn index_key(path: &Path) -> Result<PublicKey, String> {
    parse_index_public(&read_text(path)?).map(PublicKey).map_err(about(path))
}

fn key_text(path: &Path) -> Result<String, String> {
    let key = read_text(path)?.trim().to_owned();
    let long = key.len() >= 16 && key.bytes().all(|b| b.is_ascii_graphic());
    if long { Ok(key) } else { Err(format!("{}: at least 16 printable characters", path.display())) }
}

fn front_tls(cert: &Path, key: &Path) -> Result<Arc<rustls::ServerConfig>, String> {
    front::tls::server_config(&read(cert)?, &read(key)?).map_err(|error| error.to_string())
}

/// This node's certificate and key for the link to neighbours.
pub(crate) fn identity(peer: &PeerConfig) -> Result<Identity, String> {
    Identity::from_pem(&read(&peer.cert)?, &read(&peer.key)?).map_err(|error| error.to_string())
}

async fn load_source(config: &SourceConfig, refusals: &IntCounterVec) -> Result<Arc<dyn Source>, String> {
    let complaints = Complaints::new(config.id(), refusals);
    match config {
        SourceConfig::Directory(directory) => Ok(Arc::new(directory_source(directory))),
        SourceConfig::S3(s3) => Ok(Arc::new(s3_source(s3, complaints).await?)),
        SourceConfig::Http(http) => Ok(Arc::new(http_source(http, complaints)?)),
    }
}

fn directory_source(config: &DirectoryConfig) -> DirectorySource {
    let read_size = usize::try_from(config.read_size.bytes()).unwrap_or(usize::MAX);
    DirectorySource::new(config.id.clone(), config.path.clone(), read_size)
}

async fn s3_source(config: &S3Config, complaints: Complaints) -> Result<S3Source, String> {
    let files = config.access_key_file.as_ref().zip(config.secret_key_file.as_ref());
    let credentials = files.map(|(id, secret)| credentials(id, secret));
    let options = S3Options {
        bucket: config.bucket.clone(),
        prefix: config.prefix.clone(),
        region: config.region.clone(),
        endpoint_url: config.endpoint_url.clone(),
        path_style: config.path_style,
        connect_timeout: config.connect_timeout,
        credentials: credentials.transpose()?,
    };
    Ok(S3Source::new(config.id.clone(), options, clock::unix_seconds, complaints).await)
}

fn credentials(id: &Path, secret: &Path) -> Result<SharedCredentialsProvider, String> {
    let (id, secret) = (read_text(id)?, read_text(secret)?);
    let credentials = Credentials::new(id.trim(), secret.trim(), None, None, "files");
    Ok(SharedCredentialsProvider::new(credentials))
}

fn http_source(config: &HttpConfig, complaints: Complaints) -> Result<HttpSource, String> {
    let base = config.url.parse().map_err(|error| format!("url: {error}"))?;
    let options = HttpOptions {
        connect_timeout: config.connect_timeout,
        max_idle_connections: config.max_idle_connections,
        idle_timeout: config.idle_timeout,
        headers: headers(config)?,
    };
    let tls = tls(Arc::new(roots(config)?)).map_err(|error| error.to_string())?;
    let signing = config.cloudfront.as_ref().map(signing).transpose()?;
    HttpSource::new(config.id.clone(), &base, &options, tls, signing, clock::unix_seconds, complaints)
        .map_err(|error| format!("url: {error}"))
}

fn headers(config: &HttpConfig) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, path) in &config.header_files {
        let name: HeaderName = name.parse().map_err(|error| format!("header_files: {name:?}: {error}"))?;
        let mut value: HeaderValue = read_text(path)?.trim_end().parse().map_err(about(path))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

/// The certificates of one file, or for https the machine's own.
fn roots(config: &HttpConfig) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match &config.ca_file {
        Some(path) => {
            for cert in CertificateDer::pem_slice_iter(&read(path)?) {
                roots.add(cert.map_err(about(path))?).map_err(about(path))?;
            }
        }
        None if config.url.starts_with("https:") => {
            // Some of the machine's certificates may be unusable; what matters is that there are others.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        None => return Ok(roots),
    }
    let none = "no certificate to trust: set ca_file or install the machine's CA certificates";
    if roots.is_empty() { Err(none.to_owned()) } else { Ok(roots) }
}

fn signing(config: &CloudFrontConfig) -> Result<Signing, String> {
    let signer = |id: &str, path: &Path| Signer::from_pem(id, &read(path)?).map_err(about(path));
    let later = config.later_key.iter().map(|key| {
        let from = key.valid_from().ok_or("later_key.valid_from is no moment")?;
        Ok((from, signer(&key.key_pair_id, &key.private_key)?))
    });
    let later = later.collect::<Result<Vec<_>, String>>()?;
    let keys = KeyRing::new(signer(&config.key_pair_id, &config.private_key)?, later);
    let lifetime = config.lifetime.as_secs();
    Ok(match config.policy {
        SigningPolicy::Canned => Signing::Canned { keys, lifetime },
        SigningPolicy::Wildcard => Signing::Wildcard {
            keys,
            lifetime,
            source_ip: config.source_ip.clone(),
            current: Mutex::default(),
        },
    })
}
