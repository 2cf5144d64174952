//! Phones that register themselves with a token that their app's backend has signed.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::sending::connect;
use crate::world::{Answer, World, now};

/// Makes a key: its id and its secret.
pub(crate) async fn new_key(world: &World, app: &str, key: &str) -> (String, String) {
    let body = json!({"name": "backend", "algorithm": "HS256"});
    let made = world.call(key, Method::POST, &format!("/v1/apps/{app}/registration_keys"), Some(body)).await;
    assert_eq!(made.status, StatusCode::CREATED, "{:#}", made.body);
    let text = |name: &str| made.body[name].as_str().unwrap().to_owned();
    (text("id"), text("secret"))
}

pub(crate) fn claims(device: &str, user: &str, nonce: &str) -> Value {
    let exp = now().as_second() + 300;
    json!({"app": "it", "user_id": user, "device_id": device, "nonce": nonce, "exp": exp})
}

pub(crate) fn signed((id, secret): &(String, String), claims: &Value) -> String {
    let header = Header { kid: Some(id.clone()), ..Header::new(Algorithm::HS256) };
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

pub(crate) async fn register(world: &World, body: Value) -> Answer {
    let bytes = body.to_string().into_bytes();
    let headers = [("content-type", "application/json")];
    world.raw(Method::POST, "/v1/device/register", &headers, bytes).await.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_registers_itself_and_gets_what_is_sent_to_its_user() {
    let world = World::start().await;
    let key = new_key(&world, &world.app_id, &world.api_key).await;
    let listed =
        world.api(Method::GET, &format!("/v1/apps/{}/registration_keys", world.app_id), None).await.body;
    assert_eq!((&listed["data"][0]["id"], &listed["data"][0]["secret"]), (&json!(key.0), &Value::Null));
    let device = json!({"app_version": "3.2", "addresses": [{"provider": "fcm", "token": "ok-self"}]});
    let token = signed(&key, &claims("self-made", "u-1", "nonce-0001"));
    let made = register(&world, json!({"token": token, "device": device})).await;
    assert_eq!(made.status, StatusCode::CREATED, "{:#}", made.body);
    assert_eq!((&made.body["device_id"], &made.body["user_id"]), (&json!("self-made"), &json!("u-1")));
    let stored = world.api(Method::GET, "/v1/devices/self-made", None).await.body;
    assert_eq!((&stored["app_version"], &stored["addresses"][0]["provider"]), (&json!("3.2"), &json!("fcm")));
    assert_eq!(stored["direct"], made.body["direct"]);
    let secret = made.body["secret"].as_str().unwrap().to_owned();
    connect(&world, "self-made", &secret).await;
    let to = json!({"to": {"user_ids": ["u-1"]}, "notification": {"title": "Hello"}});
    let id = world.send(to).await;
    world.until(&id, |m| m["by_channel"]["direct"]["now"]["delivered"] == 1).await;
    // It comes again for another user: the old secret ends, and who it was gets nothing more there.
    let token = signed(&key, &claims("self-made", "u-2", "nonce-0002"));
    let again = register(&world, json!({"token": token})).await;
    assert_eq!((again.status, &again.body["username"]), (StatusCode::CREATED, &made.body["username"]));
    let old = world.call(&secret, Method::GET, "/v1/device/messages", None).await;
    assert_eq!(old.status, StatusCode::UNAUTHORIZED);
    let to = json!({"to": {"user_ids": ["u-1"]}, "notification": {"title": "Hello"}});
    let done = world.done(&world.send(to).await).await;
    assert_eq!(done["reasons"], json!({"unknown_target": 1}), "{done:#}");
}

/// A19: what waits for the first user in the inbox of a phone is not for whoever signs in on it next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_signs_in_on_a_phone_reads_nothing_that_waits_for_the_user_before() {
    let world = World::start().await;
    let key = new_key(&world, &world.app_id, &world.api_key).await;
    let first =
        register(&world, json!({"token": signed(&key, &claims("shared", "u-1", "nonce-0001"))})).await;
    assert_eq!(first.status, StatusCode::CREATED, "{:#}", first.body);
    let to = |to: Value, title: &str| json!({"to": to, "notification": {"title": title}, "class": "transactional"});
    let personal = world.send(to(json!({"user_ids": ["u-1"]}), "For the first user")).await;
    let to_phone = world.send(to(json!({"device_ids": ["shared"]}), "For the phone")).await;
    for id in [&personal, &to_phone] {
        world.until(id, |m| m["by_channel"]["direct"]["now"]["accepted"] == 1).await;
    }
    let again =
        register(&world, json!({"token": signed(&key, &claims("shared", "u-2", "nonce-0002"))})).await;
    assert_eq!(again.status, StatusCode::CREATED, "{:#}", again.body);
    let secret = again.body["secret"].as_str().unwrap();
    let inbox = world.call(secret, Method::GET, "/v1/device/messages", None).await.body;
    let titles: Vec<_> =
        inbox["messages"].as_array().unwrap().iter().map(|m| m["notification"]["title"].clone()).collect();
    assert_eq!(titles, ["For the phone"], "{inbox:#}");
    let ended = world.done(&personal).await;
    assert_eq!(ended["reasons"], json!({"user_left": 1}), "{ended:#}");
    assert_eq!(ended["counts"]["now"]["suppressed"], 1);
    // A backend that says so has the same effect.
    let to_next = world.send(to(json!({"user_ids": ["u-2"]}), "For the next user")).await;
    world.until(&to_next, |m| m["by_channel"]["direct"]["now"]["accepted"] == 1).await;
    world.api(Method::PATCH, "/v1/devices/shared", Some(json!({"user_id": null}))).await;
    assert_eq!(world.done(&to_next).await["reasons"], json!({"user_left": 1}));
}

/// A18: replayed also after a crash, expired, of a revoked key, for another app; nothing is made of any of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_token_is_good_once_for_its_own_app_while_it_and_its_key_are() {
    let mut world = World::start().await;
    let key = new_key(&world, &world.app_id, &world.api_key).await;
    let token = signed(&key, &claims("one", "u-1", "nonce-0001"));
    let first = register(&world, json!({"token": token})).await;
    assert_eq!(first.status, StatusCode::CREATED, "{:#}", first.body);
    world.kill_gateway();
    world.start_gateway().await;
    let refused = async |token: String| {
        let answer = register(&world, json!({"token": token})).await;
        let code = answer.body["code"].as_str().unwrap_or_default().to_owned();
        assert_eq!((answer.status, code.as_str()), (StatusCode::UNAUTHORIZED, "invalid_registration_token"));
        answer.body["detail"].as_str().unwrap().to_owned()
    };
    assert!(refused(token.clone()).await.contains("used before"));
    // The first secret is as good as it was.
    let secret = first.body["secret"].as_str().unwrap();
    assert_eq!(world.call(secret, Method::GET, "/v1/device/messages", None).await.status, StatusCode::OK);
    let mut old = claims("two", "u-1", "nonce-0003");
    old["exp"] = json!(now().as_second() - 1);
    assert!(refused(signed(&key, &old)).await.contains("expired"));
    let (other_app, other) = world.new_app("other").await;
    let mut elsewhere = claims("two", "u-1", "nonce-0004");
    elsewhere["app"] = json!(other_app);
    assert!(refused(signed(&key, &elsewhere)).await.contains("app"));
    let theirs = new_key(&world, &other_app, &other).await;
    assert!(refused(signed(&theirs, &claims("two", "u-1", "nonce-0005"))).await.contains("app"));
    let path = format!("/v1/apps/{}/registration_keys/{}", world.app_id, key.0);
    let theirs_path = format!("/v1/apps/{other_app}/registration_keys/{}", key.0);
    let foreign = world.call(&other, Method::DELETE, &theirs_path, None).await;
    assert_eq!(foreign.status, StatusCode::NOT_FOUND);
    assert_eq!(world.api(Method::DELETE, &path, None).await.status, StatusCode::NO_CONTENT);
    assert!(refused(signed(&key, &claims("two", "u-1", "nonce-0006"))).await.contains("revoked"));
    assert_eq!(world.api(Method::GET, "/v1/devices/two", None).await.status, StatusCode::NOT_FOUND);
}

