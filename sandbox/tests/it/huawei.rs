//! Huawei, as a sender sees it.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::hearing::Hearing;
use crate::world::{World, now_seconds};

const APP: &str = "100001";
const AUDIENCE: &str = "https://oauth-login.cloud.huawei.com/oauth2/v3/token";

/// A sandbox, its app, and a good access token of it.
pub(crate) struct Sender {
    pub(crate) world: World,
    pub(crate) app: Value,
    token: String,
}

impl Sender {
    pub(crate) async fn start() -> Self {
        let world = World::start().await;
        let app = world.get(&format!("/_sandbox/huawei/{APP}/app")).await;
        let token = access_token(&world, APP).await;
        Self { world, app, token }
    }

    pub(crate) async fn try_post(
        &self,
        path: &str,
        bearer: &str,
        body: &Value,
    ) -> reqwest::Result<reqwest::Response> {
        self.world.http.post(format!("{}{path}", self.world.url)).bearer_auth(bearer).json(body).send().await
    }

    /// Posts a request to v1; status and answer.
    pub(crate) async fn post(&self, body: &Value) -> (u16, Value) {
        self.post_as(&self.token, body).await
    }

    async fn post_as(&self, bearer: &str, body: &Value) -> (u16, Value) {
        let answer = self.try_post("/v1/100001/messages:send", bearer, body).await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
    }

    async fn change(&self, change: Value) {
        let (status, answer) = self.world.put(&format!("/_sandbox/huawei/{APP}/app"), change).await;
        assert_eq!(status, 200, "{answer}");
    }

    async fn switch(&self, switch: Value) {
        assert_eq!(self.world.put("/_sandbox/providers/huawei", switch).await.0, 204);
    }
}

/// Asks for a token; status and answer.
pub(crate) async fn ask_token(world: &World, form: &[(&str, &str)]) -> (u16, Value) {
    let answer = world.http.post(format!("{}/oauth2/v3/token", world.url)).form(form).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
}

pub(crate) async fn access_token(world: &World, app: &str) -> String {
    let secret = world.get(&format!("/_sandbox/huawei/{app}/app")).await["app_secret"].clone();
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", app),
        ("client_secret", secret.as_str().unwrap()),
    ];
    let (status, answer) = ask_token(world, &form).await;
    assert_eq!(status, 200, "{answer}");
    answer["access_token"].as_str().unwrap().to_owned()
}

/// A notification to these tokens.
fn to(tokens: &[&str]) -> Value {
    json!({"validate_only": false, "message": {
        "token": tokens,
        "data": r#"{"anypush_id":"msg_1"}"#,
        "android": {"ttl": "3600s", "bi_tag": "tag-1", "notification": {
            "title": "t", "body": "b", "click_action": {"type": 3},
        }},
    }})
}

/// The same with a part replaced, by JSON pointer below `message`.
fn with(pointer: &str, value: Value) -> Value {
    let mut request = to(&["a"]);
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = request.pointer_mut(&format!("/message{parent}")).unwrap();
    if value.is_null() {
        parent.as_object_mut().unwrap().remove(name);
    } else {
        parent[name] = value;
    }
    request
}

#[tokio::test]
async fn both_versions_take_both_kinds_of_bearer() {
    let sender = Sender::start().await;
    let account = &sender.app["service_account"];
    let now = now_seconds();
    let claims = json!({"iss": account["sub_account"], "aud": AUDIENCE, "iat": now, "exp": now + 3600});
    let mut header = Header::new(Algorithm::PS256);
    header.kid = account["key_id"].as_str().map(str::to_owned);
    let key = EncodingKey::from_rsa_pem(account["private_key"].as_str().unwrap().as_bytes()).unwrap();
    let jwt = encode(&header, &claims, &key).unwrap();
    let project = format!("/v2/{}/messages:send", sender.app["project_id"].as_str().unwrap());
    for path in ["/v1/100001/messages:send", &project] {
        for bearer in [&jwt, &sender.token] {
            let answer = sender.try_post(path, bearer, &to(&["a"])).await.unwrap();
            let answer: Value = answer.json().await.unwrap();
            assert_eq!(answer["code"], "80000000", "{path}: {answer}");
            assert_eq!(answer["requestId"].as_str().unwrap().len(), 24);
        }
    }
    assert_eq!(sender.world.sums("?message=msg_1").await, [4, 4, 1, 3]);
}

