//! What a viewer says of its hurry, and what one with the key sees of the inside.

use std::sync::Arc;

use front::{Debugging, Explain, Explaining, Unexplained};

use crate::client::Wire;
use crate::world::{Choice, World};

#[tokio::test]
async fn a_report_changes_no_answer_and_is_counted_and_logged() {
    let mut world = World::new().await;
    let mut wire = Wire::open(world.address()).await;
    let path = world.path("v720/0.m4s");
    let bytes = world.bytes("v720/0.m4s").clone();
    for (query, fields, cached, urgency, needed_in) in [
        ("?CMCD=bl%3D2000%2Cdl%3D1500%2Csid%3D%22a%22", "", false, Some("deadline"), Some(1500)),
        ("?CMCD=su%2Crtp%3D900", "", true, Some("startup"), Some(0)),
        ("", "CMCD-Request: bl=17800\r\n", true, Some("buffer"), Some(17_800)),
        ("", "CMCD-Request: bl=17800\r\nCMCD-Status: bs\r\n", true, Some("starved"), Some(0)),
        ("", "CMCD-Request: mtp=900\r\n", true, Some("unsaid"), None),
        ("?CMCD=%", "", true, Some("malformed"), None),
        ("", "CMCD-Request: bl=,\r\n", true, Some("malformed"), None),
        ("?nonsense=%", "CMCD-Session: sid=\"x\"\r\n", true, None, None),
    ] {
        let reply = wire.get(&format!("{path}{query}"), fields).await;
        assert_eq!((reply.status, reply.body.len()), (200, bytes.len()), "{query} {fields}");
        assert!(reply.body == bytes, "{query} {fields}: other bytes");
        assert_eq!(reply.field("cache-status").contains("hit"), cached, "one entry: {query} {fields}");
        let line = world.line().await;
        assert_eq!((line["urgency"].as_str(), line["needed_in_ms"].as_u64()), (urgency, needed_in), "{line}");
    }
    let counted = |urgency: &str| {
        world.metric(&format!("weir_front_cmcd_requests_total{{urgency=\"{urgency}\"}}")) as u64
    };
    let counts = ["deadline", "startup", "buffer", "starved", "unsaid", "malformed"].map(counted);
    assert_eq!(counts, [1, 1, 1, 1, 1, 2]);
}

struct Fixed;

impl Explain for Fixed {
    fn explain<'a>(&'a self, _path: &'a str) -> Explaining<'a> {
        Box::pin(async { Err(Unexplained::Later("not here".to_owned())) })
    }

    fn sources(&self, bytes: u64) -> String {
        format!("s3;price=0.085;bytes={bytes}")
    }
}

#[tokio::test]
async fn only_the_key_shows_the_sources() {
    let debug = Some(Debugging { key: "a-long-enough-key".to_owned(), explain: Arc::new(Fixed) });
    let world = World::with(Choice { debug, ..Choice::default() }).await;
    let mut wire = Wire::open(world.address()).await;
    let path = world.path("v720/0.m4s");
    for fields in
        ["", "Weir-Debug: \r\n", "Weir-Debug: a-long-enough-ke\r\n", "Weir-Debug: A-long-enough-key\r\n"]
    {
        let reply = wire.get(&path, fields).await;
        assert_eq!(reply.status, 200);
        assert!(!reply.fields.keys().any(|name| name.starts_with("weir-")), "{fields}: {:?}", reply.fields);
    }
    let shown = wire.get(&path, "Weir-Debug: a-long-enough-key\r\nRange: bytes=0-9\r\n").await;
    assert_eq!(shown.field("weir-sources"), "s3;price=0.085;bytes=10");
    assert_eq!(shown.field("weir-tier"), "memory");
    let lost = wire.get(&world.path("v720/9.m4s"), "Weir-Debug: a-long-enough-key\r\n").await;
    assert_eq!((lost.status, lost.field("weir-sources")), (404, "s3;price=0.085;bytes=1000000"));
    let counted =
        |result: &str| world.metric(&format!("weir_front_debug_requests_total{{result=\"{result}\"}}"));
    assert_eq!((counted("shown") as u64, counted("denied") as u64), (2, 3));
}

#[tokio::test]
async fn without_a_key_nobody_sees_them() {
    let world = World::new().await;
    let reply = Wire::open(world.address()).await.get(&world.path("v720/0.m4s"), "Weir-Debug: \r\n").await;
    assert!(!reply.fields.contains_key("weir-sources"));
}
