//! Who may do what: each route of the table with each sort of credential. A route that is added is tested from its
//! first day.

use control_api::keys::OperatorKey;
use control_api::rest::Role;
use control_plane::http::routes;
use serde_json::json;

use crate::api::{NOW, world};
use crate::support::Api;

async fn key(api: &Api, name: &str, role: &str, expires_at: Option<u64>) -> (String, String) {
    let body = json!({ "name": name, "role": role, "expires_at": expires_at });
    let made = api.post("/v1/keys", &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    let text = |field: &str| made[field].as_str().expect("text").to_owned();
    (text("secret"), text("id"))
}

/// A path of the route that names something.
fn path(route: &str) -> String {
    let named = [("{title}", "bbb"), ("{kind}", "rental"), ("{viewer}", "ann"), ("{entitlement}", "e1")];
    let named = named.into_iter().chain([("{session}", "s1"), ("{id}", "k1"), ("{day}", "20833")]);
    let path = named.fold(route.to_owned(), |path, (name, value)| path.replace(name, value));
    assert!(!path.contains('{'), "say what {route} means");
    path
}

#[tokio::test]
async fn each_route_with_each_credential() {
    let world = world("").await;
    let operator = &world.api;
    let (expiring, _) = key(operator, "expiring", "admin", Some(NOW + 10)).await;
    let (removed, id) = key(operator, "removed", "admin", None).await;
    assert_eq!(operator.send("DELETE", &format!("/v1/keys/{id}"), &[], "").await.status, 204);
    let mut roles = Vec::new();
    for role in Role::ALL {
        roles.push((role, key(operator, role.as_str(), role.as_str(), None).await.0));
    }
    world.clock.set(NOW + 10);
    let mut flipped = roles[0].1.clone().into_bytes();
    let last = flipped.len() - 1;
    flipped[last] = if flipped[last] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).expect("text");
    let wrong = [
        None,
        Some(OperatorKey::from_bytes([7; 32]).bearer()),
        Some(expiring),
        Some(removed),
        Some(flipped),
        Some(String::new()),
        Some("weir_".to_owned()),
        Some(format!("{} x", roles[0].1)),
    ];
    let mut asked = 0;
    for route in routes::table() {
        let (method, path) = (route.method.as_str(), path(route.path));
        let open = !path.starts_with("/v1");
        for credential in &wrong {
            let answer = operator.with_key(credential.as_deref()).send(method, &path, &[], "").await;
            assert_eq!(answer.status == 401, !open, "{method} {path} {credential:?}: {answer:?}");
            asked += 1;
        }
        for (role, secret) in &roles {
            let answer = operator.with_key(Some(secret)).send(method, &path, &[], "").await;
            let may = open || *role == Role::Admin || route.roles.contains(role);
            assert_eq!(answer.code() != "forbidden", may, "{method} {path} {role:?}: {answer:?}");
            assert_ne!(answer.status, 401, "{method} {path} {role:?}");
            asked += 1;
        }
    }
    assert!(asked > 200, "{asked}");
    world.running.stop().await;
}

/// Secrets are shown once; what keys do is written down under their names.
#[tokio::test]
async fn keys_and_deeds() {
    let world = world("").await;
    let operator = &world.api;
    let (secret, id) = key(operator, "films", "publisher", None).await;
    let list = operator.get("/v1/keys").await;
    assert_eq!(list.json()["keys"][0]["id"], json!(id));
    assert!(!String::from_utf8_lossy(&list.body).contains(&secret), "shown once");
    let publisher = operator.with_key(Some(&secret));
    let price = json!({ "minor": 399, "currency": "usd" }).to_string();
    let headers = [("Content-Type", "application/json"), ("X-Request-Id", "r1")];
    let set = publisher.send("PUT", "/v1/titles/bbb/prices/rental", &headers, &price).await;
    assert_eq!(set.status, 200, "{set:?}");
    let past = json!({ "name": "late", "role": "support", "expires_at": NOW });
    assert_eq!(operator.post("/v1/keys", &past).await.code(), "invalid-request");
    assert_eq!(operator.send("DELETE", "/v1/keys/nope", &[], "").await.code(), "no-such-key");
    assert_eq!(operator.send("DELETE", &format!("/v1/keys/{id}"), &[], "").await.status, 204);
    assert_eq!(publisher.get("/v1/titles").await.status, 401, "from the next request on");

    let deeds = operator.get(&format!("/v1/deeds/{}", NOW / 86_400)).await.json();
    let deeds = deeds["deeds"].as_array().expect("a list").clone();
    let mut done: Vec<_> =
        deeds.iter().map(|deed| format!("{} {} {}", deed["caller"], deed["method"], deed["path"])).collect();
    done.sort();
    assert_eq!(done.len(), 5, "{done:#?}");
    assert!(done.contains(&"\"key:films\" \"PUT\" \"/v1/titles/bbb/prices/rental\"".to_owned()), "{done:#?}");
    assert!(deeds.iter().any(|deed| deed["request"] == "r1"));
    world.running.stop().await;
}
