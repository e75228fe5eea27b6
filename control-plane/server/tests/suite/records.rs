//! The contract of record stores, and of what is built on them. redb and DynamoDB pass the same one: the latter on
//! every server that is here to speak its protocol over a socket.

use std::sync::Arc;

use control::ingest::{Done, EffectId, Event, Failure};
use control_api::rest::{Entitlement, EntitlementKind, Stage};
use control_plane::adapters::dynamodb::DynamoRecords;
use control_plane::adapters::redb::RedbRecords;
use control_plane::records::{Body, Key, MAX_BODY_LEN, Records, Stretch, Write};
use control_plane::seams::{Catalog, CatalogEntry, IngestRecord, Journal, Published, StateError};
use control_plane::state::{Held, State, keys, write};
use media::PackageId;
use serde_json::json;

use crate::dynamo;

pub(crate) fn entry(title: &str) -> CatalogEntry {
    CatalogEntry {
        title: title.parse().expect("a title"),
        name: "A film".to_owned(),
        source: "film.mp4".to_owned(),
        captions: Vec::new(),
        attribution: None,
        tags: Vec::new(),
        ingest: IngestRecord {
            package: PackageId(7),
            received_at: 1000,
            retries: 0,
            stage: Stage::Received,
            reason: None,
            lint: Vec::new(),
        },
        published: None,
        version: 0,
    }
}

/// The entry of a title that can be watched.
pub(crate) fn published(title: &str) -> CatalogEntry {
    let mut entry = entry(title);
    entry.ingest.stage = Stage::Published;
    entry.published =
        Some(Published { package: PackageId(7), at: 1000, duration_ms: 3_600_000, renditions: Vec::new() });
    entry
}

fn right(viewer: &str, id: &str, title: &str, bought_at: u64) -> Entitlement {
    Entitlement {
        id: id.parse().expect("an id"),
        viewer: viewer.parse().expect("a viewer"),
        title: title.parse().expect("a title"),
        kind: EntitlementKind::Rental,
        bought_at,
        start_by: Some(bought_at + 100),
        first_played_at: None,
        finish_by: None,
        withdrawn: None,
    }
}

