//! The contract of catalogue, journal and entitlements. Every store of records passes it.

use std::sync::Arc;

use control::ingest::{Done, EffectId, Event, Failure};
use control_api::rest::{Entitlement, EntitlementKind, Stage};
use control_plane::adapters::redb::RedbState;
use control_plane::seams::{
    Catalog, CatalogEntry, EntitlementStore, IngestRecord, Journal, Published, StateError,
};
use media::PackageId;
use serde_json::json;

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

async fn entitlement_contract(store: Arc<dyn EntitlementStore>) {
    assert_eq!(store.of_viewer("ann").await, Ok(Vec::new()));
    let bought = store.purchase("key-1", &right("ann", "e1", "one", 50)).await.expect("a purchase");
    assert!(!bought.replayed);
    let again = store.purchase("key-1", &right("ann", "e2", "one", 60)).await.expect("the same purchase");
    assert_eq!((again.replayed, &again.entitlement), (true, &bought.entitlement));
    for other in [right("bob", "e3", "one", 50), right("ann", "e3", "two", 50)] {
        let outcome = store.purchase("key-1", &other).await;
        assert!(matches!(outcome, Err(StateError::Conflict(_))), "{outcome:?}");
    }
    let bought_more = Entitlement { kind: EntitlementKind::Purchase, ..right("ann", "e3", "one", 50) };
    assert!(store.purchase("key-1", &bought_more).await.is_err(), "another kind is another request");

    let older =
        store.purchase("key-2", &right("ann", "e0", "two", 40)).await.expect("a purchase").entitlement;
    store.purchase("key-3", &right("anna", "e9", "two", 40)).await.expect("a purchase");
    assert_eq!(store.of_viewer("ann").await, Ok(vec![older, bought.entitlement.clone()]));

    let played = store.first_play(&bought.entitlement, 70, Some(170)).await.expect("a first play");
    assert_eq!((played.first_played_at, played.finish_by), (Some(70), Some(170)));
    let second = store.first_play(&bought.entitlement, 80, Some(180)).await.expect("a later play");
    assert_eq!(second, played, "the first play's times stand");
    let missing = store.first_play(&right("ann", "e7", "one", 50), 80, None).await;
    assert!(matches!(missing, Err(StateError::Missing(_))), "{missing:?}");
}

/// A hundred clients repeat one purchase at once: one entitlement, and one of them is told that it is new.
async fn purchase_race(store: Arc<dyn EntitlementStore>) {
    let clients = (0..100).map(|n| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            store.purchase("race", &right("cat", &format!("r{n}"), "one", 50)).await.expect("a purchase")
        })
    });
    let mut outcomes = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        outcomes.push(client.await.expect("no panic"));
    }
    assert_eq!(outcomes.iter().filter(|outcome| !outcome.replayed).count(), 1);
    let held = store.of_viewer("cat").await.expect("a list");
    assert_eq!(held.len(), 1);
    assert!(outcomes.iter().all(|outcome| outcome.entitlement == held[0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redb() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state.redb");
    let state = Arc::new(RedbState::open(&path).expect("opened"));
    catalog_contract(state.clone()).await;
    catalog_race(state.clone()).await;
    journal_contract(state.clone()).await;
    entitlement_contract(state.clone()).await;
    purchase_race(state.clone()).await;

    assert!(matches!(RedbState::open(&path), Err(StateError::Unavailable(_))), "one process at a time");
    let titles = state.list(None, 10).await.expect("a list");
    drop(state);
    let again = RedbState::open(&path).expect("opened again");
    assert_eq!(again.list(None, 10).await, Ok(titles), "all of it is in the file");
    assert_eq!(again.of_viewer("cat").await.map(|held| held.len()), Ok(1));
}

/// Written by a control plane that knew no tags.
#[tokio::test]
async fn a_record_without_tags_is_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state.redb");
    let old = json!({
        "title": "one", "name": "A film", "source": "film.mp4", "captions": [], "attribution": null,
        "ingest": {
            "package": "0000000000000007", "received_at": 1000, "retries": 0, "stage": "received", "reason": null,
            "lint": [],
        },
        "published": null, "version": 1,
    });
    {
        let database = redb::Database::create(&path).expect("a file");
        let transaction = database.begin_write().expect("begun");
        let titles = redb::TableDefinition::<'_, &str, &[u8]>::new("titles");
        let mut table = transaction.open_table(titles).expect("a table");
        table.insert("one", old.to_string().as_bytes()).expect("written");
        drop(table);
        transaction.commit().expect("committed");
    }
    let state = RedbState::open(&path).expect("opened");
    let standing = CatalogEntry { version: 1, ..entry("one") };
    assert_eq!(state.get(&standing.title).await, Ok(Some(standing)));
}

#[test]
fn a_file_that_is_no_state_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state.redb");
    std::fs::write(&path, "something else".repeat(1000)).expect("written");
    let Err(error) = RedbState::open(&path) else { unreachable!("opened a stranger's file") };
    assert!(error.to_string().contains("state.redb"), "{error}");
}
