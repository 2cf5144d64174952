//! The played APNs: what node-apn sent, replayed, and what no library of a backend can be made to do.

use std::path::PathBuf;

use http::Method;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::world::{World, client, now_seconds};

const TEAM: &str = "INTEROP001";
const BUNDLE: &str = "com.example.app";

/// A provider token of this age.
fn provider_token(key: &Value, team: &str, age_seconds: i64) -> String {
    let mut header = Header::new(Algorithm::ES256);
    header.kid = key["key_id"].as_str().map(str::to_owned);
    let pem = EncodingKey::from_ec_pem(key["private_key"].as_str().unwrap().as_bytes()).unwrap();
    let claims = json!({"iss": team, "iat": now_seconds() - age_seconds});
    jsonwebtoken::encode(&header, &claims, &pem).unwrap()
}

/// One connection to the played APNs, with a good provider token.
struct Line<'world> {
    world: &'world World,
    http: reqwest::Client,
    key: Value,
    token: String,
}

impl<'world> Line<'world> {
    async fn open(world: &'world World) -> Self {
        let key = world.get(&format!("/_sandbox/apns/{TEAM}/key?bundle={BUNDLE}")).await;
        let token = provider_token(&key, TEAM, 0);
        Self { world, http: client(true), key, token }
    }

    /// Sends to a token; status and reason.
    async fn send(&self, device: &str, provider_token: &str) -> (u16, Value) {
        self.send_json(device, provider_token, &json!({"aps": {"alert": "Hello"}, "anypush_id": "m"})).await
    }

    async fn send_json(&self, device: &str, provider_token: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}/3/device/{device:0<64}", self.world.url);
        let request = self.http.post(url).header("apns-topic", BUNDLE).header("apns-push-type", "alert");
        let request = request.header("apns-collapse-id", "c").bearer_auth(provider_token);
        let answer = request.body(body.to_string()).send().await.unwrap();
        assert!(answer.headers().contains_key("apns-id"));
        (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
    }
}

fn refusal(reason: &str, status: u16) -> (u16, Value) {
    (status, json!({"reason": reason}))
}

pub(crate) fn fixtures(vendor: &str) -> Vec<(String, Value)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(vendor);
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let read = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (name, serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
    };
    files.map(read).collect()
}

#[tokio::test]
async fn every_request_of_node_apn_gets_the_answer_that_it_understood() {
    let world = World::start().await;
    let key = world.get(&format!("/_sandbox/apns/{TEAM}/key?bundle={BUNDLE}")).await;
    let foreign = world.get("/_sandbox/apns/INTEROP002/key").await;
    let mut replayed = 0;
    for (name, fixture) in fixtures("apns") {
        // Putting rules begins a new run of first tries.
        assert_eq!(world.put("/_sandbox/rules", json!([])).await.0, 204);
        // Each case had a connection of its own.
        let http = client(true);
        for (index, request) in fixture["requests"].as_array().unwrap().iter().enumerate() {
            let token = match (fixture["sender"].as_str().unwrap(), index) {
                ("foreign_key", _) => provider_token(&foreign, TEAM, 0),
                ("expired_then_good", 0) => provider_token(&key, TEAM, 3700),
                // Needs TLS: the client itself tries it in tests/interop.
                ("certificate", _) => continue,
                _ => provider_token(&key, TEAM, 1),
            };
            // Only a first token, or the same one, is taken on a connection: each request has its own.
            let http = if index == 0 { http.clone() } else { client(true) };
            let url = format!("{}{}", world.url, request["path"].as_str().unwrap());
            let mut sent =
                http.request(Method::POST, url).bearer_auth(token).body(request["body"].to_string());
            for (header, value) in request["headers"].as_object().unwrap() {
                if header != "authorization" {
                    sent = sent.header(header, value.as_str().unwrap());
                }
            }
            let answer = sent.send().await.unwrap();
            if let Some(id) = request["headers"]["apns-id"].as_str().filter(|_| request["status"] == 200) {
                assert_eq!(answer.headers()["apns-id"], id);
            }
            let status = answer.status().as_u16();
            let text = answer.text().await.unwrap();
            let said: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
            assert_eq!(
                (json!(status), &said["reason"], said["timestamp"].is_number(), !text.is_empty()),
                (
                    request["status"].clone(),
                    &request["reason"],
                    request["has_timestamp"] == true,
                    request["has_body"] == true
                ),
                "{name}: {text}"
            );
            replayed += 1;
        }
    }
    assert!(replayed >= 28, "only {replayed} requests were found");
}