async fn catalog_contract(catalog: Arc<dyn Catalog>) {
    let title = "one".parse().expect("a title");
    assert_eq!(catalog.get(&title).await, Ok(None));
    assert_eq!(catalog.list(None, 10).await, Ok(Vec::new()));

    let first = catalog.put(&entry("one")).await.expect("a new record");
    assert_eq!((first.version, catalog.get(&title).await), (1, Ok(Some(first.clone()))));
    let conflict = StateError::Conflict("title one".to_owned());
    assert_eq!(catalog.put(&entry("one")).await, Err(conflict.clone()), "a record is new once");

    let mut changed = first.clone();
    changed.name = "Another name".to_owned();
    let second = catalog.put(&changed).await.expect("the version read");
    assert_eq!((second.version, second.name.as_str()), (2, "Another name"));
    assert_eq!(catalog.put(&changed).await, Err(conflict), "a version is written over once");
    let absent = CatalogEntry { version: 3, ..entry("two") };
    assert!(catalog.put(&absent).await.is_err(), "what is not there has no version");

    for title in ["three", "two", "four"] {
        catalog.put(&entry(title)).await.expect("a new record");
    }
    let names = |entries: Vec<CatalogEntry>| {
        entries.into_iter().map(|entry| entry.title.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(catalog.list(None, 10).await.expect("a list")), ["four", "one", "three", "two"]);
    assert_eq!(names(catalog.list(Some(&title), 1).await.expect("a list")), ["three"]);
}

/// Of eight writers of one version exactly one wins.
async fn catalog_race(catalog: Arc<dyn Catalog>) {
    let first = catalog.put(&entry("race")).await.expect("a new record");
    let writers = (0..8).map(|n| {
        let (catalog, mut entry) = (Arc::clone(&catalog), first.clone());
        entry.name = format!("writer {n}");
        tokio::spawn(async move { catalog.put(&entry).await.is_ok() })
    });
    let mut won = 0;
    for writer in writers.collect::<Vec<_>>() {
        won += usize::from(writer.await.expect("no panic"));
    }
    assert_eq!(won, 1);
}

async fn journal_contract(journal: Arc<dyn Journal>) {
    let events = [
        Event::Failed {
            effect: EffectId(1),
            failure: Failure { permanent: false, detail: "why".to_owned() },
        },
        Event::Done { effect: EffectId(2), done: Done::Transcoded },
        Event::Retried,
    ];
    let package = PackageId(9);
    assert_eq!(journal.load(package).await, Ok(Vec::new()));
    for (at, event) in (0..).zip(&events) {
        journal.append(package, at, event).await.expect("the next event");
    }
    assert_eq!(journal.load(package).await, Ok(events.to_vec()));
    for wrong in [0, 2, 4, u64::MAX] {
        let outcome = journal.append(package, wrong, &Event::Retried).await;
        assert!(matches!(outcome, Err(StateError::Conflict(_))), "{wrong}: {outcome:?}");
    }
    for other in [PackageId(0), PackageId(8), PackageId(10), PackageId(u64::MAX)] {
        assert_eq!(journal.load(other).await, Ok(Vec::new()), "journals do not mix");
    }
}

fn body(text: &str) -> Body {
    Body { bytes: text.as_bytes().to_vec(), keep_until: None }
}

fn conflict(outcome: &Result<(), StateError>) -> bool {
    matches!(outcome, Err(StateError::Conflict(_)))
}

/// Single writes: each outcome of each kind, and what stands afterwards.
async fn single_writes(store: &dyn Records) {
    let key = Key::new("single", "a");
    let text = async || store.get(&key).await.map(|found| found.map(|r| (r.version, r.body)));
    let stands = |version, text: &str| Ok(Some((version, text.as_bytes().to_vec())));
    assert_eq!(text().await, Ok(None));
    for absent in [
        Write::Replace(key.clone(), 1, body("x")),
        Write::Remove(key.clone(), 1),
        Write::Require(key.clone(), 1),
    ] {
        assert!(conflict(&store.commit(std::slice::from_ref(&absent)).await), "{absent:?}");
        assert_eq!(text().await, Ok(None), "{absent:?}");
    }
    assert_eq!(store.commit(&[Write::Create(key.clone(), body("one"))]).await, Ok(()));
    assert_eq!(text().await, stands(1, "one"));
    for wrong in [
        Write::Create(key.clone(), body("one")),
        Write::Replace(key.clone(), 2, body("x")),
        Write::Remove(key.clone(), 2),
        Write::Require(key.clone(), 2),
    ] {
        assert!(conflict(&store.commit(std::slice::from_ref(&wrong)).await), "{wrong:?}");
        assert_eq!(text().await, stands(1, "one"), "{wrong:?}");
    }
    assert_eq!(store.commit(&[Write::Require(key.clone(), 1)]).await, Ok(()));
    assert_eq!(store.commit(&[Write::Replace(key.clone(), 1, body("two"))]).await, Ok(()));
    assert_eq!(text().await, stands(2, "two"));
    assert_eq!(store.commit(&[Write::Remove(key.clone(), 2)]).await, Ok(()));
    assert_eq!(text().await, Ok(None));
    assert_eq!(store.commit(&[Write::Create(key.clone(), body("again"))]).await, Ok(()));
    assert_eq!(text().await, stands(1, "again"));
    // Long since to be forgotten, and still there for whoever asks: time is the reader's business.
    let old = Body { keep_until: Some(1), ..body("old") };
    assert_eq!(store.commit(&[Write::Replace(key.clone(), 1, old)]).await, Ok(()));
    assert_eq!(text().await, stands(2, "old"));
}

/// Several writes happen all or none, whichever of them cannot.
async fn several_writes(store: &dyn Records) {
    let key = |place: &str| Key::new("several", place);
    store
        .commit(&[Write::Create(key("a"), body("1")), Write::Create(key("b"), body("1"))])
        .await
        .expect("new");
    let good = [
        Write::Create(key("c"), body("1")),
        Write::Replace(key("a"), 1, body("2")),
        Write::Require(key("b"), 1),
    ];
    for bad in
        [Write::Replace(key("d"), 1, body("2")), Write::Require(key("d"), 1), Write::Remove(key("d"), 1)]
    {
        for at in 0..=good.len() {
            let mut writes = good.to_vec();
            writes.insert(at, bad.clone());
            let outcome = store.commit(&writes).await;
            assert_eq!(outcome, Err(StateError::Conflict("several:d".to_owned())), "{bad:?} at {at}");
        }
    }
    let versions = async || {
        let found = store.list(Stretch::new("several", "", 10)).await.expect("a list");
        found.into_iter().map(|record| (record.key.place, record.version)).collect::<Vec<_>>()
    };
    assert_eq!(versions().await, [("a".to_owned(), 1), ("b".to_owned(), 1)], "nothing was done by halves");
    assert_eq!(store.commit(&good).await, Ok(()));
    assert_eq!(versions().await, [("a".to_owned(), 2), ("b".to_owned(), 1), ("c".to_owned(), 1)]);
    let end = [Write::Remove(key("a"), 2), Write::Remove(key("b"), 1), Write::Remove(key("c"), 1)];
    assert_eq!(store.commit(&end).await, Ok(()));
    assert_eq!(versions().await, []);
    let twice = [Write::Create(key("a"), body("1")), Write::Create(key("a"), body("2"))];
    for unfit in [&twice[..], &[]] {
        assert!(matches!(store.commit(unfit).await, Err(StateError::Unfit(_))));
    }
    let most: Vec<_> = (0..100).map(|n| Write::Create(key(&format!("many/{n:03}")), body("1"))).collect();
    assert_eq!(store.commit(&most).await, Ok(()), "a hundred at once");
    let long = Body { bytes: vec![b'x'; MAX_BODY_LEN], keep_until: None };
    assert_eq!(store.commit(&[Write::Create(key("long"), long.clone())]).await, Ok(()));
    assert_eq!(store.get(&key("long")).await.expect("read").expect("there").body, long.bytes);
}

/// Lists: both directions, from anywhere, prefixes, more than a page.
async fn lists(store: &dyn Records) {
    for (partition, place) in
        [("lists", "b/1"), ("lists", "b/2"), ("lists", "b/3"), ("lists", "c"), ("lists2", "b/1")]
    {
        store.commit(&[Write::Create(Key::new(partition, place), body(place))]).await.expect("new");
    }
    let places = async |stretch: Stretch<'_>| {
        let found = store.list(stretch).await.expect("a list");
        found.into_iter().map(|record| record.key.place).collect::<Vec<_>>().join(" ")
    };
    let all = Stretch::new("lists", "", 10);
    let some = Stretch { prefix: "b/", ..all };
    for (stretch, expected) in [
        (all, "b/1 b/2 b/3 c"),
        (Stretch { backwards: true, ..all }, "c b/3 b/2 b/1"),
        (Stretch { limit: 2, ..all }, "b/1 b/2"),
        (Stretch { limit: 0, ..all }, ""),
        (Stretch { after: Some("b/2"), ..all }, "b/3 c"),
        (Stretch { after: Some("b/2"), limit: 1, ..all }, "b/3"),
        (Stretch { after: Some("b/2"), backwards: true, ..all }, "b/1"),
        (Stretch { after: Some("b/22"), ..all }, "b/3 c"),
        (Stretch { after: Some("z"), ..all }, ""),
        (some, "b/1 b/2 b/3"),
        (Stretch { backwards: true, limit: 1, ..some }, "b/3"),
        (Stretch { after: Some("b/3"), ..some }, ""),
        (Stretch { after: Some("a"), ..some }, "b/1 b/2 b/3"),
        (Stretch { after: Some("z"), backwards: true, ..some }, "b/3 b/2 b/1"),
        (Stretch { partition: "none", ..all }, ""),
    ] {
        assert_eq!(places(stretch).await, expected, "{stretch:?}");
    }
    // Together longer than the megabyte that DynamoDB answers at once.
    let long = Body { bytes: vec![b'x'; 300 * 1024], keep_until: None };
    for n in 0..5 {
        store.commit(&[Write::Create(Key::new("long", n.to_string()), long.clone())]).await.expect("new");
    }
    let found = store.list(Stretch::new("long", "", 10)).await.expect("a list");
    assert_eq!(found.iter().map(|record| record.body.len()).collect::<Vec<_>>(), [300 * 1024; 5]);
}

