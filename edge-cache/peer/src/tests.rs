//! Two nodes on loopback, and a liar.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use media::{ByteRange, Digest, GroupDigests, PackageId, Part, SegmentKey};
use prometheus::Registry;
use sourcing::{Reason, SegmentWant, Source, SourceKind, Want};
use store::{DiskConfig, SegmentBody, SegmentStore, StoreConfig, Terms};

use crate::wire::{MAX_REQUEST_LEN, Request, Status, answer_head};
use crate::{Fingerprint, Gate, Identity, Link, LinkConfig, Neighbour, PeerSource};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn identity() -> Identity {
    let made = rcgen::generate_simple_self_signed(vec!["edge".to_owned()]).expect("a certificate");
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    Identity::from_pem(cert.as_bytes(), key.as_bytes()).expect("an identity")
}

fn neighbour(id: &str, address: SocketAddr, fingerprint: Fingerprint) -> Neighbour {
    Neighbour { id: id.parse().expect("a source name"), address: address.to_string(), fingerprint }
}

fn data(len: usize) -> Bytes {
    (0..len).map(|i| (i % 251) as u8).collect()
}

fn key(number: u32) -> SegmentKey {
    SegmentKey {
        title: "bbb".parse().expect("a title"),
        package: PackageId(1),
        rendition: "v720".parse().expect("a rendition"),
        part: Part::Media(number),
    }
}

fn want(number: u32, bytes: &[u8], start: u64, end: u64) -> Want {
    let range = ByteRange::new(start, end).expect("not empty");
    let (len, root) = (bytes.len() as u64, Digest::of(bytes));
    let segment = SegmentWant { key: key(number), range, len, root };
    Want {
        object: "bbb/0000000000000001/v720.mp4".into(),
        object_len: None,
        range: None,
        segment: Some(segment),
    }
}

async fn memory_store() -> Arc<SegmentStore> {
    SegmentStore::open(&StoreConfig::default(), Vec::new(), &Registry::new()).await.expect("a store")
}

/// A store that is served whatever the load.
fn open_to_all(store: Arc<SegmentStore>) -> (Arc<SegmentStore>, Gate) {
    (store, Arc::new(|| true))
}

fn keep(store: &SegmentStore, number: u32, bytes: &Bytes) {
    store.insert(&key(number), Arc::new(GroupDigests::of(bytes)), SegmentBody::of(bytes), &Terms::default());
}

/// A node that holds segments, and one that knows it as its only neighbour.
struct Pair {
    provider: Link,
    reader: Link,
    registry: Registry,
}

impl Pair {
    async fn new(store: Arc<SegmentStore>, config: LinkConfig) -> Self {
        let (provider_id, reader_id) = (identity(), identity());
        let known = neighbour("reader", LOOPBACK, reader_id.fingerprint());
        let registry = Registry::new();
        let provider =
            Link::bind(&config, LOOPBACK, &provider_id, vec![known], open_to_all(store), &registry)
                .expect("bound");
        let known = neighbour("provider", provider.address(), provider_id.fingerprint());
        let empty = memory_store().await;
        let reader =
            Link::bind(&config, LOOPBACK, &reader_id, vec![known], open_to_all(empty), &Registry::new())
                .expect("bound");
        connected(&reader.sources()[0]).await;
        Self { provider, reader, registry }
    }

    fn source(&self) -> &PeerSource {
        &self.reader.sources()[0]
    }
}

/// Waits until a link has a live connection to its only neighbour.
async fn connected(source: &PeerSource) {
    until("the neighbour is reached", || source.is_connected()).await;
}

async fn read(source: &PeerSource, want: &Want) -> Result<Vec<u8>, Reason> {
    let mut opened = source.open(want).await.map_err(|error| error.reason)?;
    let mut out = Vec::new();
    while let Some(chunk) = opened.body.next().await {
        out.extend_from_slice(&chunk.map_err(|error| error.reason)?);
    }
    assert_eq!(out.len() as u64, opened.len, "as many bytes as promised");
    Ok(out)
}

