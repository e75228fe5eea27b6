//! What every source promises, as one suite that each of them passes.

mod origin;
mod worlds;

use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_sdk_s3::config::SharedCredentialsProvider;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use media::ByteRange;
use sourcing::{Opened, Reason, Source, SourceError, Want};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const OBJECT: &str = "bbb/00000000000000ff/v720.mp4";
const LEN: u64 = 300_000;

/// A source with a store behind it that the test can fill and break.
trait World: Sync {
    fn source(&self) -> &dyn Source;

    /// Puts an object there, replacing what was there.
    fn put<'a>(&'a self, object: &'a str, bytes: Bytes) -> BoxFuture<'a, ()>;

    /// Puts an object there whose transfers stop half-way until [`World::break_off`].
    fn put_held(&self, _object: &str, _bytes: Bytes) {}

    /// Makes the second half of a held object impossible to read.
    fn break_off(&self, _object: &str) {}

    /// Transfers of an object that are running, seen from the store's side.
    fn transfers(&self, _object: &str) -> usize {
        0
    }
}

fn data(len: u64) -> Bytes {
    (0..len).map(|i| (i % 251) as u8).collect()
}

fn want(range: Option<(u64, u64)>, object_len: Option<u64>) -> Want {
    let range = range.map(|(start, end)| ByteRange::new(start, end).expect("not empty"));
    Want { object_len, range, ..Want::object(OBJECT.to_owned()) }
}

async fn read(source: &dyn Source, want: &Want) -> Result<Vec<u8>, Reason> {
    let opened = source.open(want).await.map_err(|error| error.reason)?;
    let len = opened.len;
    let (got, ended) = collect(opened).await;
    ended.map_err(|error| error.reason)?;
    assert_eq!(got.len() as u64, len, "as many bytes as promised");
    Ok(got)
}

