//! Purchases that were paid on Roku devices: against a server with the documented answers, through the real program
//! over real sockets, while that program is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use control_plane::adapters::redb::RedbRecords;
use control_plane::seams::Catalog;
use control_plane::state::State as Records;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::process::{Served, run, serve};
use crate::records;
use crate::support::{Answer, Api, until};

/// Letters and digits only, and told to nobody.
const KEY: &str = "F05447A57F8DF275FC30EC835FCAD10A19B6";
const CHANNEL: u64 = 251_682;

/// What Roku knows: what viewers paid on their devices, and what went back.
#[derive(Default)]
struct Books {
    paid: Mutex<BTreeMap<String, f64>>,
    refunds: Mutex<BTreeMap<String, Value>>,
    asked: Mutex<u64>,
    moody: bool,
}

impl Books {
    /// A viewer pays on a device.
    fn pay(&self, transaction: &str, amount: f64) {
        self.paid.lock().expect("no panic").insert(transaction.to_owned(), amount);
    }

    /// Of a moody service every fifth answer is an error and every seventh comes too late.
    async fn mood(&self) -> Result<(), StatusCode> {
        let asked = {
            let mut asked = self.asked.lock().expect("no panic");
            *asked += 1;
            *asked
        };
        if self.moody && asked.is_multiple_of(5) {
            return Err(StatusCode::INTERNAL_SERVER_ERROR);
        }
        if self.moody && asked.is_multiple_of(7) {
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        Ok(())
    }
}

/// The documented answer, in the documented form for whoever does not ask for JSON.
async fn validate(
    State(books): State<Arc<Books>>,
    UrlPath((key, transaction)): UrlPath<(String, String)>,
    headers: HeaderMap,
) -> axum::response::Response {
    if let Err(status) = books.mood().await {
        return status.into_response();
    }
    let amount = books.paid.lock().expect("no panic").get(&transaction).copied().filter(|_| key == KEY);
    let (status, message) = if amount.is_some() { (0, "") } else { (1, "Transaction not found") };
    if headers.get("accept").is_none_or(|kind| kind != "application/json") {
        let word = if status == 0 { "Success" } else { "Failure" };
        return format!("<result><status>{word}</status></result>").into_response();
    }
    let answer = json!({
        "errorCode": null, "errorDetails": null, "errorMessage": message, "status": status,
        "OriginalTransactionId": transaction, "amount": amount, "cancelled": false, "channelId": CHANNEL,
        "channelName": "Films", "couponCode": null, "creditsApplied": null, "currency": "usd",
        "expirationDate": "/Date(1581033062000+0000)/", "isEntitled": false,
        "originalPurchaseDate": "/Date(1573084262000+0000)/", "partnerReferenceId": null,
        "purchaseChannel": "device", "purchaseContext": "iap", "productId": "film", "productName": "Film",
        "purchaseDate": "/Date(1573084394000+0000)/", "purchaseStatus": "Active", "quantity": 1,
        "rokuCustomerId": "1f529e15cb15426be4ddb23a4933be2d", "tax": 0, "total": amount,
        "transactionId": transaction,
    });
    axum::Json(answer).into_response()
}

async fn refund(State(books): State<Arc<Books>>, axum::Json(body): axum::Json<Value>) -> axum::Json<Value> {
    let good = body["partnerAPIKey"] == KEY;
    let transaction = body["transactionId"].as_str().unwrap_or_default().to_owned();
    let status = if good && books.paid.lock().expect("no panic").contains_key(&transaction) { 0 } else { 1 };
    books.refunds.lock().expect("no panic").insert(transaction, body);
    let id = "304be6b0ddd44f7badfcab3e01436cc6";
    axum::Json(
        json!({ "errorCode": null, "errorDetails": null, "errorMessage": "", "status": status, "RefundId": id }),
    )
}

async fn roku(books: &Arc<Books>) -> String {
    let router = Router::new()
        .route("/listen/transaction-service.svc/validate-transaction/{key}/{transaction}", get(validate))
        .route("/listen/transaction-service.svc/refund-subscription", post(refund))
        .with_state(Arc::clone(books));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/listen/transaction-service.svc")
}

/// A data directory with one published title, ready to be served.
async fn prepare(directory: &Path, url: &str) {
    // A port of our own, so that clients find the next process where they knew the last one.
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let config = directory.join("control-plane.toml");
    let text = format!(
        "ready_file = \"ready.json\"\n[api]\nlisten = \"127.0.0.1:{port}\"\nmax_connections = 2000\n[payments]\nkind = \"roku\"\n\
         roku_url = \"{url}\"\nroku_channel = {CHANNEL}\ntimeout = \"500ms\"\nrecover_every = \"300ms\"\n\
         recover_after = \"1s\"\n"
    );
    std::fs::write(&config, text).expect("written");
    let (status, said) = run(&config, &["init"]).await;
    assert!(status.success(), "{said}");
    std::fs::write(directory.join("data/keys/roku.key"), format!("{KEY}\n")).expect("written");
    let state = directory.join("data/state.redb");
    let state = Records::new(Arc::new(RedbRecords::open(&state).expect("a state file")));
    state.put(&records::published("bbb")).await.expect("a title");
}

async fn price(api: &Api) {
    let price = json!({ "minor": 399, "currency": "usd" }).to_string();
    let json = [("Content-Type", "application/json")];
    let answer = api.send("PUT", "/v1/titles/bbb/prices/rental", &json, &price).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn buy(api: &Api, key: &str, viewer: &str, transaction: &str) -> Option<Answer> {
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key)];
    let body = json!({ "viewer": viewer, "title": "bbb", "kind": "rental", "transaction": transaction });
    api.try_send("POST", "/v1/purchases", &headers, &body.to_string()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_devices_transaction_becomes_a_right() {
    let root = tempfile::tempdir().expect("a directory");
    let books = Arc::new(Books::default());
    prepare(root.path(), &roku(&books).await).await;
    let served = serve(root.path()).await;
    let api = &served.api;
    let code = |answer: Option<Answer>| {
        let answer = answer.expect("an answer");
        (answer.status, answer.code())
    };
    books.pay("t1", 3.99);
    books.pay("cheap", 0.99);
    let declined = || (402, "payment-declined".to_owned());
    assert_eq!(code(buy(api, "k0", "ann", "t1").await), declined(), "without a price nothing is sold");
    price(api).await;
    let first = buy(api, "k1", "ann", "t1").await.expect("an answer");
    assert_eq!(first.status, 201, "{first:?}");
    let again = buy(api, "k2", "ann", "t1").await.expect("an answer");
    assert_eq!((again.status, &again.body), (200, &first.body));
    assert_eq!(code(buy(api, "k3", "bob", "t1").await), declined(), "a transaction pays once");
    assert_eq!(code(buy(api, "k4", "bob", "cheap").await), declined(), "for what it costs");
    assert_eq!(code(buy(api, "k5", "bob", "invented").await), declined(), "if Roku knows it");
    assert_eq!(code(buy(api, "k6", "bob", "../../t1").await), declined(), "and it is an id");
    let none = api.buy("k7", &json!({ "viewer": "bob", "title": "bbb", "kind": "rental" })).await;
    assert_eq!((none.status, none.code()), declined());

    let id = first.json()["id"].as_str().expect("an id").to_owned();
    let path = format!("/v1/viewers/ann/entitlements/{id}/refund");
    let refunded = api.post(&path, &json!({ "reason": "not liked" })).await;
    assert_eq!(
        (refunded.status, &refunded.json()["status"]["is"]),
        (200, &json!("refunded")),
        "{refunded:?}"
    );
    let asked = books.refunds.lock().expect("no panic").get("t1").cloned().expect("asked for");
    assert_eq!((asked["amount"].as_f64(), &asked["partnerReferenceId"]), (Some(3.99), &json!(id)));
    let session = api.post("/v1/sessions", &json!({ "viewer": "ann", "title": "bbb" })).await;
    assert_eq!((session.status, session.code()), (403, "refunded".to_owned()));
    let trail = api.get("/v1/viewers/ann/audit").await.json();
    let events: Vec<_> =
        trail["entries"].as_array().into_iter().flatten().map(|line| &line["event"]).collect();
    let story = ["placed", "declined", "placed", "charged", "refund-asked", "refund-made"];
    assert_eq!(events.len(), story.len(), "{trail}");
    assert!(story.iter().all(|event| events.contains(&&json!(event))), "{trail}");
    let log = std::fs::read_to_string(root.path().join("log")).expect("a log");
    assert!(log.contains("order step") && !log.contains(KEY), "the key is in no log line");
}

/// Sends its transaction until there is an answer that says something; returns the right's name.
async fn device(api: &Api, account: usize, key: &str) -> String {
    for _ in 0..2000 {
        if let Some(answer) = buy(api, key, &format!("a{account}"), &format!("t{account}")).await {
            assert!(matches!(answer.status, 200 | 201 | 503), "{answer:?}");
            if answer.status != 503 {
                return answer.json()["id"].to_string();
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    unreachable!("no answer for account {account}")
}

/// Fifty accounts pay once each on their device, and the device sends the transaction twenty times under ten keys.
/// Roku errs and dawdles; the program is killed again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_they_buy() {
    const ACCOUNTS: usize = 50;
    const REQUESTS: usize = 20;
    let root = tempfile::tempdir().expect("a directory");
    let books = Arc::new(Books { moody: true, ..Books::default() });
    prepare(root.path(), &roku(&books).await).await;
    let mut served = serve(root.path()).await;
    price(&served.api).await;
    (0..ACCOUNTS).for_each(|account| books.pay(&format!("t{account}"), 3.99));
    let clients = (0..ACCOUNTS * REQUESTS).map(|n| {
        let (api, account) = (served.api.clone(), n % ACCOUNTS);
        let key = format!("k{account}-{}", n / ACCOUNTS / 2);
        tokio::spawn(async move { (account, device(&api, account, &key).await) })
    });
    let clients: Vec<_> = clients.collect();
    for _ in 0..4 {
        // Somewhere in the middle of it: when Roku was asked so many times more. The program's own log would not do, it
        // loses its last lines with the process.
        let asked = || *books.asked.lock().expect("no panic");
        let enough = asked() + ACCOUNTS as u64 / 6;
        let over = || clients.iter().all(JoinHandle::is_finished);
        until("some sales", async || (asked() >= enough || over()).then_some(())).await;
        served.process.kill().await.expect("SIGKILL");
        served = serve(root.path()).await;
    }
    let mut rights: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for client in clients {
        let (account, id) = client.await.expect("no panic");
        rights.entry(account).or_default().insert(id);
    }
    check(&served, &rights).await;
}

/// One right for each account, and a trail that ends with its charge.
async fn check(served: &Served, rights: &BTreeMap<usize, BTreeSet<String>>) {
    for (account, ids) in rights {
        let held = served.api.get(&format!("/v1/viewers/a{account}/entitlements")).await.json();
        let held = held["entitlements"].as_array().expect("a list").clone();
        assert_eq!((held.len(), ids.len()), (1, 1), "account {account}: {held:?}, told of {ids:?}");
        assert_eq!(Some(&held[0]["id"].to_string()), ids.first());
        let trail = served.api.get(&format!("/v1/viewers/a{account}/audit")).await.json();
        let lines = trail["entries"].as_array().expect("a list").clone();
        let events: Vec<_> = lines.iter().map(|line| (&line["event"], &line["order"])).collect();
        let id = &held[0]["id"];
        assert_eq!(events, [(&json!("placed"), id), (&json!("charged"), id)], "account {account}");
        assert_eq!(lines[1]["reference"], json!(format!("t{account}")));
    }
}