/// Twenty at a time count one record up and take one of ten seats: nobody's count is lost, no seat is sold twice.
async fn races(store: Arc<dyn Records>) {
    const CLIENTS: usize = 20;
    let (count, seats) = (Key::new("race", "count"), Key::new("race", "seats"));
    let start = [Write::Create(count.clone(), body("0")), Write::Create(seats.clone(), body("10"))];
    store.commit(&start).await.expect("new");
    let clients = (0..CLIENTS).map(|n| {
        let (store, count, seats) = (Arc::clone(&store), count.clone(), seats.clone());
        tokio::spawn(async move {
            let number = |record: Option<control_plane::records::Record>| {
                let record = record.expect("there");
                let text = String::from_utf8(record.body).expect("text");
                (record.version, text.parse::<usize>().expect("a number"))
            };
            loop {
                let (count_version, counted) = number(store.get(&count).await.expect("read"));
                let (seats_version, left) = number(store.get(&seats).await.expect("read"));
                let mut writes =
                    vec![Write::Replace(count.clone(), count_version, body(&(counted + 1).to_string()))];
                if left > 0 {
                    writes.push(Write::Replace(seats.clone(), seats_version, body(&(left - 1).to_string())));
                    writes.push(Write::Create(Key::new("race/sold", format!("{n:02}")), body("")));
                }
                match store.commit(&writes).await {
                    Ok(()) => return left > 0,
                    Err(StateError::Conflict(_)) => tokio::task::yield_now().await,
                    Err(error) => unreachable!("{error}"),
                }
            }
        })
    });
    let mut sold = 0;
    for client in clients.collect::<Vec<_>>() {
        sold += usize::from(client.await.expect("no panic"));
    }
    let text = async |key| store.get(key).await.expect("read").expect("there").body;
    assert_eq!((sold, text(&count).await, text(&seats).await), (10, b"20".to_vec(), b"0".to_vec()));
    assert_eq!(store.list(Stretch::new("race/sold", "", 99)).await.expect("a list").len(), 10);
}

