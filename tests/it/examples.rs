//! Every example of `openapi.yaml` is sent as it stands there: who copies one gets the answer that the file names.

use reqwest::Method;
use serde_json::{Value, json};

use crate::contract::FILE;
use crate::world::World;

/// An example of a request: where it stands, and what it says.
struct Example {
    name: String,
    method: Method,
    path: String,
    operation: &'static Value,
    body: &'static Value,
}

fn examples() -> Vec<Example> {
    let mut found = Vec::new();
    for (path, item) in FILE["paths"].as_object().unwrap() {
        for (verb, operation) in item.as_object().unwrap() {
            let content = operation["requestBody"]["content"].as_object();
            let named = content
                .and_then(|content| content.values().next())
                .map_or(&Value::Null, |body| &body["examples"]);
            for (name, example) in named.as_object().into_iter().flatten() {
                found.push(Example {
                    name: format!("{verb} {path} {name}"),
                    method: verb.to_uppercase().parse().unwrap(),
                    path: path.clone(),
                    operation,
                    body: &example["value"],
                });
            }
        }
    }
    found
}

/// How many examples stand below a value, in whatever place.
fn count(value: &Value) -> usize {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, inner)| match name.as_str() {
                // A list of them belongs to a schema, and shows values.
                "examples" => inner.as_object().map_or(0, serde_json::Map::len),
                "example" => 1,
                _ => count(inner),
            })
            .sum(),
        Value::Array(items) => items.iter().map(count).sum(),
        _ => 0,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_of_the_file_is_answered_as_the_file_says() {
    let world = World::start().await;
    // What the examples name.
    let device = json!({"user_id": "u-42", "tags": ["vip"]});
    world.put_devices(vec![("phone-1".into(), device)]).await;
    let secret = world.device_secrets(&["phone-1".into()]).await.remove(0);
    let hook = json!({"url": "https://backend.example/", "events": ["message.done"]});
    let path = format!("/v1/apps/{}/webhooks", world.app_id);
    let hook = world.call(&world.admin_key, Method::POST, &path, Some(hook)).await.body;
    let examples = examples();
    assert_eq!(count(&FILE), examples.len(), "an example stands where this test does not look");
    for example in examples {
        let is_phones = example.operation["security"][0].get("device_secret").is_some();
        let key = match example.path.as_str() {
            _ if is_phones => &secret,
            path if path.starts_with("/v1/apps") => &world.admin_key,
            _ => &world.api_key,
        };
        let path =
            example.path.replace("/webhooks/{id}", &format!("/webhooks/{}", hook["id"].as_str().unwrap()));
        let path = path.replace("{id}", "phone-1").replace("{app}", &world.app_id).replace("{name}", "fcm");
        let answer = if let Some(lines) = example.body.as_str() {
            let auth = format!("Bearer {key}");
            let headers = [("authorization", auth.as_str()), ("content-type", crate::contract::NDJSON)];
            world.raw(example.method, &path, &headers, lines.as_bytes().to_vec()).await.0
        } else {
            world.call(key, example.method, &path, Some(example.body.clone())).await
        };
        let status = answer.status;
        assert!(status.is_success(), "{}: {status} {:#}", example.name, answer.body);
        assert!(!example.operation["responses"][status.as_str()].is_null(), "{}: {status}", example.name);
    }
}

#[test]
fn every_body_has_an_example() {
    for (path, item) in FILE["paths"].as_object().unwrap() {
        for (verb, operation) in item.as_object().unwrap() {
            // A channel that works has a private key in it, which has no place in a public file; what a vendor calls
            // with is in its own form; lines of devices are in docs/devices.md; a registration token is good for ten minutes.
            let without = ["putChannel", "takeCallback", "importDevices", "registerDevice"]
                .map(|name| operation["operationId"] == name);
            if operation["requestBody"].is_null() || without.contains(&true) {
                continue;
            }
            let examples = |body: &Value| body["examples"].as_object().is_some_and(|all| !all.is_empty());
            let content = operation["requestBody"]["content"].as_object().unwrap();
            assert!(content.values().all(examples), "{verb} {path}");
        }
    }
}