#[tokio::test]
async fn a_bearer_that_is_not_of_the_app_opens_nothing() {
    let sender = Sender::start().await;
    let foreign = access_token(&sender.world, "100002").await;
    for (bearer, code) in [("", "80200001"), ("nonsense", "80200001"), (foreign.as_str(), "80200001")] {
        let (status, answer) = sender.post_as(bearer, &to(&["a"])).await;
        assert_eq!((status, &answer["code"]), (401, &code.into()), "{answer}");
    }
    sender.switch(json!({"access_token_seconds": 0})).await;
    let expired = access_token(&sender.world, APP).await;
    assert_eq!(sender.post_as(&expired, &to(&["a"])).await.1["code"], "80200003");
    assert_eq!(sender.post(&to(&["a"])).await.1["code"], "80000000", "the older token lives on");
    let url = format!("{}/_sandbox/huawei/{APP}/withdraw_tokens", sender.world.url);
    assert_eq!(sender.world.http.post(url).send().await.unwrap().status(), 204);
    assert_eq!(sender.post(&to(&["a"])).await.1["code"], "80200001");
    let nowhere = sender.try_post("/v1/999/messages:send", &sender.token, &to(&["a"])).await.unwrap();
    assert_eq!(nowhere.status(), 404);
    sender.switch(json!({"credentials": "refused"})).await;
    let secret = sender.app["app_secret"].as_str().unwrap();
    let form = [("grant_type", "client_credentials"), ("client_id", APP), ("client_secret", secret)];
    let (status, answer) = ask_token(&sender.world, &form).await;
    assert_eq!((status, &answer["error"]), (400, &1101.into()));
}

#[tokio::test]
async fn each_prefix_gets_its_row_of_the_error_table() {
    let sender = Sender::start().await;
    let rows = [
        ("dead-1", 200, Some("80300007")),
        ("malformed-1", 200, Some("80300007")),
        ("wrongapp-1", 200, Some("80300007")),
        ("flaky-1", 200, Some("81000001")),
        ("limited-1", 503, None),
        ("answer-80100016-1", 400, Some("80100016")),
        ("thirdparty-1", 200, Some("80300013")),
        ("apnsauth-1", 200, Some("80300011")),
        ("unauthenticated-1", 401, Some("80200001")),
        ("forbidden-1", 200, Some("80300002")),
        ("notfound-1", 404, None),
        ("payload-1", 400, Some("80100003")),
        ("toobig-1", 400, Some("80300008")),
        ("unavailable-1", 200, Some("80600003")),
        ("internal-1", 500, None),
        ("badgateway-1", 502, None),
        ("gatewaytimeout-1", 504, None),
        ("deadline-1", 400, Some("80100004")),
        ("unspecified-1", 400, None),
        ("unheard-1", 200, Some("80999999")),
    ];
    for (token, status, code) in rows {
        let (got, answer) = sender.post(&to(&[token])).await;
        assert_eq!((got, answer["code"].as_str()), (status, code), "{token}: {answer}");
    }
    assert_eq!(sender.world.sums("").await, [20, 0, 0, 0]);
    for token in ["flaky-1", "limited-1", "quota-1", "devicequota-1", "fails-2-1", "silent-1"] {
        assert_eq!(sender.post(&to(&[token])).await.1["code"], "80000000", "{token}");
    }
    let lost = sender.try_post("/v1/100001/messages:send", &sender.token, &to(&["lost-1"])).await;
    assert!(lost.is_err());
    assert_eq!(sender.post(&to(&["lost-1"])).await.1["code"], "80000000");
    assert_eq!(sender.world.sums("").await, [28, 8, 7, 1]);
}

