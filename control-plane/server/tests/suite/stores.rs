//! The contract of object stores. The directory and S3 pass the same one.

use std::process::Stdio;
use std::sync::Arc;

use bytes::Bytes;
use control_plane::adapters::directory::DirectoryStore;
use control_plane::adapters::s3::{S3Options, S3Store};
use control_plane::seams::{ObjectError, ObjectStore, Payload};
use futures_util::TryStreamExt;
use media::ByteRange;

use crate::support::{Api, skip, toolbox, until};

async fn bytes_of(
    store: &dyn ObjectStore,
    name: &str,
    range: Option<(u64, u64)>,
) -> Result<Vec<u8>, ObjectError> {
    let range = range.map(|(start, end)| ByteRange::new(start, end).expect("not empty"));
    let read = store.read(name, range).await?;
    let chunks: Vec<Bytes> = read.body.try_collect().await?;
    let bytes = chunks.concat();
    assert_eq!(read.len, bytes.len() as u64, "the length promised");
    Ok(bytes)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 % 251) as u8).collect()
}

async fn contract(store: Arc<dyn ObjectStore>) {
    let store = store.as_ref();
    let put =
        async |name: &str, bytes: &[u8]| store.put(name, Payload::Bytes(Bytes::copy_from_slice(bytes))).await;
    let missing = |name: &str| Err(ObjectError::NotFound(name.to_owned()));
    assert_eq!(bytes_of(store, "t/p/a", None).await, missing("t/p/a"));
    assert_eq!(store.list("t/").await, Ok(Vec::new()));

    assert_eq!(put("t/p/a", b"first").await, Ok(5));
    assert_eq!(bytes_of(store, "t/p/a", None).await, Ok(b"first".to_vec()));
    let before = store.read("t/p/a", None).await.expect("there").version;
    assert_eq!(put("t/p/a", b"other bytes").await, Ok(11));
    assert_eq!(bytes_of(store, "t/p/a", None).await, Ok(b"other bytes".to_vec()));
    assert_ne!(
        store.read("t/p/a", None).await.expect("there").version,
        before,
        "a new object, a new version"
    );

    for (range, expected) in [((0, 1), &b"o"[..]), ((6, 11), b"bytes"), ((0, 11), b"other bytes")] {
        assert_eq!(bytes_of(store, "t/p/a", Some(range)).await.as_deref(), Ok(expected));
    }
    for outside in [(10, 12), (11, 12), (1000, 1001)] {
        let outcome = bytes_of(store, "t/p/a", Some(outside)).await;
        assert_eq!(outcome, Err(ObjectError::Range("t/p/a".to_owned())), "{outside:?}");
    }

    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("film");
    let film = pattern(12_000_001);
    std::fs::write(&file, &film).expect("written");
    assert_eq!(store.put("t/p/b c.mp4", Payload::File(file.clone())).await, Ok(12_000_001));
    assert!(
        bytes_of(store, "t/p/b c.mp4", None).await.as_deref() == Ok(&film[..]),
        "every byte of a long file"
    );
    let range = (5_242_870, 5_242_900);
    assert_eq!(bytes_of(store, "t/p/b c.mp4", Some(range)).await.as_deref(), Ok(&film[5_242_870..5_242_900]));
    let absent = Payload::File(directory.path().join("absent"));
    assert!(matches!(store.put("t/p/c", absent).await, Err(ObjectError::Unavailable(_))));

    put("t/q/a", b"1").await.expect("stored");
    put("tt/p/a", b"1").await.expect("stored");
    let names = async |prefix: &str| {
        let list = store.list(prefix).await.expect("a list");
        list.into_iter().map(|object| (object.name, object.len)).collect::<Vec<_>>()
    };
    let own = |name: &str, len| (name.to_owned(), len);
    assert_eq!(names("t/p/").await, [own("t/p/a", 11), own("t/p/b c.mp4", 12_000_001)]);
    assert_eq!(names("t/").await.len(), 3);
    assert_eq!(names("").await.len(), 4);
    assert_eq!(names("u/").await, []);

    for bad in ["", "../a", "/a", "a//b", "t/.hidden", "a/../../b"] {
        assert!(matches!(put(bad, b"x").await, Err(ObjectError::BadName(_))), "{bad:?}");
        assert!(matches!(store.delete(bad).await, Err(ObjectError::BadName(_))), "{bad:?}");
        let read = store.read(bad, None).await.map(|read| read.len);
        assert!(matches!(read, Err(ObjectError::BadName(_))), "{bad:?}");
    }
    for name in ["t/p/a", "t/p/a", "t/p/b c.mp4", "t/q/a", "tt/p/a", "never/there"] {
        assert_eq!(store.delete(name).await, Ok(()), "{name}");
    }
    assert_eq!(names("").await, []);
}

