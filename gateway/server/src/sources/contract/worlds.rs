//! Each kind of source with a store behind it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sourcing::Source;

use super::World;
use super::origin::Origin;
use crate::sources::{
    Complaints, DirectorySource, HttpOptions, HttpSource, KeyRing, S3Options, S3Source, Signer, Signing,
    refusals, tls,
};

pub(super) struct Directory {
    source: DirectorySource,
    root: tempfile::TempDir,
}

impl Directory {
    pub(super) fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let source = DirectorySource::new("packages".parse().expect("an id"), root.path().into(), 64 * 1024);
        Self { source, root }
    }

    fn write(&self, object: &str, bytes: &[u8]) {
        let path = self.root.path().join(object);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, bytes).expect("written");
    }
}

impl World for Directory {
    fn source(&self) -> &dyn Source {
        &self.source
    }

    fn put<'a>(&'a self, object: &'a str, bytes: Bytes) -> BoxFuture<'a, ()> {
        self.write(object, &bytes);
        Box::pin(std::future::ready(()))
    }

    fn put_held(&self, object: &str, bytes: Bytes) {
        self.write(object, &bytes);
    }

    fn break_off(&self, object: &str) {
        let file = std::fs::File::options().write(true).open(self.root.path().join(object)).expect("opened");
        let half = file.metadata().expect("metadata").len() / 2;
        file.set_len(half).expect("cut");
    }

    fn transfers(&self, object: &str) -> usize {
        let path = self.root.path().join(object).canonicalize().expect("a path");
        let open = std::fs::read_dir("/proc/self/fd").expect("a process");
        let links = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        links.filter(|link| *link == path).count()
    }
}

pub(super) struct Http {
    source: HttpSource,
    origin: Origin,
}

/// The wall clock of signed sources: 1000 unless a test moves it.
static CLOCK: AtomicU64 = AtomicU64::new(1_000);

fn now() -> u64 {
    CLOCK.load(SeqCst)
}

fn complaints(id: &str) -> Complaints {
    Complaints::new(&id.parse().expect("an id"), &refusals().expect("counters"))
}

pub(super) fn set_clock(now: u64) {
    CLOCK.store(now, SeqCst);
}

impl Http {
    pub(super) async fn plain() -> Self {
        Self::new("http", Origin::start(None).await, RootCertStore::empty(), None)
    }

    pub(super) async fn tls() -> Self {
        let (config, roots) = certificate();
        Self::new("https", Origin::start(Some(config)).await, roots, None)
    }

    pub(super) async fn untrusted() -> Self {
        let ((config, _), (_, others)) = (certificate(), certificate());
        Self::new("https", Origin::start(Some(config)).await, others, None)
    }

    pub(super) async fn signed(wildcard: bool) -> Self {
        set_clock(1_000);
        let key = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        let signer = |id| Signer::from_pem(id, key.as_bytes()).expect("a signer");
        let keys = KeyRing::new(signer("K2JCJMDEHXQW5F"), vec![(3_000, signer("K3D5EWEUDCCXON"))]);
        let lifetime = 3_600;
        let signing = if wildcard {
            Signing::Wildcard { keys, lifetime, source_ip: None, current: Mutex::default() }
        } else {
            Signing::Canned { keys, lifetime }
        };
        Self::new("http", Origin::start(None).await, RootCertStore::empty(), Some(signing))
    }

    /// At an address where somebody else answers.
    pub(super) fn at(port: u16) -> HttpSource {
        Self::source(&format!("http://localhost:{port}/base"), RootCertStore::empty(), None)
    }

    fn new(scheme: &str, origin: Origin, roots: RootCertStore, signing: Option<Signing>) -> Self {
        let base = format!("{scheme}://localhost:{}/base/", origin.address.port());
        Self { source: Self::source(&base, roots, signing), origin }
    }

    fn source(base: &str, roots: RootCertStore, signing: Option<Signing>) -> HttpSource {
        let base = base.parse().expect("a URL");
        let mut headers = HeaderMap::new();
        headers.insert("x-origin-secret", HeaderValue::from_static("s3cret"));
        let options = HttpOptions {
            connect_timeout: Duration::from_secs(5),
            max_idle_connections: 4,
            idle_timeout: Duration::from_secs(5),
            headers,
        };
        let (id, tls) = ("origin".parse().expect("an id"), tls(Arc::new(roots)).expect("TLS"));
        HttpSource::new(id, &base, &options, tls, signing, now, complaints("origin")).expect("a source")
    }

    pub(super) fn last_request(&self) -> (String, Option<String>) {
        self.origin.shared.last()
    }

    pub(super) fn stop(&self) {
        self.origin.shared.stop();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.origin.shared.is_stopped()
    }
}