#[tokio::test]
async fn some_illegal_tokens_are_named_in_json_inside_a_text_and_doubles_go_out_twice() {
    let sender = Sender::start().await;
    let (status, answer) = sender.post(&to(&["a", "dead-1", "a", "wrongapp-1", "b c"])).await;
    assert_eq!((status, &answer["code"]), (200, &"80100000".into()));
    let msg: Value = serde_json::from_str(answer["msg"].as_str().unwrap()).unwrap();
    let expected = json!({"success": 2, "failure": 3, "illegal_tokens": ["dead-1", "wrongapp-1", "b c"]});
    assert_eq!(msg, expected);
    assert_eq!(sender.world.sums("").await, [5, 2, 1, 1]);
}

#[tokio::test]
async fn every_field_is_checked() {
    let sender = Sender::start().await;
    let n = "/android/notification";
    let at = |name: &str| format!("{n}/{name}");
    let rows = [
        ("/token", Value::Null, "80300010"),
        ("/token", json!([]), "80300010"),
        ("/token", json!("a"), "80100003"),
        ("/token", json!(vec!["t"; 1001]), "80300010"),
        ("/token", json!(vec!["t"; 1000]), "80000000"),
        ("/topic", json!("news"), "80100001"),
        ("/android/ttl", json!("1296001s"), "80100004"),
        ("/android/ttl", json!("1296000s"), "80000000"),
        ("/android/ttl", json!("86400"), "80100004"),
        ("/android/ttl", json!("-1s"), "80100004"),
        ("/android/ttl", json!(86400), "80100003"),
        ("/android/collapse_key", json!(101), "80100013"),
        ("/android/collapse_key", json!(100), "80000000"),
        ("/android/category", json!("EXPRESS"), "80000000"),
        ("/android/category", json!("LOVE"), "80100001"),
        ("/android/category", json!("PLAY_VOICE"), "80100001"),
        ("/android/receipt_id", json!("RCP1"), "80300013"),
        ("/android/misspelled", json!("x"), "80100003"),
        ("/android/notification", Value::Null, "80000000"),
        (&at("click_action"), Value::Null, "80100003"),
        (&at("click_action"), json!({"type": 1}), "80100003"),
        (&at("click_action"), json!({"type": 1, "action": "com.example.OPEN"}), "80000000"),
        (&at("click_action"), json!({"type": 2, "url": "http://example.com"}), "80100003"),
        (&at("title"), Value::Null, "80100003"),
        (&at("importance"), json!("HIGH"), "80000000"),
        (&at("importance"), json!("HIGHEST"), "80100001"),
        (&at("style"), json!(1), "80100001"),
        (&at("style"), json!(3), "80100001"),
        (&at("badge"), json!({"add_num": 100}), "80100001"),
        (&at("badge"), json!({"set_num": 0, "class": "a.B"}), "80000000"),
        (&at("color"), json!("red"), "80100001"),
        (&at("image"), json!("http://cdn.example.com/1.png"), "80100001"),
        (&at("profile_id"), json!("p".repeat(65)), "80100001"),
        (&at("buttons"), json!([{"name": "a", "action_type": 0}]), "80000000"),
        (&at("buttons"), json!([{"name": "a", "action_type": 5}]), "80100001"),
        (&at("buttons"), json!(vec![json!({"name": "a", "action_type": 0}); 4]), "80100001"),
    ];
    for (pointer, value, code) in rows {
        let (_, answer) = sender.post(&with(pointer, value.clone())).await;
        assert_eq!(answer["code"], code, "{pointer} = {value:.60}: {answer}");
    }
    let neither = json!({"message": {"token": ["a"], "android": {"ttl": "1s"}}});
    assert_eq!(sender.post(&neither).await.1["code"], "80100003");
    assert_eq!(sender.post(&json!({"massage": {}})).await.1["code"], "80300010");
}