/// The first play stands, however many begin at once.
async fn first_plays(state: &State) {
    let bought = right("ann", "e1", "one", 50);
    let key = keys::right(&bought.viewer, &bought.title, &bought.id);
    let missing = state.first_play(&bought, 70, Some(170)).await;
    assert!(matches!(missing, Err(StateError::Missing(_))), "{missing:?}");
    state.commit(&[write(key.clone(), 0, &bought).expect("JSON")]).await.expect("new");
    let players = (70..80).map(|at| {
        let (state, bought) = (state.clone(), bought.clone());
        tokio::spawn(async move { state.first_play(&bought, at, Some(at + 100)).await.expect("a play") })
    });
    let mut plays = Vec::new();
    for player in players.collect::<Vec<_>>() {
        plays.push(player.await.expect("no panic"));
    }
    let held: Held<Entitlement> = state.read(&key).await.expect("read").expect("there");
    assert!(plays.iter().all(|play| *play == held.value), "{plays:?}");
    assert_eq!(held.value.finish_by, held.value.first_played_at.map(|at| at + 100));

    for (id, title, at) in [("e2", "one", 40), ("e3", "two", 60)] {
        let right = right("ann", id, title, at);
        let key = keys::right(&right.viewer, &right.title, &right.id);
        state.commit(&[write(key, 0, &right).expect("JSON")]).await.expect("new");
    }
    let ids =
        |rights: Vec<Entitlement>| rights.into_iter().map(|right| right.id.to_string()).collect::<Vec<_>>();
    let ann = "ann".parse().expect("a viewer");
    assert_eq!(ids(state.rights_of(&ann).await.expect("a list")), ["e3", "e1", "e2"], "newest first");
    let one = "one".parse().expect("a title");
    assert_eq!(ids(state.rights_to(&ann, &one).await.expect("a list")), ["e1", "e2"]);
    let other = "anna".parse().expect("a viewer");
    assert_eq!(state.rights_of(&other).await, Ok(Vec::new()), "viewers do not mix");
}

