//! What the vendors' own clients sent, replayed.
//!
//! The fixtures are made by `tests/interop/run URL --record`; a new twin, or a change of this one, must give each recorded
//! request the class of answer that its client understood.

use std::path::PathBuf;

use http::Method;
use serde_json::{Value, json};

use crate::world::{World, claims, fcm_error, sign};

fn fixtures() -> Vec<(String, Value)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/fcm");
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
    for (name, fixture) in fixtures() {
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
    let (_, fixture) = fixtures().into_iter().find(|(name, _)| name == "token").unwrap();
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
