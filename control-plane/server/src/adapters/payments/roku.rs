//! Roku Pay: the viewer's device has paid, and says so with a transaction; Roku's web service tells whether that is
//! true. Money back is asked for there, too.
//!
//! For films that are bought or rented Roku's `isEntitled` is always false, so what counts is our own rule: the
//! transaction is good, not cancelled, of our channel, one piece, and its price is the order's. That it pays once
//! is the records' business. The API key is part of Roku's URLs: no URL is ever logged or put into an error.

use std::time::Duration;

use axum::http::{Method, Request, Uri, header};
use bytes::Bytes;
use control::purchase::Order;
use control_api::rest::Price;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::seams::{BoxFuture, Charge, PaymentError, Payments, Refund};

/// The longest answer that is read.
const MAX_ANSWER_LEN: usize = 64 * 1024;
/// The longest transaction id there is, by Roku's word.
const MAX_TRANSACTION_LEN: usize = 1024;

/// How to reach Roku.
#[derive(Debug, Clone)]
pub struct RokuOptions {
    /// The service's address, up to and with `transaction-service.svc`.
    pub url: String,
    /// Our channel.
    pub channel: u64,
    /// The longest an answer may take.
    pub timeout: Duration,
}

/// The web service.
pub struct RokuPay {
    options: RokuOptions,
    key: String,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// The service cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum RokuError {
    /// The address is none.
    #[error("it must begin with https:// or http:// and name a host")]
    Url,
    /// The key is empty or holds what no key holds.
    #[error("the API key must be letters and digits")]
    Key,
    /// The machine's certificates cannot be read.
    #[error("the machine's root certificates: {0}")]
    Certificates(std::io::Error),
}

impl RokuPay {
    /// Prepares a client; no request is made.
    ///
    /// # Errors
    /// [`RokuError`].
    pub fn new(options: RokuOptions, key: String) -> Result<Self, RokuError> {
        let url = options.url.parse::<Uri>().ok().filter(|url| url.host().is_some()).ok_or(RokuError::Url)?;
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(RokuError::Key);
        }
        let connector = connector(url.scheme_str() == Some("https"))?;
        Ok(Self { options, key, client: Client::builder(TokioExecutor::new()).build(connector) })
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, PaymentError> {
        let failed = |why: &str| PaymentError(format!("Roku Pay: {why}"));
        let url = format!("{}/{path}", self.options.url.trim_end_matches('/'));
        let mut request =
            Request::builder().method(method).uri(url).header(header::ACCEPT, "application/json");
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body)).map_err(|_| failed("the request cannot be made"))?;
        let exchange = async {
            let answer = self.client.request(request).await.map_err(|_| failed("no connection"))?;
            if !answer.status().is_success() {
                return Err(failed(&format!("status {}", answer.status().as_u16())));
            }
            let body = Limited::new(answer.into_body(), MAX_ANSWER_LEN).collect().await;
            let body = body.map_err(|_| failed("the answer was cut off"))?.to_bytes();
            serde_json::from_slice(&body).map_err(|_| failed("the answer cannot be read"))
        };
        let answer = tokio::time::timeout(self.options.timeout, exchange).await;
        answer.unwrap_or_else(|_| Err(failed("no answer in time")))
    }
}

/// The system's certificates are read only when they are needed.
fn connector(secure: bool) -> Result<HttpsConnector<HttpConnector>, RokuError> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    if secure {
        let builder = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider);
        return Ok(builder.map_err(RokuError::Certificates)?.https_only().enable_http1().build());
    }
    let builder =
        rustls::ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions();
    let config = builder
        .map_err(|error| RokuError::Certificates(std::io::Error::other(error)))?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Ok(HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build())
}

/// What `validate-transaction` says; of many fields the ones our rule is about.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Transaction {
    status: i64,
    error_message: Option<String>,
    #[serde(default)]
    cancelled: bool,
    channel_id: Option<u64>,
    transaction_id: Option<String>,
    amount: Option<f64>,
    currency: Option<String>,
    quantity: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct RefundAnswer {
    status: i64,
    #[serde(rename = "RefundId")]
    refund_id: Option<String>,
}

impl Payments for RokuPay {
    fn charge<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Charge, PaymentError>> {
        Box::pin(async move {
            let Some(id) = order.transaction.as_deref().filter(|id| plain(id)) else {
                return Ok(declined("the device's transaction is missing"));
            };
            let path = format!("validate-transaction/{}/{id}", self.key);
            let told: Transaction = self.ask(Method::GET, &path, Bytes::new()).await?;
            Ok(judge(&told, id, order.price.as_ref(), self.options.channel))
        })
    }

    /// An answer that is not plainly good leaves the refund open: asked again after a lost answer, Roku refuses
    /// what would exceed the charge, and that is no sign that nothing went back. Roku's own notice settles it.
    fn refund<'a>(
        &'a self,
        order: &'a Order,
        reference: &'a str,
    ) -> BoxFuture<'a, Result<Refund, PaymentError>> {
        Box::pin(async move {
            let Some(price) = &order.price else {
                return Ok(Refund::Failed { reason: "the order has no price".to_owned() });
            };
            let body = serde_json::json!({
                "partnerAPIKey": self.key,
                "transactionId": reference,
                "amount": amount(price),
                "partnerReferenceId": order.id,
                "comments": "refund",
            });
            let body = Bytes::from(body.to_string());
            let told: RefundAnswer = self.ask(Method::POST, "refund-subscription", body).await?;
            match (told.status, told.refund_id) {
                (0, Some(refund)) => Ok(Refund::Made { refund }),
                (status, _) => Err(PaymentError(format!("Roku Pay: the refund ended with status {status}"))),
            }
        })
    }
}