fn certificate() -> (rustls::ServerConfig, RootCertStore) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let (cert, key) = (made.cert.der().clone(), PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("versions").with_no_client_auth();
    let config = builder.with_single_cert(vec![cert.clone()], PrivateKeyDer::from(key)).expect("a pair");
    (config, roots(cert))
}

fn roots(cert: CertificateDer<'static>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(cert).expect("a root");
    roots
}

macro_rules! on_origin {
    ($name:ident) => {
        impl World for $name {
            fn source(&self) -> &dyn Source {
                &self.source
            }

            fn put<'a>(&'a self, object: &'a str, bytes: Bytes) -> BoxFuture<'a, ()> {
                self.origin.shared.put(object, bytes, false);
                Box::pin(std::future::ready(()))
            }

            fn put_held(&self, object: &str, bytes: Bytes) {
                self.origin.shared.put(object, bytes, true);
            }

            fn break_off(&self, object: &str) {
                self.origin.shared.break_off(object);
            }

            fn transfers(&self, object: &str) -> usize {
                self.origin.shared.transfers(object)
            }
        }
    };
}

on_origin!(Http);
on_origin!(S3);

/// The S3 client against an origin of our own, whose faults can be chosen.
pub(super) struct S3 {
    source: S3Source,
    origin: Origin,
}

impl S3 {
    pub(super) async fn new() -> Self {
        Self::with(SharedCredentialsProvider::new(Credentials::new("test", SECRET, None, None, "test"))).await
    }

    /// With other credentials.
    pub(super) async fn with(credentials: SharedCredentialsProvider) -> Self {
        let origin = Origin::start(None).await;
        let mut options = options(&format!("http://{}", origin.address), "");
        options.credentials = Some(credentials);
        let source = S3Source::new("s3".parse().expect("an id"), options, now, complaints("s3")).await;
        Self { source, origin }
    }
}

/// What must never be seen.
pub(super) const SECRET: &str = "wJalrXUtnFEMI-a-secret-key";

fn options(endpoint: &str, prefix: &str) -> S3Options {
    let credentials = Credentials::new("test", "test", None, None, "test");
    S3Options {
        bucket: "films".to_owned(),
        prefix: prefix.to_owned(),
        region: "us-east-1".to_owned(),
        endpoint_url: Some(endpoint.to_owned()),
        path_style: true,
        connect_timeout: Duration::from_secs(5),
        credentials: Some(SharedCredentialsProvider::new(credentials)),
    }
}

/// Everything of a source's options that can be printed, with secrets in them.
pub(super) fn printed_options() -> String {
    let mut s3 = options("http://127.0.0.1:1", "");
    s3.credentials =
        Some(SharedCredentialsProvider::new(Credentials::new("test", SECRET, None, None, "test")));
    let mut value = HeaderValue::from_static("s3cret");
    value.set_sensitive(true);
    let http = HttpOptions {
        connect_timeout: Duration::from_secs(5),
        max_idle_connections: 4,
        idle_timeout: Duration::from_secs(5),
        headers: HeaderMap::from_iter([(http::HeaderName::from_static("x-origin-secret"), value)]),
    };
    format!("{s3:?} {http:?}")
}

/// The same client against a server that other people wrote.
pub(super) struct Ministack {
    source: S3Source,
    client: aws_sdk_s3::Client,
    _server: Killed,
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Ministack {
    /// `None` when it is not installed.
    pub(super) async fn start() -> Option<Self> {
        let program = program();
        if !program.exists() {
            return None;
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .expect("bound")
            .local_addr()
            .expect("an address")
            .port();
        let state = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(program);
        command.env("BIND_HOST", "127.0.0.1").env("GATEWAY_PORT", port.to_string());
        command.current_dir(state.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Killed(command.spawn().expect("started"));
        let endpoint = format!("http://127.0.0.1:{port}");
        let source = S3Source::new(
            "s3".parse().expect("an id"),
            options(&endpoint, "packages/"),
            now,
            complaints("s3"),
        )
        .await;
        let client = source.client();
        for attempt in 0.. {
            if client.create_bucket().bucket("films").send().await.is_ok() {
                break;
            }
            assert!(attempt < 300, "the S3 server does not answer");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Some(Self { source, client, _server: server })
    }
}

fn program() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/ministack/bin/ministack")
}

impl World for Ministack {
    fn source(&self) -> &dyn Source {
        &self.source
    }

    fn put<'a>(&'a self, object: &'a str, bytes: Bytes) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let put = self.client.put_object().bucket("films").key(format!("packages/{object}"));
            put.body(bytes.into()).send().await.expect("stored");
        })
    }
}
