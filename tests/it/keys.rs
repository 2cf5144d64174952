//! Keys and secrets that are wrong, and those that were good until a moment ago.

use anypush::secrets::token::{random_base62, with_checksum};
use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::contract;
use crate::world::{PATIENCE, World};

/// Keys that the store was asked for.
async fn lookups(world: &World) -> u64 {
    let text = world.http.get(format!("{}/metrics", world.url)).send().await.unwrap().text().await.unwrap();
    let line = text.lines().find(|line| line.starts_with("anypush_key_lookups_total")).expect("the metric");
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

async fn status(world: &World, key: &str) -> u16 {
    let value = reqwest::header::HeaderValue::from_bytes(format!("Bearer {key}").as_bytes()).unwrap();
    let request = world.http.get(format!("{}/v1/messages", world.url)).header("authorization", value);
    request.send().await.unwrap().status().as_u16()
}

/// A9.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_with_a_wrong_checksum_is_refused_without_a_look_into_the_database() {
    let world = World::start().await;
    let before = lookups(&world).await;
    for n in 0..20 {
        let unknown = with_checksum(&format!("apk_live_{}", random_base62(40)));
        let mut wrong = unknown.clone();
        let last = if wrong.pop() == Some('a') { 'b' } else { 'a' };
        wrong.push(last);
        let cut = &world.api_key[..world.api_key.len() - n - 1];
        for key in [wrong.as_str(), cut, &format!("{}x", world.api_key), "apk_", "apk_live_x"] {
            assert_eq!(status(&world, key).await, 401, "{key}");
        }
        assert_eq!(lookups(&world).await, before, "{wrong}");
    }
    let unknown = with_checksum(&format!("apk_live_{}", random_base62(40)));
    assert_eq!(status(&world, &unknown).await, 401);
    assert_eq!(lookups(&world).await, before + 1, "one that could be a key is looked up");
}

/// A10: nobody learns which ids there are. (The MACs are compared in constant time, and an id that is unknown costs the same
/// comparison: `Auth::key`, `secret::verify`.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_id_with_a_wrong_secret_looks_like_one_that_nobody_has() {
    let world = World::start().await;
    world.put_devices(vec![("d".to_owned(), json!({}))]).await;
    let secret = world.device_secrets(&["d".to_owned()]).await.remove(0);
    // Prefix and id, of somebody and of nobody; behind it a secret that is none.
    let planes = [
        ("/v1/messages", &world.api_key[..17], format!("apk_live_{}", random_base62(8))),
        ("/v1/device/messages", &secret[..24], format!("aps_{}", "a".repeat(20))),
    ];
    for (path, somebody, nobody) in planes {
        let [known, unknown] =
            [somebody, &nobody].map(|id| with_checksum(&format!("{id}{}", random_base62(32))));
        assert_eq!(known.len(), unknown.len());
        let wrong = world.call(&known, Method::GET, path, None).await;
        let nobody = world.call(&unknown, Method::GET, path, None).await;
        assert_eq!(wrong.status, 401, "{}", wrong.body);
        assert_eq!((wrong.status, wrong.body), (nobody.status, nobody.body), "{path}");
    }
}

/// A8: what is open when a secret or a key ends, ends too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_socket_and_a_kept_connection_end_with_their_secret_and_their_key() {
    let world = World::start().await;
    world.put_devices(vec![("d".to_owned(), json!({})), ("e".to_owned(), json!({}))]).await;
    let secrets = world.device_secrets(&["d".to_owned(), "e".to_owned()]).await;
    let ways = [(Method::POST, "/v1/devices/d/secret"), (Method::DELETE, "/v1/devices/e")];
    for (secret, (method, path)) in secrets.into_iter().zip(ways) {
        let url = format!("{}/v1/device/socket", world.url.replacen("http", "ws", 1));
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {secret}").parse().unwrap());
        let (mut socket, opened) = tokio_tungstenite::connect_async(request).await.unwrap();
        assert_eq!(opened.status(), 101);
        contract::called(&Method::GET, "/v1/device/socket");
        // Its first words: it is seated.
        let hello = tokio::time::timeout(PATIENCE, socket.next()).await.expect("a frame").unwrap().unwrap();
        assert!(hello.is_text(), "{hello:?}");
        let ended = world.api(method, path, None).await;
        assert!(ended.status.is_success(), "{}", ended.body);
        let close = loop {
            match tokio::time::timeout(PATIENCE, socket.next()).await.expect("an end") {
                Some(Ok(Message::Close(frame))) => break frame.expect("a code"),
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((u16::from(close.code), close.reason.as_str()), (4003, "revoked"), "{path}");
        assert_eq!(world.call(&secret, Method::GET, "/v1/device/messages", None).await.status, 401, "{path}");
    }
    let keys = format!("/v1/apps/{}/keys", world.app_id);
    let body = json!({"name": "short", "scopes": ["messages:read"]});
    let made = world.call(&world.admin_key, Method::POST, &keys, Some(body)).await.body;
    let key = made["key"].as_str().unwrap();
    // The client keeps its connections: these calls come by the same one.
    assert_eq!(world.call(key, Method::GET, "/v1/messages", None).await.status, 200);
    let path = format!("{keys}/{}", made["id"].as_str().unwrap());
    assert_eq!(world.call(&world.admin_key, Method::DELETE, &path, None).await.status, 204);
    assert_eq!(world.call(key, Method::GET, "/v1/messages", None).await.status, 401);
}