/// The value of one series in a registry's text.
fn metric(registry: &Registry, series: &str) -> u64 {
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned));
    line.unwrap_or_else(|| panic!("{series} in\n{text}")).parse().expect("a number")
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn a_neighbours_segment_arrives_whole_and_in_ranges() {
    let store = memory_store().await;
    let bytes = data(3_000_000);
    keep(&store, 7, &bytes);
    keep(&store, 8, &bytes.slice(..100));
    let pair = Pair::new(store, LinkConfig::default()).await;
    assert_eq!((pair.source().id().as_str(), pair.source().kind()), ("provider", SourceKind::Peer));
    for (start, end) in [(0, 3_000_000), (1_000_000, 1_000_001), (16_384, 32_768), (2_999_999, 3_000_000)] {
        let got = read(pair.source(), &want(7, &bytes, start as u64, end as u64)).await;
        assert_eq!(got.as_deref(), Ok(&bytes[start..end]), "{start}-{end}");
    }
    assert_eq!(read(pair.source(), &want(8, &bytes[..100], 0, 100)).await.as_deref(), Ok(&bytes[..100]));
    let served = r#"weir_peer_serves_total{outcome="whole"}"#;
    until("five answers are counted", || metric(&pair.registry, served) == 5).await;
    let connections = r#"weir_peer_connections{direction="in"}"#;
    until("both connections are warm", || metric(&pair.registry, connections) == 2).await;
}

#[tokio::test]
async fn a_segment_on_disk_is_served_from_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = DiskConfig { path: dir.path().into(), ..DiskConfig::default() };
    let config = StoreConfig { memory_bytes: 0.into(), disk: vec![disk], ..StoreConfig::default() };
    let store = SegmentStore::open(&config, Vec::new(), &Registry::new()).await.expect("a store");
    let bytes = data(1_000_000);
    keep(&store, 7, &bytes);
    store.flush().await;
    let pair = Pair::new(store, LinkConfig::default()).await;
    let got = read(pair.source(), &want(7, &bytes, 500_000, 900_000)).await;
    assert_eq!(got.as_deref(), Ok(&bytes[500_000..900_000]));
}

#[tokio::test]
async fn a_part_is_served_when_all_of_it_is_held() {
    let (store, bytes) = (memory_store().await, data(200_000));
    let whole = SegmentBody::of(&bytes);
    let some = (0..13).map(|group| whole.group(group).filter(|_| (2..8).contains(&group)).cloned());
    let some = SegmentBody::partial(200_000, some.collect()).expect("its groups");
    store.insert(&key(7), Arc::new(GroupDigests::of(&bytes)), some, &Terms::default());
    let pair = Pair::new(store, LinkConfig::default()).await;
    let got = read(pair.source(), &want(7, &bytes, 33_000, 131_072)).await;
    assert_eq!(got.as_deref(), Ok(&bytes[33_000..131_072]));
    for (start, end) in [(32_767, 40_000), (131_000, 131_073), (0, 10)] {
        assert_eq!(read(pair.source(), &want(7, &bytes, start, end)).await, Err(Reason::NotFound));
    }
}

#[tokio::test]
async fn a_loaded_node_says_that_it_is_busy() {
    let (store, bytes, config) = (memory_store().await, data(50_000), LinkConfig::default());
    keep(&store, 7, &bytes);
    let (open, registry) = (Arc::new(AtomicBool::new(false)), Registry::new());
    let (provider_id, reader_id) = (identity(), identity());
    let known = neighbour("reader", LOOPBACK, reader_id.fingerprint());
    let gate = Arc::clone(&open);
    let guarded: (_, Gate) = (store, Arc::new(move || gate.load(Ordering::Relaxed)));
    let provider =
        Link::bind(&config, LOOPBACK, &provider_id, vec![known], guarded, &registry).expect("bound");
    let known = neighbour("provider", provider.address(), provider_id.fingerprint());
    let empty = open_to_all(memory_store().await);
    let reader =
        Link::bind(&config, LOOPBACK, &reader_id, vec![known], empty, &Registry::new()).expect("bound");
    let source = &reader.sources()[0];
    connected(source).await;
    assert_eq!(read(source, &want(7, &bytes, 0, 10)).await, Err(Reason::Throttled));
    open.store(true, Ordering::Relaxed);
    assert_eq!(read(source, &want(7, &bytes, 0, 10)).await.as_deref(), Ok(&bytes[..10]));
}