/// Whoever reads while others write sees one of the objects whole.
async fn readers_see_whole_objects(store: Arc<dyn ObjectStore>) {
    let object = |n: u8| Bytes::from(vec![n; 300_000]);
    store.put("race/a", Payload::Bytes(object(0))).await.expect("stored");
    let writers = (1..9).map(|n| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.put("race/a", Payload::Bytes(object(n))).await })
    });
    let writers: Vec<_> = writers.collect();
    for _ in 0..20 {
        let seen = bytes_of(store.as_ref(), "race/a", None).await.expect("always there");
        assert!(seen.len() == 300_000 && seen.iter().all(|byte| *byte == seen[0]));
    }
    for writer in writers {
        writer.await.expect("no panic").expect("stored");
    }
    store.delete("race/a").await.expect("removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directory() {
    let root = tempfile::tempdir().expect("a directory");
    let store = Arc::new(DirectoryStore::open(root.path()).await.expect("opened"));
    contract(store.clone()).await;
    readers_see_whole_objects(store.clone()).await;

    // What a killed process left half written is gone at the next start and was never an object.
    std::fs::write(root.path().join(".staging/7"), "half").expect("written");
    assert_eq!(store.list("").await, Ok(Vec::new()));
    DirectoryStore::open(root.path()).await.expect("opened again");
    assert!(!root.path().join(".staging").exists());
}

/// A server that speaks S3, ended when dropped.
pub(crate) struct Server {
    address: String,
    _process: tokio::process::Child,
}

impl Server {
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) async fn bucket(&self, name: &str) {
        let made = Api::new(&self.address, None).send("PUT", &format!("/{name}"), &[], "").await;
        assert_eq!(made.status, 200);
    }
}

pub(crate) async fn server() -> Option<Server> {
    let program = toolbox().join("ministack/bin/ministack");
    if !program.is_file() {
        skip("the S3-compatible server is not in target/tools/ministack");
        return None;
    }
    // A free port, given back: the server takes a number, not a socket.
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let mut command = tokio::process::Command::new(program);
    command.env("BIND_HOST", "127.0.0.1").env("GATEWAY_PORT", port.to_string()).kill_on_drop(true);
    let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    let address = format!("127.0.0.1:{port}");
    let reach = address.clone();
    until("the S3-compatible server", async || tokio::net::TcpStream::connect(&reach).await.ok()).await;
    Some(Server { address, _process: process })
}

pub(crate) fn options(server: &Server, bucket: &str) -> S3Options {
    S3Options {
        bucket: bucket.to_owned(),
        prefix: "films/here".to_owned(),
        region: Some("us-east-1".to_owned()),
        endpoint_url: Some(format!("http://{}", server.address)),
        path_style: true,
        credentials: Some(("test".to_owned(), "test".to_owned())),
        // Low, so that the contract's long file goes up in three parts.
        multipart_threshold: 6 << 20,
        part_len: 5 << 20,
        parallel_parts: 2,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3() {
    let Some(server) = server().await else { return };
    server.bucket("films").await;
    let store = Arc::new(S3Store::new(options(&server, "films")).await);
    contract(store.clone()).await;
    readers_see_whole_objects(store).await;

    let elsewhere = S3Store::new(options(&server, "no-such-bucket")).await;
    let outcome = elsewhere.read("t/p/a", None).await.map(|read| read.len);
    assert!(
        matches!(outcome, Err(ObjectError::Unavailable(_))),
        "a missing bucket is no missing object: {outcome:?}"
    );
    let nowhere =
        S3Options { endpoint_url: Some("http://127.0.0.1:9".to_owned()), ..options(&server, "films") };
    let outcome = S3Store::new(nowhere).await.read("t/p/a", None).await.map(|read| read.len);
    assert!(matches!(outcome, Err(ObjectError::Unavailable(_))), "{outcome:?}");
}