/// All of it, once on a store that is empty.
async fn contract(store: Arc<dyn Records>) {
    single_writes(store.as_ref()).await;
    several_writes(store.as_ref()).await;
    lists(store.as_ref()).await;
    races(Arc::clone(&store)).await;
    let state = State::new(store);
    catalog_contract(Arc::new(state.clone())).await;
    catalog_race(Arc::new(state.clone())).await;
    journal_contract(Arc::new(state.clone())).await;
    first_plays(&state).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redb() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state.redb");
    let store = Arc::new(RedbRecords::open(&path).expect("opened"));
    contract(store.clone()).await;

    assert!(matches!(RedbRecords::open(&path), Err(StateError::Unavailable(_))), "one process at a time");
    let titles =
        State::new(store.clone()).read_stretch::<CatalogEntry>(Stretch::new(keys::TITLES, "", 10)).await;
    drop(store);
    let again = State::new(Arc::new(RedbRecords::open(&path).expect("opened again")));
    let found = again.read_stretch::<CatalogEntry>(Stretch::new(keys::TITLES, "", 10)).await;
    assert_eq!(found, titles, "all of it is in the file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dynamodb_on_ministack() {
    let Some(server) = dynamo::ministack().await else { return };
    contract(server.table("contract").await).await;
}

/// AWS's own server, which is right where others are approximate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dynamodb_on_dynamodb_local() {
    let Some(server) = dynamo::dynamodb_local().await else { return };
    contract(server.table("contract").await).await;
}

