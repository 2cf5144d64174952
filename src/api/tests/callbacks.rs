//! Vendors' callbacks, from outside.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use serde_json::json;
use tower::ServiceExt as _;

use super::World;
use crate::receipts::tests::{BY_PARAM, PROOF, Played};

async fn played(world: &World) -> String {
    let app = world.gateway.auth.app(&world.app).await.unwrap().unwrap().seq;
    world.gateway.channels.plant(app, &BY_PARAM, Arc::new(Played)).await;
    format!("/v1/apps/{}/channels/played", world.app)
}

/// The path of a channel's callbacks, as the API shows it.
async fn path(world: &World, channel: &str) -> String {
    let shown = world.own("GET", channel, None).await.json()["callback_url"].as_str().unwrap().to_owned();
    shown.strip_prefix(&world.gateway.url()).unwrap().to_owned()
}

/// A vendor's call: (status, body). Unlike our own, its answers are whatever the vendor wants to hear.
async fn call(world: &World, method: &str, path: &str, proof: &str, body: impl Into<Body>) -> (u16, String) {
    let request = Request::builder().method(method).uri(path).header("authorization", proof);
    let response = world.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_vendor_hears_what_it_wants_to_hear() {
    let world = World::new().await;
    let path = path(&world, &played(&world).await).await;
    let heard = "{\"heard\":true}".to_owned();
    let body = json!({"receipts": [{"event": "delivered", "param": "x"}]}).to_string();
    assert_eq!(call(&world, "POST", &path, PROOF, body.clone()).await, (200, heard.clone()));
    assert_eq!(call(&world, "GET", &format!("{path}?a=1"), PROOF, "{}").await, (200, heard.clone()));
    assert_eq!(call(&world, "POST", &path, "Basic x", body).await, (401, heard.clone()));
    assert_eq!(call(&world, "POST", &path, PROOF, "no json").await, (400, heard));
    let (status, answer) = call(&world, "POST", &path, PROOF, vec![b' '; 1024 * 1024 + 1]).await;
    assert_eq!(status, 413);
    assert!(answer.contains("body_too_large"));
    assert_eq!(world.own("PUT", &path, None).await.told().0, 405);
}

#[tokio::test]
async fn a_wrong_secret_another_channels_and_an_old_one_lead_nowhere() {
    let world = World::new().await;
    let channel = played(&world).await;
    let path = path(&world, &channel).await;
    let (start, secret) = path.rsplit_once('/').unwrap();
    let other = world.own("GET", &format!("/v1/apps/{}/channels/direct", world.app), None).await.json();
    let direct = format!("/v1/callbacks/{}", other["id"].as_str().unwrap());
    assert!(other["callback_url"].is_null(), "the own connection has no vendor");
    for wrong in [format!("{start}/x"), format!("{start}/{}", &secret[1..]), format!("{direct}/{secret}")] {
        let answer = world.call("POST", &wrong, "", Some(json!({}))).await;
        assert_eq!(answer.told(), (404, "not_found".into()), "{wrong}");
    }
    let rotate = format!("{channel}/rotate_callback");
    let foreign = world.call("POST", &rotate, &world.other_key, None).await;
    assert_eq!(foreign.told().0, 404);
    let rotated = world.own("POST", &rotate, None).await;
    assert_eq!(rotated.status, 200);
    assert_eq!(world.call("POST", &path, "", Some(json!({}))).await.told().0, 404);
    let new = rotated.json()["callback_url"].as_str().unwrap().to_owned();
    let new = new.strip_prefix(&world.gateway.url()).unwrap();
    assert_eq!(call(&world, "POST", new, PROOF, "{}").await.0, 200);
    let none =
        world.own("POST", &format!("/v1/apps/{}/channels/none/rotate_callback", world.app), None).await;
    assert_eq!(none.told(), (404, "not_found".into()));
}

#[tokio::test]
async fn who_may_only_read_a_channel_does_not_see_where_its_vendor_reports() {
    let world = World::new().await;
    let channel = played(&world).await;
    let body = json!({"name": "reader", "scopes": ["channels:read"]});
    let made = world.call("POST", &format!("/v1/apps/{}/keys", world.app), &world.admin, Some(body)).await;
    let reader = made.json()["key"].as_str().unwrap().to_owned();
    assert!(world.call("GET", &channel, &reader, None).await.json()["callback_url"].is_null());
    assert!(world.call("GET", &channel, &world.admin, None).await.json()["callback_url"].is_string());
}

#[tokio::test]
async fn the_journal_shows_in_the_metrics() {
    let world = World::new().await;
    let metrics = world.call("GET", "/metrics", "", None).await.text;
    assert!(metrics.contains("anypush_receipts_journal_rows 0\n"), "{metrics}");
    assert!(metrics.contains("anypush_receipts_lag_seconds 0\n"));
}
