//! Two control planes on one table: the real program, `init` and all, one of them killed.

use std::path::{Path, PathBuf};

use control_plane::seams::Catalog;
use control_plane::state::State;
use serde_json::json;
use std::sync::Arc;

use crate::dynamo::{self, Dynamo};
use crate::process::{run, serve};
use crate::records;
use crate::support::Api;

/// A directory of its own for each replica, and the keys of the first for all.
fn configure(root: &Path, name: &str, server: &Dynamo) -> PathBuf {
    let directory = root.join(name);
    std::fs::create_dir_all(directory.join("data/keys")).expect("made");
    for (file, text) in [("db.id", "test"), ("db.secret", "test")] {
        std::fs::write(directory.join("data/keys").join(file), text).expect("written");
    }
    let text = format!(
        "ready_file = \"ready.json\"\n[api]\nlisten = \"127.0.0.1:0\"\n[state]\nkind = \"dynamodb\"\n\
         table = \"replicas\"\nregion = \"us-east-1\"\nendpoint_url = \"http://{}\"\n\
         access_key_file = \"keys/db.id\"\nsecret_key_file = \"keys/db.secret\"\nattempt_timeout = \"20s\"\n\
         [playback]\nstreams = 10\n",
        server.address
    );
    std::fs::write(directory.join("control-plane.toml"), text).expect("written");
    directory
}

/// Asks one replica, and the other if there is no answer.
async fn ask(replicas: &[Api], path: &str, key: &str, body: &str) -> u16 {
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key)];
    for api in replicas {
        if let Some(answer) = api.try_send("POST", path, &headers, body).await.filter(|a| a.status < 500) {
            return answer.status;
        }
    }
    unreachable!("neither answers")
}

async fn two_and_one_dies(server: Dynamo) {
    let root = tempfile::tempdir().expect("a directory");
    let first = configure(root.path(), "first", &server);
    let (status, said) = run(&first.join("control-plane.toml"), &["init"]).await;
    assert!(status.success() && said.contains("made table replicas"), "{said}");
    let second = configure(root.path(), "second", &server);
    for file in std::fs::read_dir(first.join("data/keys")).expect("keys").flatten() {
        std::fs::copy(file.path(), second.join("data/keys").join(file.file_name())).expect("copied");
    }
    let (status, said) = run(&second.join("control-plane.toml"), &["init"]).await;
    assert!(status.success() && !said.contains("table"), "made once: {said}");
    let records = control_plane::adapters::dynamodb::DynamoRecords::new(
        server.options("replicas", None),
        dynamo::entropy(),
    );
    State::new(Arc::new(records.await)).put(&records::published("bbb")).await.expect("a title");

    let (mut one, two) = (serve(&first).await, serve(&second).await);
    let clients = (0..40).map(|n: usize| {
        let mut replicas = vec![one.api.clone(), two.api.clone()];
        replicas.rotate_left(n % 2);
        tokio::spawn(async move {
            let viewer = format!("v{}", n / 4);
            let buy = json!({ "viewer": viewer, "title": "bbb", "kind": "rental" }).to_string();
            let bought = ask(&replicas, "/v1/purchases", &format!("k{n}"), &buy).await;
            let play = json!({ "viewer": viewer, "title": "bbb", "device": format!("d{n}") }).to_string();
            (bought, ask(&replicas, "/v1/sessions", "", &play).await)
        })
    });
    let clients: Vec<_> = clients.collect();
    crate::support::until("the first sale", async || {
        let held = two.api.get("/v1/viewers/v0/entitlements").await.json();
        (held["entitlements"].as_array().map(Vec::len) == Some(1)).then_some(())
    })
    .await;
    one.process.kill().await.expect("SIGKILL");
    for client in clients {
        let (bought, played) = client.await.expect("no panic");
        assert!(matches!((bought, played), (200 | 201, 201)), "bought {bought}, played {played}");
    }
    for viewer in 0..10 {
        let held = two.api.get(&format!("/v1/viewers/v{viewer}/entitlements")).await.json();
        assert_eq!(held["entitlements"].as_array().map(Vec::len), Some(1), "v{viewer}: {held}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_ministack() {
    let Some(server) = dynamo::ministack().await else { return };
    two_and_one_dies(server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_dynamodb_local() {
    let Some(server) = dynamo::dynamodb_local().await else { return };
    two_and_one_dies(server).await;
}
