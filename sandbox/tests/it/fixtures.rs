//! What the vendors' own clients sent, replayed.
//!
//! The fixtures are made by `tests/interop/run URL --record`; a new twin, or a change of this one, must give each recorded
//! request the class of answer that its client understood.

use std::path::PathBuf;

use http::Method;
use serde_json::{Value, json};

use crate::huawei::{Sender, access_token, ask_token};
use crate::world::{World, claims, fcm_error, sign};

fn fixtures(provider: &str) -> Vec<(String, Value)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(provider);
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let mut all: Vec<_> = files
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
        })
        .collect();
    all.sort_by(|(one, _): &(String, Value), (other, _)| one.cmp(other));
    all
}

#[tokio::test]
async fn every_recorded_request_gets_its_recorded_class_of_answer() {
    let world = World::start().await;
    let token = world.access_token("interop-proj").await;
    let mut replayed = 0;
    for (name, fixture) in fixtures("fcm") {
        // Putting rules begins a new run of first tries.
        assert_eq!(world.put("/_sandbox/rules", json!([])).await.0, 204);
        for request in fixture["requests"].as_array().unwrap() {
            if request["path"] == "/token" {
                continue;
            }
            let method: Method = request["method"].as_str().unwrap().parse().unwrap();
            let url = format!("{}{}", world.url, request["path"].as_str().unwrap());
            let mut sent =
                world.http.request(method, url).bearer_auth(&token).body(request["body"].to_string());
            for (header, value) in request["headers"].as_object().unwrap() {
                if header != "authorization" {
                    sent = sent.header(header, value.as_str().unwrap());
                }
            }
            let answer = sent.send().await.unwrap();
            let status = answer.status().as_u16();
            let answer: Value = answer.json().await.unwrap_or(Value::Null);
            assert_eq!(
                (json!(status), json!(fcm_error(&answer))),
                (request["status"].clone(), request["error_code"].clone()),
                "{name}: {answer}"
            );
            replayed += 1;
        }
    }
    assert!(replayed >= 22, "only {replayed} requests were found");
}

#[tokio::test]
async fn the_recorded_assertion_gets_a_token_when_signed_afresh() {
    let world = World::start().await;
    let account = world.service_account("interop-proj").await;
    let (_, fixture) = fixtures("fcm").into_iter().find(|(name, _)| name == "token").unwrap();
    let form = &fixture["requests"][0]["form"];
    let recorded = &form["assertion"]["claims"];
    let mut claims = claims(&account);
    for name in ["aud", "iss", "scope"] {
        claims[name] = recorded[name].clone();
    }
    claims["exp"] = (claims["iat"].as_i64().unwrap() + recorded["lifetime"].as_i64().unwrap()).into();
    let (status, answer) = world.post_assertion(&sign(&account, &claims)).await;
    assert_eq!(status, 200, "{answer}");
}

/// A recorded request, with another credential.
async fn replay(world: &World, request: &Value, authorization: &str) -> (u16, Value) {
    let method: Method = request["method"].as_str().unwrap().parse().unwrap();
    let url = format!("{}{}", world.url, request["path"].as_str().unwrap());
    let body = request["body"].as_str().map_or_else(|| request["body"].to_string(), str::to_owned);
    let mut sent = world.http.request(method, url).header("authorization", authorization).body(body);
    for (header, value) in request["headers"].as_object().unwrap() {
        if header != "authorization" {
            sent = sent.header(header, value.as_str().unwrap());
        }
    }
    let answer = sent.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
}

#[tokio::test]
async fn what_clients_of_xiaomi_sent_gets_what_they_understood() {
    let world = World::start().await;
    let app = json!({"app_secret": "AbCdSecret", "channel_required": false});
    world.put("/_sandbox/xiaomi/com.example.interop/app", app).await;
    let mut replayed = 0;
    for (name, fixture) in fixtures("xiaomi") {
        assert_eq!(world.put("/_sandbox/rules", json!([])).await.0, 204);
        let secret = if name == "wrong_secret" { "another" } else { "AbCdSecret" };
        // Questions about messages name ids that are gone.
        let posts = fixture["requests"].as_array().unwrap().iter().filter(|sent| sent["method"] == "POST");
        for request in posts {
            let (status, answer) = replay(&world, request, &format!("key={secret}")).await;
            assert_eq!(json!(status), request["status"], "{name}");
            for field in ["/code", "/result", "/reason", "/info", "/data/bad_regids"] {
                assert_eq!(answer.pointer(field), request["answer"].pointer(field), "{name}: {answer}");
            }
            replayed += 1;
        }
    }
    assert!(replayed >= 10, "only {replayed} requests were found");
}

#[tokio::test]
async fn what_clients_of_huawei_sent_gets_what_is_documented() {
    let Sender { world, app, .. } = Sender::start().await;
    let mut replayed = 0;
    for (name, fixture) in fixtures("huawei") {
        let request = &fixture["requests"][0];
        if request["operation"] == "callback" {
            continue;
        }
        let (status, answer) = if let Some(form) = request["form"].as_object() {
            let secret = app["app_secret"].as_str().unwrap();
            let of = |name: &str| form[name].as_str().unwrap();
            let own = |text| if text == "<app_secret>" { secret } else { text };
            let form: Vec<_> = form.keys().map(|name| (name.as_str(), own(of(name)))).collect();
            ask_token(&world, &form).await
        } else {
            let seconds = if name == "token_expired" { 0 } else { 3600 };
            world.put("/_sandbox/providers/huawei", json!({"access_token_seconds": seconds})).await;
            let token = access_token(&world, "100001").await;
            replay(&world, request, &format!("Bearer {token}")).await
        };
        assert_eq!(json!(status), request["status"], "{name}: {answer}");
        for field in ["code", "msg", "error", "expires_in", "token_type"] {
            assert_eq!(answer.get(field), request["answer"].get(field), "{name}: {answer}");
        }
        replayed += 1;
    }
    assert!(replayed >= 10, "only {replayed} requests were found");
}
