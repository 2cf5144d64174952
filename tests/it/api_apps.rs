//! Who runs the gateway makes apps and keys; a key does what its scopes say, for its own app, until it is revoked.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_is_found_by_id_and_by_name_and_has_its_own_connection() {
    let world = World::start().await;
    let admin = &world.admin_key;
    let (id, key) = world.new_app("bakery").await;
    for name in [id.as_str(), "bakery"] {
        let app = world.call(admin, Method::GET, &format!("/v1/apps/{name}"), None).await;
        assert_eq!((app.status, &app.body["name"]), (StatusCode::OK, &json!("bakery")), "{name}");
        let channels = world.call(&key, Method::GET, &format!("/v1/apps/{name}/channels"), None).await;
        assert_eq!(channels.body["data"][0]["name"], "direct", "{:#}", channels.body);
    }
    let first = world.call(admin, Method::GET, "/v1/apps?limit=1", None).await.body;
    let cursor = first["next_cursor"].as_str().expect("there are two apps");
    let second =
        world.call(admin, Method::GET, &format!("/v1/apps?limit=1&cursor={cursor}"), None).await.body;
    assert_eq!((&second["data"][0]["id"], &second["next_cursor"]), (&json!(id), &json!(null)));
    let again = world.call(admin, Method::POST, "/v1/apps", Some(json!({"name": "bakery"}))).await;
    assert_eq!((again.status, &again.body["code"]), (StatusCode::CONFLICT, &json!("already_exists")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_does_what_its_scopes_say_until_it_is_revoked() {
    let world = World::start().await;
    let path = format!("/v1/apps/{}/keys", world.app_id);
    let wanted = json!({"name": "reader", "scopes": ["messages:read"], "expires_in_seconds": 3600});
    let made = world.call(&world.admin_key, Method::POST, &path, Some(wanted)).await;
    assert_eq!(made.status, StatusCode::CREATED, "{:#}", made.body);
    let (id, key) = (made.body["id"].as_str().unwrap(), made.body["key"].as_str().unwrap());

    assert_eq!(world.call(key, Method::GET, "/v1/messages", None).await.status, StatusCode::OK);
    let message = json!({"to": {"device_ids": ["a"]}, "data": {"a": "b"}});
    let sent = world.call(key, Method::POST, "/v1/messages", Some(message)).await;
    assert_eq!((sent.status, &sent.body["code"]), (StatusCode::FORBIDDEN, &json!("forbidden")));

    let listed = world.call(&world.admin_key, Method::GET, &path, None).await.body;
    assert!(!listed.to_string().contains(key), "a key is seen once");
    assert!(listed["data"].as_array().unwrap().iter().any(|listed| listed["id"] == id));
    let gone = world.call(&world.admin_key, Method::DELETE, &format!("{path}/{id}"), None).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    let refused = world.call(key, Method::GET, "/v1/messages", None).await;
    assert_eq!((refused.status, &refused.body["code"]), (StatusCode::UNAUTHORIZED, &json!("unauthorized")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_sees_nothing_of_another_app() {
    let world = World::start().await;
    let (_, stranger) = world.new_app("stranger").await;
    world.put_devices(vec![("mine".into(), json!({"tags": ["vip"]}))]).await;
    let id = world.send(json!({"to": {"device_ids": ["mine"]}, "data": {"a": "b"}})).await;
    let app = world.app_id.clone();
    for path in ["/v1/devices/mine".into(), format!("/v1/messages/{id}"), format!("/v1/apps/{app}/channels")]
    {
        let seen = world.call(&stranger, Method::GET, &path, None).await;
        assert!(
            [StatusCode::NOT_FOUND, StatusCode::FORBIDDEN].contains(&seen.status),
            "{path}: {}",
            seen.status
        );
    }
    let devices = world.call(&stranger, Method::GET, "/v1/devices", None).await;
    assert_eq!(devices.body["data"], json!([]));
}