/// The answer to a write is lost after the write was made. The SDK sends it again; what was made is not made twice
/// and is not taken for somebody else's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_no_conflict() {
    let Some(server) = dynamo::ministack().await else { return };
    drop(server.table("lossy").await);
    let proxy = dynamo::Lossy::before(&server).await;
    let options = server.options("lossy", Some(&proxy.address));
    let store = DynamoRecords::new(options, dynamo::entropy()).await;
    let (a, b) = (Key::new("lossy", "a"), Key::new("lossy", "b"));
    for writes in [
        vec![Write::Create(a.clone(), body("1"))],
        vec![Write::Replace(a.clone(), 1, body("2"))],
        vec![Write::Replace(a.clone(), 2, body("3")), Write::Create(b.clone(), body("1"))],
        vec![Write::Remove(b.clone(), 1), Write::Replace(a.clone(), 3, body("4"))],
    ] {
        proxy.lose_next_answer();
        assert_eq!(store.commit(&writes).await, Ok(()), "{writes:?}");
        assert!(proxy.lost_it(), "the answer was lost");
    }
    let found = store.get(&a).await.expect("read").expect("there");
    assert_eq!((found.version, found.body), (4, b"4".to_vec()), "made once each");
    assert_eq!(store.get(&b).await, Ok(None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_is_made_once_and_missed_with_words() {
    let Some(server) = dynamo::ministack().await else { return };
    let store = DynamoRecords::new(server.options("made", None), dynamo::entropy()).await;
    let read = store.get(&Key::new("p", "a")).await;
    assert!(
        matches!(&read, Err(StateError::Unavailable(why)) if why.contains("ResourceNotFound")),
        "{read:?}"
    );
    assert_eq!(store.create_table().await, Ok(true));
    assert_eq!(store.create_table().await, Ok(false));
    assert_eq!(store.get(&Key::new("p", "a")).await, Ok(None));
}

/// Written by a control plane of before there were records, and by one that knew no tags.
#[tokio::test]
async fn an_old_file_is_rewritten() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state.redb");
    let old = json!({
        "title": "one", "name": "A film", "source": "film.mp4", "captions": [], "attribution": null,
        "ingest": {
            "package": "0000000000000007", "received_at": 1000, "retries": 0, "stage": "received", "reason": null,
            "lint": [],
        },
        "published": null, "version": 3,
    });
    let bought = right("ann", "e1", "one", 50);
    {
        let database = redb::Database::create(&path).expect("a file");
        let transaction = database.begin_write().expect("begun");
        let text = |value: &serde_json::Value| value.to_string().into_bytes();
        type Table<'a, K, V> = redb::TableDefinition<'a, K, V>;
        {
            let mut titles = transaction.open_table(Table::<&str, &[u8]>::new("titles")).expect("a table");
            titles.insert("one", text(&old).as_slice()).expect("written");
            let mut events =
                transaction.open_table(Table::<(u64, u64), &[u8]>::new("events")).expect("a table");
            let event = serde_json::to_vec(&Event::Retried).expect("JSON");
            events.insert((7, 0), event.as_slice()).expect("written");
            events.insert((7, 1), event.as_slice()).expect("written");
            let rights = Table::<(&str, &str), &[u8]>::new("entitlements");
            let mut rights = transaction.open_table(rights).expect("a table");
            let right = serde_json::to_vec(&bought).expect("JSON");
            rights.insert(("ann", "e1"), right.as_slice()).expect("written");
            let used = Table::<&str, (&str, &str)>::new("purchases");
            let mut used = transaction.open_table(used).expect("a table");
            used.insert("key-1", ("ann", "e1")).expect("written");
        }
        transaction.commit().expect("committed");
    }
    for _ in 0..2 {
        let state = State::new(Arc::new(RedbRecords::open(&path).expect("opened")));
        let standing = CatalogEntry { version: 3, ..entry("one") };
        assert_eq!(Catalog::get(&state, &standing.title).await, Ok(Some(standing)));
        assert_eq!(state.load(PackageId(7)).await, Ok(vec![Event::Retried, Event::Retried]));
        assert_eq!(state.rights_of(&bought.viewer).await, Ok(vec![bought.clone()]));
        let order = state.order(&bought.viewer, &bought.id).await.expect("read").expect("an order");
        assert_eq!(order.value.status.as_str(), "granted");
        let trail = state.audit(&bought.viewer, None, 10).await.expect("a trail");
        let events: Vec<_> = trail.iter().map(|line| &line.value.event).collect();
        assert_eq!(control::purchase::replay(events), Ok(Some(order.value.status)));
        let used = state.read::<control_plane::state::KeyUse>(&keys::purchase_key("key-1")).await;
        assert_eq!(used.expect("read").expect("there").value.order, bought.id);
    }
}

#[test]
fn a_file_that_is_no_state_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state.redb");
    std::fs::write(&path, "something else".repeat(1000)).expect("written");
    let Err(error) = RedbRecords::open(&path) else { unreachable!("opened a stranger's file") };
    assert!(error.to_string().contains("state.redb"), "{error}");
}