#[tokio::test]
async fn four_kilobytes_count_without_the_tokens() {
    let sender = Sender::start().await;
    let of = |letters: usize, tokens: &[String]| json!({"message": {"data": "x".repeat(letters), "token": tokens}});
    let room = 4096 - of(0, &[]).to_string().len();
    let tokens: Vec<_> = (0..1000).map(|n| format!("{n:0>100}")).collect();
    assert_eq!(sender.post(&of(room, &tokens)).await.1["code"], "80000000");
    assert_eq!(sender.post(&of(room + 1, &tokens)).await.1["code"], "80300008");
}

#[tokio::test]
async fn urgent_data_needs_a_right_and_validation_alone_sends_nothing() {
    let sender = Sender::start().await;
    let urgent = json!({"message": {"token": ["a"], "data": "x", "android": {"urgency": "HIGH"}}});
    assert_eq!(sender.post(&urgent).await.1["code"], "80000000");
    sender.change(json!({"high_priority": false})).await;
    assert_eq!(sender.post(&urgent).await.1["code"], "80300011");
    let mut only = to(&["dead-1"]);
    only["validate_only"] = true.into();
    assert_eq!(sender.post(&only).await.1["code"], "80000000");
    assert_eq!(sender.world.sums("").await[1], 1);
}

#[tokio::test]
async fn too_many_requests_get_503_without_a_word() {
    let sender = Sender::start().await;
    sender.switch(json!({"quota": {"account_per_minute": 1}})).await;
    assert_eq!(sender.post(&to(&["a"])).await.0, 200);
    let answer = sender.try_post("/v1/100001/messages:send", &sender.token, &to(&["a"])).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(!answer.headers().contains_key("retry-after"));
    assert_eq!(answer.text().await.unwrap(), "");
}

fn configuration(url: &str, id: &str, version: &str, mode: &str) -> Value {
    json!({"receipt_id": id, "url": url, "version": version, "user_name": "push-demo",
        "secret": "c2VjcmV0LWtleS1mb3ItdGVzdHMtb25seS0wMDAx", "key_mode": mode})
}

/// Whether a header was made with this key, recomputed here.
fn is_proven(header: &str, key: &[u8]) -> bool {
    use aws_lc_rs::hmac;
    use base64::Engine as _;
    let part = |name: &str| header.split("; ").find_map(|part| part.strip_prefix(name)).unwrap();
    let signed = format!("{}{}push-demo", part("timestamp="), part("nonce="));
    let value = base64::engine::general_purpose::STANDARD.decode(part("value=")).unwrap();
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), signed.as_bytes(), &value).is_ok()
}