async fn collect(mut opened: Opened) -> (Vec<u8>, Result<(), SourceError>) {
    let mut got = Vec::new();
    while let Some(chunk) = opened.body.next().await {
        match chunk {
            Ok(chunk) => got.extend_from_slice(&chunk),
            Err(error) => return (got, Err(error)),
        }
    }
    (got, Ok(()))
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Exactly the bytes that were asked for, or the reason why not.
async fn answers(world: &dyn World) {
    let source = world.source();
    let bytes = data(LEN);
    world.put(OBJECT, bytes.clone()).await;
    world.put("bbb/00000000000000ff/empty", Bytes::new()).await;
    let slice = |start: u64, end: u64| Ok(bytes[start as usize..end as usize].to_vec());
    for known in [None, Some(LEN)] {
        assert_eq!(read(source, &want(None, known)).await, slice(0, LEN), "whole, length {known:?}");
        for (start, end) in [(0, 1), (0, LEN), (1, LEN), (100_000, 200_001), (LEN - 1, LEN)] {
            let got = read(source, &want(Some((start, end)), known)).await;
            assert_eq!(got, slice(start, end), "{start}-{end}, length {known:?}");
        }
    }
    let tail = want(Some((1_000, LEN)), Some(LEN)).tail(5_000).expect("something is left");
    assert_eq!(read(source, &tail).await, slice(6_000, LEN), "a resumed transfer");
    let empty = Want::object("bbb/00000000000000ff/empty".to_owned());
    assert_eq!(read(source, &empty).await, Ok(Vec::new()), "an empty object");

    let absent = Want::object("bbb/00000000000000ff/absent".to_owned());
    assert_eq!(read(source, &absent).await, Err(Reason::NotFound));
    let climbing = Want::object("bbb/../../etc/passwd".to_owned());
    assert_eq!(read(source, &climbing).await, Err(Reason::Unsupported));
    for (range, promised) in
        [(None, LEN + 1), (None, LEN - 1), (Some((0, 10)), LEN + 1), (Some((0, 10)), LEN - 1)]
    {
        let got = read(source, &want(range, Some(promised))).await;
        assert_eq!(got, Err(Reason::Changed), "{range:?} of an object promised with {promised}");
    }
    for range in [(LEN, LEN + 1), (LEN - 1, LEN + 1), (LEN + 5, LEN + 9)] {
        let got = read(source, &want(Some(range), None)).await;
        assert_eq!(got, Err(Reason::Changed), "{range:?} of {LEN}");
    }
    world.put(OBJECT, data(LEN / 2)).await;
    assert_eq!(
        read(source, &want(Some((0, 10)), Some(LEN))).await,
        Err(Reason::Changed),
        "replaced by a shorter one"
    );
}

/// A body that breaks off says so; a reader that walks away is noticed.
async fn breaks(world: &dyn World) {
    let source = world.source();
    let bytes = data(8_000_000);
    let all = want(None, Some(bytes.len() as u64));
    world.put_held(OBJECT, bytes.clone());
    let opened = source.open(&all).await.expect("opened");
    world.break_off(OBJECT);
    let (got, ended) = collect(opened).await;
    assert_eq!(ended.map_err(|error| error.reason), Err(Reason::Cut));
    assert!(got.len() < bytes.len() && bytes.starts_with(&got), "{} bytes came", got.len());

    world.put_held(OBJECT, bytes);
    let mut opened = source.open(&all).await.expect("opened");
    assert!(opened.body.next().await.is_some_and(|chunk| chunk.is_ok()));
    assert_eq!(world.transfers(OBJECT), 1);
    drop(opened);
    until("the transfer has ended", || world.transfers(OBJECT) == 0).await;
}

#[tokio::test]
async fn a_directory_keeps_the_contract() {
    let world = worlds::Directory::new();
    answers(&world).await;
    breaks(&world).await;
}

#[tokio::test]
async fn an_http_origin_keeps_the_contract() {
    let world = worlds::Http::plain().await;
    answers(&world).await;
    breaks(&world).await;
}

#[tokio::test]
async fn an_https_origin_keeps_the_contract() {
    let world = worlds::Http::tls().await;
    answers(&world).await;
    breaks(&world).await;
}

#[tokio::test]
async fn s3_keeps_the_contract() {
    let world = worlds::S3::new().await;
    answers(&world).await;
    breaks(&world).await;
}

#[tokio::test]
async fn another_peoples_s3_server_agrees() {
    match worlds::Ministack::start().await {
        Some(world) => answers(&world).await,
        None => println!("skipped: target/tools/ministack is not installed"),
    }
}

#[tokio::test]
async fn an_origins_refusals_keep_their_meaning() {
    let (http, s3) = (worlds::Http::plain().await, worlds::S3::new().await);
    for (status, over_http, over_s3) in [
        (403, Reason::Refused, Reason::Refused),
        (404, Reason::NotFound, Reason::NotFound),
        (302, Reason::Refused, Reason::Refused),
        (429, Reason::Throttled, Reason::Throttled),
        (500, Reason::Unavailable, Reason::Unavailable),
        (503, Reason::Throttled, Reason::Throttled),
    ] {
        let object = Want::object(format!("status/{status}"));
        assert_eq!(read(http.source(), &object).await, Err(over_http), "{status}");
        assert_eq!(read(s3.source(), &object).await, Err(over_s3), "{status}");
    }
    // Answers that look well but are not what was asked for.
    http.put("deaf/x", data(100)).await;
    let part = Want { range: ByteRange::new(10, 20), ..Want::object("deaf/x".to_owned()) };
    assert_eq!(read(http.source(), &part).await, Err(Reason::Unsupported), "an origin that ignores ranges");
    http.put("gzip/x", data(100)).await;
    let packed = Want::object("gzip/x".to_owned());
    assert_eq!(read(http.source(), &packed).await, Err(Reason::Unsupported), "a compressed answer");
}

/// The error of a question that is refused.
async fn refused(source: &dyn Source, object: &str) -> SourceError {
    let error = source.open(&Want::object(object.to_owned())).await.expect_err("refused");
    for secret in [worlds::SECRET, "s3cret", "Signature="] {
        assert!(!format!("{error} {error:?}").contains(secret), "{error:?}");
    }
    error
}

#[tokio::test]
async fn an_origin_that_asks_for_a_pause_is_understood() {
    let (http, s3) = (worlds::Http::plain().await, worlds::S3::new().await);
    for source in [http.source(), s3.source()] {
        for status in [429, 503] {
            let error = refused(source, &format!("status/{status}/7")).await;
            assert_eq!((error.reason, error.retry_after), (Reason::Throttled, Some(Duration::from_secs(7))));
            assert_eq!(refused(source, &format!("status/{status}")).await.retry_after, None);
        }
    }
}

#[tokio::test]
async fn a_refusal_says_what_to_do_and_no_secret() {
    let (http, s3) = (worlds::Http::plain().await, worlds::S3::new().await);
    for (source, object, words) in [
        (http.source(), "status/302", ["to elsewhere.example", "redirects are not followed"]),
        (http.source(), "status/401", ["401", "no credentials that it knows"]),
        (http.source(), "status/403/MissingKey", ["(MissingKey)", "expired"]),
        (http.source(), "status/403/Skewed", ["s apart", "check this machine's time"]),
        (s3.source(), "status/403/InvalidAccessKeyId", ["InvalidAccessKeyId", "expired"]),
        (
            s3.source(),
            "status/403/RequestTimeTooSkewed",
            ["RequestTimeTooSkewed", "check this machine's time"],
        ),
    ] {
        let error = refused(source, object).await;
        assert_eq!(error.reason, Reason::Refused, "{error}");
        assert!(words.iter().all(|words| error.detail.contains(words)), "{object}: {error}");
    }
}

#[test]
fn what_is_printed_of_options_holds_no_secret() {
    let printed = worlds::printed_options();
    assert!(printed.contains("films") && printed.contains("x-origin-secret"), "{printed}");
    for secret in [worlds::SECRET, "s3cret"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

#[tokio::test]
async fn without_credentials_s3_says_so() {
    let nobody = ProfileFileCredentialsProvider::builder().profile_name("nobody-of-this-name").build();
    let s3 = worlds::S3::with(SharedCredentialsProvider::new(nobody)).await;
    let error = refused(s3.source(), OBJECT).await;
    assert_eq!(error.reason, Reason::Refused);
    assert!(error.detail.contains("check the key files"), "{error}");
}

/// An origin that answers once on each connection and then closes it when it hears of the next question, so that
/// the client must find out in the middle of asking.
#[tokio::test]
async fn a_kept_connection_that_dies_costs_nobody_anything() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let source = worlds::Http::at(listener.local_addr().expect("an address").port());
    let serving = tokio::spawn(async move {
        for _ in 0..2 {
            let (mut socket, _) = listener.accept().await.expect("accepted");
            let (mut head, mut answered) = ([0; 4096], false);
            while socket.read(&mut head).await.is_ok_and(|read| read > 0) {
                if std::mem::replace(&mut answered, true) {
                    break;
                }
                socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.expect("sent");
            }
        }
    });
    for _ in 0..2 {
        assert_eq!(read(&source, &want(None, None)).await.as_deref(), Ok(&b"ok"[..]));
    }
    drop(source);
    serving.await.expect("both connections were used");
}

#[tokio::test]
async fn an_origin_that_is_not_there_is_unavailable() {
    let world = worlds::Http::plain().await;
    world.stop();
    until("the origin is gone", || world.is_stopped()).await;
    assert_eq!(read(world.source(), &want(None, None)).await, Err(Reason::Unavailable));
}

#[tokio::test]
async fn an_origin_with_a_strangers_certificate_is_unavailable() {
    let world = worlds::Http::untrusted().await;
    world.put(OBJECT, data(10)).await;
    assert_eq!(read(world.source(), &want(None, None)).await, Err(Reason::Unavailable));
}

#[tokio::test]
async fn static_headers_and_signatures_are_sent() {
    let world = worlds::Http::signed(false).await;
    world.put(OBJECT, data(10)).await;
    assert_eq!(read(world.source(), &want(None, None)).await, Ok(data(10).to_vec()));
    let (query, header) = world.last_request();
    assert_eq!(header.as_deref(), Some("s3cret"));
    assert!(query.starts_with("Expires=4600&Signature="), "{query}");
    assert!(query.ends_with("&Key-Pair-Id=K2JCJMDEHXQW5F&Hash-Algorithm=SHA256"), "{query}");

    let world = worlds::Http::signed(true).await;
    world.put(OBJECT, data(10)).await;
    let query = async |now: u64| {
        worlds::set_clock(now);
        assert!(read(world.source(), &want(None, None)).await.is_ok());
        world.last_request().0
    };
    let first = query(1_000).await;
    assert!(first.starts_with("Policy="), "{first}");
    assert_eq!(query(2_799).await, first, "one signature serves until half its life");
    let second = query(2_800).await;
    assert_ne!(second, first, "and is renewed then");
    assert_eq!(query(2_999).await, second);
    let third = query(3_000).await;
    assert!(third.contains("Key-Pair-Id=K3D5EWEUDCCXON"), "another key took over at once: {third}");
}