#[tokio::test]
async fn what_a_neighbour_does_not_hold_it_says_so() {
    let store = memory_store().await;
    let bytes = data(50_000);
    keep(&store, 7, &bytes);
    let pair = Pair::new(store, LinkConfig::default()).await;
    assert_eq!(read(pair.source(), &want(8, &bytes, 0, 10)).await, Err(Reason::NotFound), "another segment");
    let other = data(49_999);
    assert_eq!(read(pair.source(), &want(7, &other, 0, 10)).await, Err(Reason::NotFound), "other bytes");
    let index = Want { segment: None, ..want(7, &bytes, 0, 10) };
    assert_eq!(read(pair.source(), &index).await, Err(Reason::Unsupported), "not a segment");
    assert_eq!(
        read(pair.source(), &want(7, &bytes, 0, 10)).await.as_deref(),
        Ok(&bytes[..10]),
        "still friends"
    );
}

#[tokio::test]
async fn a_full_neighbour_says_come_later() {
    let store = memory_store().await;
    let bytes = data(8_000_000);
    keep(&store, 7, &bytes);
    // A window smaller than the segment: the first transfer cannot end while nobody reads it.
    let window = 64 * 1024;
    let config = LinkConfig {
        max_uploads: 1,
        receive_window: window.into(),
        send_window: window.into(),
        ..LinkConfig::default()
    };
    let pair = Pair::new(store, config).await;
    let slow = want(7, &bytes, 0, 8_000_000);
    let first = pair.source().open(&slow).await.expect("opened");
    assert_eq!(read(pair.source(), &want(7, &bytes, 0, 10)).await, Err(Reason::Throttled));
    // Walking away stops the sender, and its place is free again.
    drop(first);
    let stopped = r#"weir_peer_serves_total{outcome="stopped"}"#;
    until("the sender noticed", || metric(&pair.registry, stopped) == 1).await;
    assert!(metric(&pair.registry, r#"weir_peer_bytes_total{direction="out"}"#) < 1_000_000);
    assert_eq!(read(pair.source(), &want(7, &bytes, 0, 10)).await.as_deref(), Ok(&bytes[..10]));
}

#[tokio::test]
async fn a_crowded_node_takes_no_more_connections_and_serves_those_it_has() {
    let store = memory_store().await;
    let bytes = data(50_000);
    keep(&store, 7, &bytes);
    let config = LinkConfig { max_connections: 2, connections: 3, ..LinkConfig::default() };
    let pair = Pair::new(store, config).await;
    let connections = r#"weir_peer_connections{direction="in"}"#;
    until("the places are taken", || metric(&pair.registry, connections) == 2).await;
    until("one was refused", || metric(&pair.registry, "weir_peer_refused_handshakes_total") >= 1).await;
    assert_eq!(metric(&pair.registry, connections), 2);
    assert_eq!(read(pair.source(), &want(7, &bytes, 0, 10)).await.as_deref(), Ok(&bytes[..10]));
}

#[tokio::test]
async fn strangers_are_refused_in_both_directions() {
    let store = memory_store().await;
    let bytes = data(50_000);
    keep(&store, 7, &bytes);
    let config = LinkConfig::default();
    let (provider_id, friend_id, stranger_id) = (identity(), identity(), identity());
    let known = neighbour("friend", LOOPBACK, friend_id.fingerprint());
    let registry = Registry::new();
    let provider = Link::bind(&config, LOOPBACK, &provider_id, vec![known], open_to_all(store), &registry)
        .expect("bound");
    let link = async |identity: &Identity, pinned: Fingerprint| {
        let known = neighbour("provider", provider.address(), pinned);
        Link::bind(
            &config,
            LOOPBACK,
            identity,
            vec![known],
            open_to_all(memory_store().await),
            &Registry::new(),
        )
        .expect("bound")
    };
    let friend = link(&friend_id, provider_id.fingerprint()).await;
    connected(&friend.sources()[0]).await;
    assert_eq!(read(&friend.sources()[0], &want(7, &bytes, 0, 10)).await.as_deref(), Ok(&bytes[..10]));
    // A key the provider does not know, and a provider that is not who we think it is.
    let stranger = link(&stranger_id, provider_id.fingerprint()).await;
    let deceived = link(&friend_id, stranger_id.fingerprint()).await;
    for source in [&stranger.sources()[0], &deceived.sources()[0]] {
        let mut ended = Err(Reason::Unavailable);
        while ended == Err(Reason::Unavailable) {
            // Not connected yet; with TLS 1.3 a refused client learns of it a moment after its handshake.
            ended = read(source, &want(7, &bytes, 0, 10)).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(ended, Err(Reason::Refused));
    }
    until("refusals are counted", || metric(&registry, "weir_peer_refused_handshakes_total") >= 2).await;
    assert_eq!(metric(&registry, r#"weir_peer_serves_total{outcome="whole"}"#), 1, "no byte for strangers");
}

/// How the liar spoils an honest answer.
type Spoil = fn(Vec<u8>) -> Vec<u8>;

/// A pinned neighbour that answers every request with a spoiled answer.
fn liar(identity: &Identity, friend: Fingerprint, bytes: Bytes, spoil: Spoil) -> SocketAddr {
    let tls = crate::tls::server(identity, [friend].into()).expect("a configuration");
    let config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    let endpoint = quinn::Endpoint::server(config, LOOPBACK).expect("bound");
    let address = endpoint.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let connection = incoming.await.expect("a connection");
            while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                let message = recv.read_to_end(MAX_REQUEST_LEN).await.expect("a request");
                let request = Request::decode(&message).expect("a good request");
                let mut answer = answer_head(Status::Found, GroupDigests::of(&bytes).as_slice()).to_vec();
                let groups = request.groups();
                let end = (groups.end * media::GROUP_LEN).min(request.len);
                answer.extend_from_slice(&bytes[(groups.start * media::GROUP_LEN) as usize..end as usize]);
                // The reader may hang up before the end; that is its right.
                let _ = send.write_all(&spoil(answer)).await;
                let _ = send.finish();
            }
        }
    });
    address
}

#[tokio::test]
async fn a_liars_bytes_never_get_out() {
    let bytes = data(200_000);
    let (liar_id, reader_id) = (identity(), identity());
    for (spoil, reason, verified) in [
        ((|answer| answer) as Spoil, None, 200_000),
        (
            |mut answer| {
                answer[2 + 13 * 32] ^= 1;
                answer
            },
            Some(Reason::Corrupt),
            0,
        ),
        (
            |mut answer| {
                let last = answer.len() - 1;
                answer[last] ^= 0x80;
                answer
            },
            Some(Reason::Corrupt),
            196_608,
        ),
        (
            |mut answer| {
                answer[10] ^= 1;
                answer
            },
            Some(Reason::Corrupt),
            0,
        ),
        (
            |mut answer| {
                answer.truncate(100_000);
                answer
            },
            Some(Reason::Cut),
            98_304,
        ),
        (|_| vec![9, 9], Some(Reason::Corrupt), 0),
        (|_| vec![], Some(Reason::Cut), 0),
    ] {
        let address = liar(&liar_id, reader_id.fingerprint(), bytes.clone(), spoil);
        let known = neighbour("liar", address, liar_id.fingerprint());
        let (config, store) = (LinkConfig::default(), memory_store().await);
        let reader =
            Link::bind(&config, LOOPBACK, &reader_id, vec![known], open_to_all(store), &Registry::new())
                .expect("bound");
        connected(&reader.sources()[0]).await;
        let (mut got, mut ended) = (Vec::new(), None);
        match reader.sources()[0].open(&want(7, &bytes, 0, 200_000)).await {
            Err(error) => ended = Some(error.reason),
            Ok(mut opened) => {
                while let Some(chunk) = opened.body.next().await {
                    match chunk {
                        Ok(chunk) => got.extend_from_slice(&chunk),
                        Err(error) => ended = Some(error.reason),
                    }
                }
            }
        }
        assert_eq!((ended, got.len()), (reason, verified));
        assert!(bytes.starts_with(&got), "only right bytes, whatever was sent");
    }
}

#[tokio::test]
async fn a_neighbour_that_dies_is_noticed_and_found_again_when_it_is_back() {
    let store = memory_store().await;
    let bytes = data(50_000);
    keep(&store, 7, &bytes);
    let config = LinkConfig { connect_timeout: Duration::from_millis(300), ..LinkConfig::default() };
    let (provider_id, reader_id) = (identity(), identity());
    let known = || vec![neighbour("reader", LOOPBACK, reader_id.fingerprint())];
    let first = Link::bind(
        &config,
        LOOPBACK,
        &provider_id,
        known(),
        open_to_all(Arc::clone(&store)),
        &Registry::new(),
    );
    let first = first.expect("bound");
    let address = first.address();
    let provider = vec![neighbour("provider", address, provider_id.fingerprint())];
    let empty = memory_store().await;
    let reader = Link::bind(&config, LOOPBACK, &reader_id, provider, open_to_all(empty), &Registry::new())
        .expect("bound");
    let source = &reader.sources()[0];
    connected(source).await;
    assert_eq!(read(source, &want(7, &bytes, 0, 10)).await.as_deref(), Ok(&bytes[..10]));

    first.close(Duration::from_secs(1)).await;
    drop(first);
    let dead = read(source, &want(7, &bytes, 0, 10)).await;
    assert!(matches!(dead, Err(Reason::Timeout | Reason::Unavailable)), "{dead:?}");

    let again = || {
        Link::bind(&config, address, &provider_id, known(), open_to_all(Arc::clone(&store)), &Registry::new())
    };
    let mut second = again();
    while second.is_err() {
        // The system frees the port a moment later.
        tokio::time::sleep(Duration::from_millis(5)).await;
        second = again();
    }
    connected(source).await;
    assert_eq!(read(source, &want(7, &bytes, 0, 10)).await.as_deref(), Ok(&bytes[..10]));
}

#[tokio::test]
async fn a_neighbour_that_is_not_there_makes_nobody_wait() {
    let known = vec![neighbour("nobody", ([127, 0, 0, 1], 1).into(), identity().fingerprint())];
    let store = memory_store().await;
    let config = LinkConfig::default();
    let link = Link::bind(&config, LOOPBACK, &identity(), known, open_to_all(store), &Registry::new())
        .expect("bound");
    let want = want(7, &data(100), 0, 10);
    let opened = link.sources()[0].open(&want).now_or_never().expect("an answer at once");
    assert_eq!(opened.map_err(|error| error.reason).err(), Some(Reason::Unavailable));
}

#[tokio::test]
async fn a_link_that_steps_aside_frees_its_port_and_can_come_back() {
    let store = memory_store().await;
    let bytes = data(100_000);
    keep(&store, 7, &bytes);
    let config = LinkConfig { reconnect_longest: Duration::from_millis(250), ..LinkConfig::default() };
    let pair = Pair::new(store, config).await;
    let (provider, connections) = (&pair.provider, r#"weir_peer_connections{direction="in"}"#);
    assert!(std::net::UdpSocket::bind(provider.address()).is_err(), "the port is taken");
    provider.step_aside().await.expect("another socket");
    until("the port is free", || std::net::UdpSocket::bind(provider.address()).is_ok()).await;
    until("the neighbour heard goodbye", || !pair.source().is_connected()).await;
    assert_eq!(metric(&pair.registry, connections), 0);
    provider.come_back().expect("the port is free");
    connected(pair.source()).await;
    assert_eq!(read(pair.source(), &want(7, &bytes, 0, 100_000)).await.as_deref(), Ok(&bytes[..]));
}