#[tokio::test]
async fn receipts_come_signed_in_the_version_that_was_configured() {
    let sender = Sender::start().await;
    let hearing = Hearing::open(r#"{"code":"0","message":"success"}"#).await;
    let configurations =
        [configuration(&hearing.url, "", "v1", "base64"), configuration(&hearing.url, "RCP2", "v2", "plain")];
    sender.change(json!({"receipts": configurations})).await;
    let (_, answer) = sender.post(&to(&["a", "fails-6-1", "silent-1", "quota-1", "devicequota-1"])).await;
    let heard = hearing.wait_for(1).await;
    let header = heard[0].0["x-huawei-callback-id"].to_str().unwrap();
    assert!(is_proven(header, b"secret-key-for-tests-only-0001"), "{header}");
    let body: Value = serde_json::from_str(&heard[0].1).unwrap();
    let statuses: Vec<_> = body["statuses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| (s["token"].clone(), s["status"].clone()))
        .collect();
    assert_eq!(
        json!(statuses),
        json!([["a", 0], ["fails-6-1", 6], ["quota-1", 256], ["devicequota-1", 102]])
    );
    let first = &body["statuses"][0];
    assert_eq!((&first["biTag"], &first["appid"]), (&"tag-1".into(), &APP.into()));
    assert_eq!(first["requestId"], answer["requestId"]);
    sender.post(&with("/android/receipt_id", "RCP2".into())).await;
    let heard = hearing.wait_for(2).await;
    let header = heard[1].0["x-huawei-callback-id"].to_str().unwrap();
    assert!(is_proven(header, b"c2VjcmV0LWtleS1mb3ItdGVzdHMtb25seS0wMDAx"), "{header}");
    let body: Value = serde_json::from_str(&heard[1].1).unwrap();
    assert_eq!(body["statuses"][0]["deliveryStatus"]["result"], 0);
    sender.switch(json!({"receipts": {"forged": true}})).await;
    sender.post(&to(&["a"])).await;
    let forged = hearing.wait_for(3).await;
    let header = forged[2].0["x-huawei-callback-id"].to_str().unwrap();
    assert!(!is_proven(header, b"secret-key-for-tests-only-0001"));
    sender.switch(json!({})).await;
    let url = format!("{}/_sandbox/huawei/{APP}/probe", sender.world.url);
    assert_eq!(sender.world.http.post(url).json(&json!({})).send().await.unwrap().status(), 204);
    let probed = hearing.wait_for(4).await;
    assert!(!probed[3].0.contains_key("x-huawei-callback-id"));
}

#[tokio::test]
async fn a_thousand_receipts_come_a_hundred_at_a_time_and_refused_ones_come_again() {
    let sender = Sender::start().await;
    let hearing = Hearing::open("not what Huawei wants").await;
    sender.change(json!({"receipts": [configuration(&hearing.url, "", "v1", "base64")]})).await;
    let tokens: Vec<_> = (0..250).map(|n| format!("t{n}")).collect();
    let tokens: Vec<_> = tokens.iter().map(String::as_str).collect();
    sender.post(&to(&tokens)).await;
    let heard = hearing.wait_for(2).await;
    let count =
        |body: &str| serde_json::from_str::<Value>(body).unwrap()["statuses"].as_array().unwrap().len();
    assert_eq!((count(&heard[0].1), &heard[0].1), (100, &heard[1].1));
}

#[tokio::test]
async fn a_phone_shows_what_arrives_and_what_was_replaced_while_it_was_away_is_reported() {
    let sender = Sender::start().await;
    let hearing = Hearing::open(r#"{"code":"0"}"#).await;
    sender.change(json!({"receipts": [configuration(&hearing.url, "", "v1", "base64")]})).await;
    sender.world.put("/_sandbox/phones/p", json!({"kind": "huawei", "token": "a"})).await;
    for (title, id) in [("one", 1), ("two", 2), ("three", 1)] {
        let mut request = with("/android/notification/notify_id", id.into());
        request["message"]["android"]["notification"]["title"] = title.into();
        sender.post(&request).await;
    }
    let phone = sender.world.get("/_sandbox/phones/p").await;
    let titles: Vec<_> = phone["screen"].as_array().unwrap().iter().map(|shown| &shown["title"]).collect();
    assert_eq!(json!(titles), json!(["three", "two"]));
    hearing.wait_for(1).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let before = hearing.heard().len();
    sender.world.put("/_sandbox/phones/p", json!({"online": false})).await;
    for _ in 0..2 {
        sender.post(&with("/android/collapse_key", 0.into())).await;
    }
    let heard = hearing.wait_for(before + 1).await;
    let body: Value = serde_json::from_str(&heard[before].1).unwrap();
    assert_eq!(body["statuses"][0]["status"], 15);
    assert_eq!(body["statuses"].as_array().unwrap().len(), 1, "what waits is not reported yet");
}