/// Whether the id can stand in a URL's path as it is: Roku's are hexadecimal digits.
fn plain(id: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=MAX_TRANSACTION_LEN).contains(&id.len()) && id.bytes().all(fine)
}

fn declined(reason: &str) -> Charge {
    Charge::Declined { reason: reason.to_owned() }
}

/// Whether this transaction pays for that price.
fn judge(told: &Transaction, id: &str, price: Option<&Price>, channel: u64) -> Charge {
    let Some(price) = price else { return declined("the order has no price") };
    if told.status != 0 {
        let why = told.error_message.as_deref().unwrap_or_default();
        return declined(&format!("Roku does not know the transaction: {why:.80}"));
    }
    let paid = told.amount.map(|paid| minor(paid, price.currency.as_str()));
    let currency = told.currency.as_deref().unwrap_or_default();
    let rules = [
        (told.transaction_id.as_deref() == Some(id), "Roku speaks of another transaction"),
        (!told.cancelled, "the transaction was cancelled"),
        (told.channel_id == Some(channel), "the transaction is of another channel"),
        (told.quantity.unwrap_or(1) == 1, "the transaction is for more than one piece"),
        (currency.eq_ignore_ascii_case(price.currency.as_str()), "the transaction is in another currency"),
        (paid == Some(price.minor), "the transaction is of another amount"),
    ];
    match rules.into_iter().find(|(holds, _)| !holds) {
        Some((_, reason)) => declined(reason),
        None => Charge::Made { reference: id.to_owned() },
    }
}

/// Currencies without a smaller unit.
const WHOLE: [&str; 6] = ["clp", "isk", "jpy", "krw", "pyg", "vnd"];

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast saturates; nothing costs that"
)]
fn minor(amount: f64, currency: &str) -> u64 {
    let factor = if WHOLE.contains(&currency) { 1.0 } else { 100.0 };
    (amount * factor).round() as u64
}

/// The price as Roku writes amounts: a number with the currency's digits.
fn amount(price: &Price) -> serde_json::Number {
    let text = if WHOLE.contains(&price.currency.as_str()) {
        price.minor.to_string()
    } else {
        format!("{}.{:02}", price.minor / 100, price.minor % 100)
    };
    text.parse().unwrap_or_else(|_| price.minor.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As documented, with what our rule asks for.
    const DOCUMENTED: &str = r#"{"errorCode":null,"errorDetails":null,"errorMessage":"","status":0,
        "OriginalTransactionId":"t1","amount":1.99,"cancelled":false,"channelId":251682,"channelName":"Films",
        "couponCode":null,"creditsApplied":null,"currency":"usd","expirationDate":"/Date(1581033062000+0000)/",
        "isEntitled":false,"originalPurchaseDate":"/Date(1573084262000+0000)/","partnerReferenceId":null,
        "purchaseChannel":"device","purchaseContext":"iap","productId":"film","productName":"Film",
        "purchaseDate":"/Date(1573084394000+0000)/","purchaseStatus":"Active","quantity":1,
        "rokuCustomerId":"c1","tax":0.16,"total":2.15,"transactionId":"t1"}"#;

    fn price(minor: u64, currency: &str) -> Price {
        Price { minor, currency: currency.parse().expect("a currency") }
    }

    #[test]
    fn our_rule() {
        let told: Transaction = serde_json::from_str(DOCUMENTED).expect("readable");
        let usd = price(199, "usd");
        let made = Charge::Made { reference: "t1".to_owned() };
        assert_eq!(judge(&told, "t1", Some(&usd), 251_682), made);
        let wrong = [
            (Transaction { status: 1, ..told.clone() }, "know"),
            (Transaction { cancelled: true, ..told.clone() }, "cancelled"),
            (Transaction { channel_id: Some(1), ..told.clone() }, "channel"),
            (Transaction { channel_id: None, ..told.clone() }, "channel"),
            (Transaction { transaction_id: Some("t2".to_owned()), ..told.clone() }, "another transaction"),
            (Transaction { amount: Some(0.99), ..told.clone() }, "amount"),
            (Transaction { amount: Some(-1.99), ..told.clone() }, "amount"),
            (Transaction { amount: Some(f64::NAN), ..told.clone() }, "amount"),
            (Transaction { amount: None, ..told.clone() }, "amount"),
            (Transaction { currency: Some("eur".to_owned()), ..told.clone() }, "currency"),
            (Transaction { quantity: Some(2), ..told.clone() }, "piece"),
        ];
        for (told, word) in wrong {
            let Charge::Declined { reason } = judge(&told, "t1", Some(&usd), 251_682) else {
                unreachable!("{told:?} was accepted")
            };
            assert!(reason.contains(word), "{reason:?} does not say {word}");
        }
        assert!(matches!(judge(&told, "t1", None, 251_682), Charge::Declined { .. }));
    }

    #[test]
    fn amounts_have_their_currencys_digits() {
        assert_eq!((minor(1.99, "usd"), minor(500.0, "jpy"), minor(-1.0, "usd")), (199, 500, 0));
        assert_eq!(amount(&price(5, "usd")).to_string(), "0.05");
        assert_eq!(amount(&price(500, "jpy")).to_string(), "500");
    }

    #[test]
    fn ids_cannot_leave_their_place_in_the_path() {
        for bad in ["", "a/b", "../x", "a?b", "a b", "a%2f", &"x".repeat(1025)] {
            assert!(!plain(bad), "{bad:?}");
        }
        assert!(plain("09898ffd7d2a49bc94b1aafd0189a6fa"));
    }
}
