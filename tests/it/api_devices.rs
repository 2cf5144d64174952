//! A backend keeps its devices: puts, finds, changes and deletes them, and asks what one of them got.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::sending::fcm_device;
use crate::world::World;

async fn found(world: &World, query: &str) -> Vec<Value> {
    let list = world.api(Method::GET, &format!("/v1/devices?{query}"), None).await;
    assert_eq!(list.status, StatusCode::OK, "{query}: {:#}", list.body);
    list.body["data"].as_array().unwrap().iter().map(|device| device["id"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_are_found_by_user_tag_provider_and_token() {
    let world = World::start().await;
    let tablet = json!({"user_id": "u-42", "tags": ["vip"]});
    let mut phone = fcm_device("ok-phone");
    phone["user_id"] = json!("u-42");
    world.put_devices(vec![("tablet".into(), tablet), ("phone".into(), phone)]).await;
    assert_eq!(found(&world, "tag=vip").await, ["tablet"]);
    assert_eq!(found(&world, "provider=fcm&token=ok-phone").await, ["phone"]);
    assert_eq!(found(&world, "provider=fcm").await, ["phone"]);
    assert_eq!(found(&world, "provider=fcm&user_id=u-42").await, ["phone"]);
    assert!(found(&world, "provider=apns").await.is_empty());
    assert!(found(&world, "provider=fcm&tag=vip").await.is_empty());
    let bare = world.api(Method::GET, "/v1/devices?token=ok-phone", None).await;
    assert_eq!(
        (bare.status, &bare.body["code"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("invalid_parameter"))
    );
    assert_eq!(found(&world, "user_id=u-42").await.len(), 2);
    assert_eq!(found(&world, "user_id=u-42&tag=vip").await, ["tablet"]);
    assert!(found(&world, "user_id=u-43").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patch_changes_what_it_names_and_null_removes() {
    let world = World::start().await;
    let device = json!({"user_id": "u-1", "language": "de", "tags": ["vip"], "attributes": {"level": 7}});
    world.put_devices(vec![("a".into(), device)]).await;
    let patch = json!({"user_id": null, "tags": ["new"], "location": {"lat": 31.2, "lon": 121.5}});
    let patched = world.api(Method::PATCH, "/v1/devices/a", Some(patch)).await;
    assert_eq!(patched.status, StatusCode::OK, "{:#}", patched.body);
    let device = world.api(Method::GET, "/v1/devices/a", None).await.body;
    assert_eq!((&device["user_id"], &device["tags"]), (&json!(null), &json!(["new"])));
    assert_eq!((&device["language"], &device["attributes"]["level"]), (&json!("de"), &json!(7)));
    let typo = world.api(Method::PATCH, "/v1/devices/a", Some(json!({"langauge": "fr"}))).await;
    assert_eq!((&typo.body["code"], &typo.body["pointer"]), (&json!("unknown_field"), &json!("/langauge")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_moves_to_the_device_that_names_it_last() {
    let world = World::start().await;
    world.put_devices(vec![("old".into(), fcm_device("ok-phone"))]).await;
    world.put_devices(vec![("new".into(), fcm_device("ok-phone"))]).await;
    assert_eq!(found(&world, "provider=fcm&token=ok-phone").await, ["new"]);
    let old = world.api(Method::GET, "/v1/devices/old", None).await.body;
    assert_eq!(old["addresses"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_tells_what_it_got_and_is_gone_once_deleted() {
    let world = World::start().await;
    world.put_devices(vec![("a".into(), fcm_device("ok-a"))]).await;
    let secret = world.device_secrets(&["a".into()]).await.remove(0);
    let mut sent = Vec::new();
    for n in 0..2 {
        let message = json!({"to": {"device_ids": ["a"]}, "notification": {"title": format!("{n}")}});
        let id = world.send(message).await;
        world.until(&id, |m| m["counts"]["now"]["pending"] == 0).await;
        sent.push(id);
    }
    let page = world.api(Method::GET, "/v1/devices/a/deliveries?limit=1", None).await.body;
    assert_eq!(page["data"][0]["message_id"], sent[1], "newest first: {page:#}");
    let cursor = page["next_cursor"].as_str().expect("one more");
    let path = format!("/v1/devices/a/deliveries?limit=1&cursor={cursor}");
    assert_eq!(world.api(Method::GET, &path, None).await.body["data"][0]["message_id"], sent[0]);

    let gone = world.api(Method::DELETE, "/v1/devices/a", None).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    assert_eq!(world.api(Method::GET, "/v1/devices/a", None).await.status, StatusCode::NOT_FOUND);
    let refused = world.call(&secret, Method::GET, "/v1/device/messages", None).await;
    assert_eq!(refused.body["code"], "invalid_device_secret");
    let id = world.send(json!({"to": {"device_ids": ["a"]}, "data": {"a": "b"}})).await;
    assert_eq!(world.done(&id).await["reasons"], json!({"unknown_target": 1}));
}