/// A14, A19: a phone says neither whose it is nor which phone number it has; A15: its secret opens its own inbox alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_that_registers_says_of_itself_only_what_a_phone_may_say() {
    let world = World::start().await;
    let key = new_key(&world, &world.app_id, &world.api_key).await;
    let number = json!([{"provider": "phone", "token": "+8613800000000"}]);
    for device in [json!({"user_id": "u-9"}), json!({"tags": ["vip"]}), json!({"addresses": number})] {
        let token = signed(&key, &claims("mine", "u-1", "nonce-0001"));
        let answer = register(&world, json!({"token": token, "device": device})).await;
        assert_eq!((answer.status, &answer.body["code"]), (StatusCode::FORBIDDEN, &json!("forbidden")));
        assert!(answer.body["pointer"].as_str().unwrap().starts_with("/device/"), "{:#}", answer.body);
    }
    assert_eq!(world.api(Method::GET, "/v1/devices/mine", None).await.status, StatusCode::NOT_FOUND);
    // A push token that its backend vouches for moves, and the old binding is gone.
    let victim = json!({"user_id": "u-2", "addresses": [{"provider": "fcm", "token": "ok-moved"}]});
    world.put_devices(vec![("victim".into(), victim)]).await;
    let own = json!({"addresses": [{"provider": "fcm", "token": "ok-moved"}]});
    let token = signed(&key, &claims("mine", "u-1", "nonce-0001"));
    let made = register(&world, json!({"token": token, "device": own.clone()})).await;
    assert_eq!(made.status, StatusCode::CREATED, "{:#}", made.body);
    let victim = world.api(Method::GET, "/v1/devices/victim", None).await.body;
    assert_eq!(victim["addresses"], json!([]));
    let secrets = world.device_secrets(&["victim".into()]).await;
    let id = world.send(json!({
        "to": {"device_ids": ["victim"]}, "notification": {"title": "Secret"},
        "route": {"steps": [{"use": "direct"}]}
    }));
    let id = id.await;
    world.until(&id, |m| m["counts"]["now"]["accepted"] == 1).await;
    let secret = made.body["secret"].as_str().unwrap();
    let inbox = world.call(secret, Method::GET, "/v1/device/messages", None).await.body;
    assert_eq!(inbox["messages"], json!([]));
    let acks = json!({"messages": [id]});
    let none = world.call(secret, Method::POST, "/v1/device/ack", Some(acks)).await.body;
    assert_eq!(none["acknowledged"], 0);
    let theirs = world.call(&secrets[0], Method::GET, "/v1/device/messages", None).await.body;
    assert_eq!(theirs["messages"].as_array().unwrap().len(), 1);
    // The audit log names the phone, whichever door it came through.
    let back = world.call(&secrets[0], Method::PATCH, "/v1/device", Some(own)).await;
    assert_eq!(back.status, StatusCode::NO_CONTENT, "{:#}", back.body);
    let by_phones = async |action: &str| -> Vec<Value> {
        let rows = world.api(Method::GET, &format!("/v1/audit?action={action}"), None).await.body;
        let rows = rows["data"].as_array().unwrap().clone();
        for row in rows.iter().filter(|row| row["actor"]["kind"] == "device") {
            assert_eq!(row["ip"], "127.0.0.1", "{row:#}");
            assert!(row["request_id"].as_str().unwrap().starts_with("req_"), "{row:#}");
        }
        rows.into_iter().map(|row| json!([row["actor"], row["object"]])).collect()
    };
    let phone = |id: &str| json!([{"kind": "device", "id": id}, format!("devices/{id}")]);
    assert_eq!(by_phones("address.move").await, [phone("victim"), phone("mine")]);
    assert_eq!(by_phones("device.register").await, [phone("mine")]);
    // Neither is a token a key of the backend, nor a backend's key a token.
    let as_key = world.call(&token, Method::GET, "/v1/device/messages", None).await;
    assert_eq!(as_key.status, StatusCode::UNAUTHORIZED);
    let as_token = register(&world, json!({"token": world.api_key})).await;
    assert_eq!(as_token.status, StatusCode::UNAUTHORIZED);
}