#[tokio::test]
async fn a_provider_token_is_held_to_key_team_age_and_connection() {
    let world = World::start().await;
    let line = Line::open(&world).await;
    let old = provider_token(&line.key, TEAM, 3700);
    assert_eq!(line.send("a0", &old).await, refusal("ExpiredProviderToken", 403));
    let early = provider_token(&line.key, TEAM, -600);
    assert_eq!(line.send("a0", &early).await, refusal("InvalidProviderToken", 403));
    assert_eq!(line.send("a0", "no.token.atall").await, refusal("InvalidProviderToken", 403));
    let foreign = provider_token(&line.key, "INTEROP002", 0);
    assert_eq!(line.send("a0", &foreign).await, refusal("InvalidProviderToken", 403));
    let url = format!("{}/3/device/a0", world.url);
    let answer = line.http.post(&url).header("apns-topic", BUNDLE).body("{}").send().await.unwrap();
    assert_eq!(
        (answer.status(), answer.json().await.unwrap()),
        (http::StatusCode::FORBIDDEN, json!({"reason": "MissingProviderToken"}))
    );

    assert_eq!(line.send("a0", &line.token).await.0, 200);
    let other_team = world.get("/_sandbox/apns/INTEROP002/key").await;
    let other = provider_token(&other_team, "INTEROP002", 0);
    assert_eq!(
        line.send("a0", &other).await,
        refusal("InvalidProviderToken", 403),
        "one connection, one team"
    );
    // A second token of the same key comes too soon, and spoils the connection for the first one too.
    let second = provider_token(&line.key, TEAM, 5);
    assert_eq!(line.send("a0", &second).await, refusal("TooManyProviderTokenUpdates", 429));
    assert_eq!(line.send("a0", &line.token).await, refusal("TooManyProviderTokenUpdates", 429));
    assert_eq!(
        Line { http: client(true), ..line }.send("a0", &second).await.0,
        200,
        "another connection is free"
    );

    let line = Line::open(&world).await;
    assert_eq!(world.put("/_sandbox/apns/settings", json!({"token_update_seconds": 0})).await.0, 204);
    assert_eq!(line.send("a0", &line.token).await.0, 200);
    assert_eq!(line.send("a0", &provider_token(&line.key, TEAM, 5)).await.0, 200);
    let revoked = world.http.post(format!("{}/_sandbox/apns/{TEAM}/revoke", world.url)).send().await.unwrap();
    assert_eq!(revoked.status(), 204);
    assert_eq!(line.send("a0", &line.token).await, refusal("InvalidProviderToken", 403));
}

#[tokio::test]
async fn every_reason_can_be_asked_for_by_token_and_by_rule() {
    let world = World::start().await;
    let line = Line::open(&world).await;
    let help = world.get("/_sandbox?format=json").await;
    let patterns = help["twins"]["apns"]["patterns"].as_array().unwrap();
    let mut asked = 0;
    for row in patterns.iter().filter(|row| row["code"].is_string()) {
        let (status, said) = line.send(row["pattern"].as_str().unwrap(), &line.token).await;
        assert_eq!(said["reason"], row["code"], "{row}");
        assert!(row["help"].as_str().unwrap().starts_with(&status.to_string()), "{row}");
        asked += 1;
    }
    assert_eq!(asked, help["twins"]["apns"]["codes"].as_array().unwrap().len());
    let rule = json!([{"provider": "apns", "pattern": "abab*", "behaviour": "answer", "code": "Shutdown", "retry_after_seconds": 3}]);
    assert_eq!(world.put("/_sandbox/rules", rule).await.0, 204);
    assert_eq!(line.send("abab", &line.token).await, refusal("Shutdown", 503));
    let typo = json!([{"provider": "apns", "pattern": "abab*", "behaviour": "answer", "code": "ShutDown"}]);
    assert_eq!(world.put("/_sandbox/rules", typo).await.0, 400);
}

#[tokio::test]
async fn paths_and_methods_have_their_own_words() {
    let world = World::start().await;
    let line = Line::open(&world).await;
    for (method, path, expected) in [
        (Method::GET, "/3/device/a0", refusal("MethodNotAllowed", 405)),
        (Method::POST, "/3/device/", refusal("MissingDeviceToken", 400)),
        (Method::POST, "/3/devices/a0", refusal("BadPath", 404)),
        (Method::POST, "/3/device/a0/b0", refusal("BadPath", 404)),
    ] {
        let request = line.http.request(method, format!("{}{path}", world.url)).bearer_auth(&line.token);
        let answer = request.header("apns-topic", BUNDLE).body("{}").send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.json().await.unwrap()), expected, "{path}");
    }
    let http1 = world.http.post(format!("{}/3/device/a0", world.url)).body("{}").send().await;
    assert!(http1.is_err(), "APNs speaks HTTP/2 alone");
}

#[tokio::test]
async fn a_phone_that_is_away_gets_the_last_push_of_an_app_and_a_screen_the_last_of_a_collapse_id() {
    let world = World::start().await;
    let line = Line::open(&world).await;
    let token = format!("{:0<64}", "a0");
    let phone = json!({"kind": "apns", "token": token, "online": false});
    assert_eq!(world.put("/_sandbox/phones/iphone", phone).await.0, 200);
    let text = |body: &str| json!({"aps": {"alert": {"title": "T", "body": body}}, "anypush_id": body});
    for body in ["first", "second"] {
        assert_eq!(line.send_json("a0", &line.token, &text(body)).await.0, 200);
    }
    let shown = world.put("/_sandbox/phones/iphone", json!({"online": true})).await.1;
    assert_eq!(shown["screen"].as_array().unwrap().len(), 1, "{shown}");
    assert_eq!(shown["screen"][0]["body"], "second");
    assert_eq!(line.send_json("a0", &line.token, &text("third")).await.0, 200);
    let shown = world.get("/_sandbox/phones/iphone").await;
    assert_eq!(shown["screen"].as_array().unwrap().len(), 1, "the same collapse id takes its place");
    assert_eq!(shown["screen"][0]["body"], "third");
}

#[tokio::test]
async fn what_a_token_got_is_counted_by_the_gateways_message() {
    let world = World::start().await;
    let line = Line::open(&world).await;
    for device in ["a0", "a0", "dead1"] {
        line.send(device, &line.token).await;
    }
    assert_eq!(world.sums("?message=m").await, [3, 2, 1, 1]);
    assert_eq!(
        world.put("/_sandbox/providers/apns", json!({"quota": {"target_per_minute": 1}})).await.0,
        204
    );
    assert_eq!(line.send("b0", &line.token).await.0, 200);
    assert_eq!(line.send("b0", &line.token).await, refusal("TooManyRequests", 429));
    assert_eq!(world.put("/_sandbox/providers/apns", json!({"credentials": "refused"})).await.0, 204);
    assert_eq!(line.send("c1", &line.token).await, refusal("InvalidProviderToken", 403));
}
