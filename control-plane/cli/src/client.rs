//! One request, one answer, over plain HTTP or HTTPS.

use std::time::Duration;

use bytes::Bytes;
use control_api::Problem;
use control_api::keys::OperatorKey;
use control_api::problem::PROBLEM_TYPE;
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::Settings;
use crate::error::Error;

/// The longest a request may take; the control plane answers long work with 202 at once.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer that is read: a list of ten thousand titles fits.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// How much of a stranger's answer is shown.
const SHOWN_CHARACTERS: usize = 200;

/// A connection to one control plane, or to the admin address of one node.
pub(crate) struct Api {
    base: String,
    whose: Whose,
    key: Option<OperatorKey>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Api {
    pub(crate) fn new(settings: Settings) -> Result<Self, Error> {
        Self::to(&settings.api, Whose::ControlPlane, Some(settings.key))
    }

    /// A node's admin address, which is open to whoever reaches it. No key is sent there.
    pub(crate) fn of_node(address: &str) -> Result<Self, Error> {
        Self::to(address, Whose::Node, None)
    }

    fn to(base: &str, whose: Whose, key: Option<OperatorKey>) -> Result<Self, Error> {
        let base = base.trim_end_matches('/').to_owned();
        let secure = check_base(&base, whose)?;
        let client = Client::builder(TokioExecutor::new()).build(connector(secure)?);
        Ok(Self { base, whose, key, client })
    }

    /// # Errors
    /// [`Error::Refused`] carries the control plane's own words.
    pub(crate) async fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A, Error> {
        self.ask(Method::GET, path, None, Bytes::new()).await
    }

    /// # Errors
    /// As [`Api::get`].
    pub(crate) async fn post<A: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        idempotency_key: Option<&str>,
    ) -> Result<A, Error> {
        let body = serde_json::to_vec(body).map_err(std::io::Error::from)?;
        self.ask(Method::POST, path, idempotency_key, body.into()).await
    }

    async fn ask<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        idempotency_key: Option<&str>,
        body: Bytes,
    ) -> Result<A, Error> {
        let url = format!("{}{path}", self.base);
        let mut request = Request::builder().method(method).uri(&url);
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", key.bearer()));
        }
        request = request.header(header::ACCEPT, "application/json");
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(key) = idempotency_key {
            request = request.header(control_api::rest::IDEMPOTENCY_KEY, key);
        }
        let request = request.body(Full::new(body)).map_err(|_| {
            Error::Url(url.clone(), self.whose, "the URL or the idempotency key holds an illegal character")
        })?;
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, self.exchange(&url, request)).await;
        let slow = |_| Error::TooSlow { url: url.clone(), seconds: REQUEST_TIMEOUT.as_secs() };
        answer.map_err(slow)?
    }

    async fn exchange<A: DeserializeOwned>(
        &self,
        url: &str,
        request: Request<Full<Bytes>>,
    ) -> Result<A, Error> {
        let whose = self.whose;
        let unreachable = |reason: String| Error::Unreachable { url: url.to_owned(), whose, reason };
        let answer = self.client.request(request).await.map_err(|error| unreachable(chain(&error)))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| unreachable(chain(error.as_ref())))?.to_bytes();
        let is_problem = head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM_TYPE);
        let stranger = || Error::NotTheApi {
            url: url.to_owned(),
            whose,
            status: head.status.as_u16(),
            text: String::from_utf8_lossy(&body).chars().take(SHOWN_CHARACTERS).collect(),
        };
        if is_problem {
            let problem: Problem = serde_json::from_slice(&body).map_err(|_| stranger())?;
            return Err(Error::Refused(Box::new(problem)));
        }
        if !head.status.is_success() {
            let said = serde_json::from_slice::<NodeSays>(&body).map(|said| said.error);
            return Err(said.map_or_else(|_| stranger(), Error::Node));
        }
        serde_json::from_slice(&body).map_err(|_| stranger())
    }
}

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The control plane.
    ControlPlane,
    /// A node, on its admin address.
    Node,
}

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ControlPlane => "control plane",
            Self::Node => "node's admin listener",
        })
    }
}

/// How a node says no.
#[derive(Deserialize)]
struct NodeSays {
    error: String,
}

/// Whether the URL asks for TLS.
fn check_base(base: &str, whose: Whose) -> Result<bool, Error> {
    let wrong = |why| Error::Url(base.to_owned(), whose, why);
    let uri: Uri = base.parse().map_err(|_| wrong("it cannot be read"))?;
    if uri.host().is_none_or(str::is_empty) {
        return Err(wrong("it names no host"));
    }
    match uri.scheme_str() {
        Some("http") => Ok(false),
        Some("https") => Ok(true),
        _ => Err(wrong("it begins with neither http:// nor https://")),
    }
}

/// The system's certificates are read only when they are needed: a minimal image may have none.
fn connector(secure: bool) -> Result<HttpsConnector<HttpConnector>, Error> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    if secure {
        let builder = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider);
        return Ok(builder.map_err(Error::Certificates)?.https_only().enable_http1().build());
    }
    let builder =
        rustls::ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions();
    let config = builder
        .map_err(|error| Error::Certificates(std::io::Error::other(error)))?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Ok(HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build())
}

/// The whole story of an error: the outermost sentence of a client error says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases() {
        for (base, secure) in [
            ("http://127.0.0.1:8470", Some(false)),
            ("https://control.example.net/prefix", Some(true)),
            ("ftp://a", None),
            ("control.example.net", None),
            ("", None),
            ("http://", None),
        ] {
            assert_eq!(check_base(base, Whose::Node).ok(), secure, "{base}");
        }
    }
}
