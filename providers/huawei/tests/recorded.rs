//! Held to recordings (`tests/fixtures/huawei`): what the vendor's Python demo sends, and requests, answers and callbacks in
//! the verified shapes of the vendor's pages. Written by neither us nor the sandbox.
//!
//! Each recorded message is said again in our words, sent by the adapter, and compared field by field. What differs on
//! purpose stands in [`differs`], with its reason. (`documented.rs` holds all our fields to the vendor's samples.)

use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::*;
use crate::contract::{CallbackReply, CallbackRequest, Failure, Reason, ReceiptEvent, Verdict};

macro_rules! recorded {
    ($name:literal) => {
        recording(include_str!(concat!("../../../tests/fixtures/huawei/", $name, ".json")))
    };
}

fn recording(text: &str) -> Value {
    serde_json::from_str::<Value>(text).unwrap()["requests"][0].take()
}

/// The recorded message in the words of our API: what has no common field is an override or the category's.
fn say_again(recorded: &Value) -> Batch {
    let message = &recorded["body"]["message"];
    let android = &message["android"];
    let mut said = json!({});
    if let Some(data) = message["data"].as_str() {
        said["data"] = serde_json::from_str(data).unwrap();
    }
    let mut more = json!({});
    for field in ["collapse_key", "urgency"] {
        if let Some(value) = android.get(field) {
            more[field] = value.clone();
        }
    }
    if let Some(shown) = message["notification"].as_object() {
        said["notification"] = json!(shown);
        let mut theirs = android["notification"].clone();
        let mut take = |name: &str| theirs.as_object_mut().unwrap().remove(name);
        let click = take("click_action").unwrap();
        said["notification"]["click"] = json!({"open": "deep_link", "value": click["intent"]});
        said["notification"]["badge"] = json!({"add": take("badge").unwrap()["add_num"]});
        if let Some(sound) = take("sound") {
            said["notification"]["sound"] = sound;
        }
        // The demo says both texts twice, the second time at another place.
        for text in ["title", "body"] {
            assert!(take(text).is_none_or(|again| again == shown[text]));
        }
        take("channel_id");
        more["notification"] = theirs;
    }
    said["overrides"] = json!({"huawei": {"android": more}});
    let tokens: Vec<&str> =
        message["token"].as_array().unwrap().iter().map(|token| token.as_str().unwrap()).collect();
    let mut batch = batch(content(said), &tokens);
    let mut settings = json!({});
    for (name, value) in
        [("category", &android["category"]), ("channel_id", &android["notification"]["channel_id"])]
    {
        if value.is_string() {
            settings[name] = value.clone();
        }
    }
    batch.category = Some(category(settings));
    let ttl = android["ttl"].as_str().unwrap().strip_suffix('s').unwrap();
    batch.ttl = Duration::from_secs(ttl.parse().unwrap());
    for target in &mut batch.targets {
        target.receipt_param = android["bi_tag"].as_str().map(Into::into);
    }
    batch
}

/// Our channel for a recorded path: v1 names the app, v2 the project.
fn of_path(vendor: &FakeVendor, path: &str) -> Arc<dyn Provider> {
    let id = path.split('/').nth(2).unwrap();
    let mut config = config(&vendor.url(""));
    let name = if path.starts_with("/v2/") { "project_id" } else { "app_id" };
    config[name] = json!(id);
    config["badge_class"] = json!("com.example.app.MainActivity");
    build(&config)
}

/// Every leaf of a message, by its place.
fn leaves(value: &Value, at: &str, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| leaves(field, &format!("{at}/{name}"), found));
        }
        // JSON in a text: the order of its keys is nobody's business.
        Value::String(text) if at == "/message/data" => {
            leaves(&serde_json::from_str(text).unwrap(), at, found);
        }
        other => {
            found.insert(at.to_owned(), other.clone());
        }
    }
}

/// Whether our field may be another than theirs. `None` stands for a field that is not sent.
#[expect(clippy::match_same_arms, reason = "each difference has a reason of its own")]
fn differs(at: &str, ours: Option<&Value>, theirs: Option<&Value>) -> bool {
    match (at, ours, theirs) {
        // Every message of ours names itself, and tells the app what a tap opens.
        (
            "/message/data/anypush_id" | "/message/data/anypush_open" | "/message/data/anypush_open_value",
            Some(_),
            None,
        ) => true,
        // 0, an ordinary message, is what its absence says.
        ("/message/android/target_user_type", None, Some(theirs)) => theirs == &json!(0),
        // Title and text stand at one place, where the vendor's reference has them.
        ("/message/android/notification/title" | "/message/android/notification/body", None, Some(_)) => true,
        // "Only with default_sound false is a sound of one's own heard" (the reference; the demo leaves it out).
        ("/message/android/notification/default_sound", Some(ours), None) => ours == &json!(false),
        _ => false,
    }
}

#[tokio::test]
async fn every_recorded_message_is_sent_as_it_was_recorded() {
    for (name, recorded) in [
        ("notification", recorded!("notification")),
        ("demo_notification", recorded!("demo_notification")),
        ("data", recorded!("data")),
    ] {
        let vendor = vendor(|_| accepted()).await;
        let channel = of_path(&vendor, recorded["path"].as_str().unwrap());
        let outcomes =
            assert_contract(&*channel, say_again(&recorded), context(), &[SECRET, ACCESS_TOKEN]).await;
        assert!(outcomes.iter().all(|outcome| outcome.verdict == Verdict::Accepted), "{name}: {outcomes:?}");
        let sent = vendor.requests_to(":send");
        assert_eq!(sent.len(), 1, "{name}");
        assert_eq!(
            json!([sent[0].method.as_str(), sent[0].path]),
            json!([recorded["method"], recorded["path"]])
        );
        assert_eq!(sent[0].header("content-type"), recorded["headers"]["content-type"], "{name}");
        assert_eq!(sent[0].header("authorization"), format!("Bearer {ACCESS_TOKEN}"), "{name}");
        let (mut ours, mut theirs) = (BTreeMap::new(), BTreeMap::new());
        leaves(&sent[0].json(), "", &mut ours);
        leaves(&recorded["body"], "", &mut theirs);
        for at in ours.keys().chain(theirs.keys()) {
            let (ours, theirs) = (ours.get(at), theirs.get(at));
            assert!(ours == theirs || differs(at, ours, theirs), "{name}: {at} {ours:?} {theirs:?}");
        }
    }
}

#[tokio::test]
async fn every_recorded_answer_is_read_for_what_it_says() {
    let target = Failure::target;
    for (name, recorded, expected) in [
        ("notification", recorded!("notification"), None),
        ("demo_notification", recorded!("demo_notification"), None),
        ("data", recorded!("data"), None),
        // Also what good tokens under another app's credentials get.
        (
            "all_tokens_illegal",
            recorded!("all_tokens_illegal"),
            Some(target(Reason::InvalidToken).doubtful()),
        ),
        ("misspelled_token", recorded!("misspelled_token"), Some(target(Reason::PayloadInvalid))),
        ("too_big", recorded!("too_big"), Some(target(Reason::PayloadTooLarge))),
        // Once more with a new token, then it is the credentials.
        ("token_expired", recorded!("token_expired"), Some(Failure::channel(Reason::AuthFailed))),
    ] {
        let (status, body) = (recorded["status"].as_u64().unwrap() as u16, recorded["answer"].to_string());
        let vendor = vendor(move |_| Reply::status(status).body(body.clone())).await;
        let outcome = send_one(&*channel(&vendor)).await;
        let verdict = expected.clone().map_or(Verdict::Accepted, Verdict::Failed);
        assert_eq!(outcome.verdict, verdict, "{name}: {outcome:?}");
        assert_eq!(json!(outcome.vendor.code), recorded["answer"]["code"], "{name}");
        if expected.is_none() {
            assert_eq!(json!(outcome.vendor.id), recorded["answer"]["requestId"], "{name}");
        } else {
            assert_eq!(json!(outcome.vendor.words), recorded["answer"]["msg"], "{name}");
        }
        let sent = vendor.requests_to(":send").len();
        assert_eq!(sent, if name == "token_expired" { 2 } else { 1 }, "{name}");
    }
}

#[tokio::test]
async fn of_a_recorded_partial_success_only_the_named_token_is_refused() {
    let recorded = recorded!("some_illegal_tokens");
    let tokens = recorded["body"]["message"]["token"].as_array().unwrap();
    let tokens: Vec<&str> = tokens.iter().map(|token| token.as_str().unwrap()).collect();
    let body = recorded["answer"].to_string();
    let vendor = vendor(move |_| Reply::ok(body.clone())).await;
    let verdicts: Vec<Verdict> =
        send_to(&*channel(&vendor), &tokens).await.into_iter().map(|outcome| outcome.verdict).collect();
    let refused = Verdict::Failed(Failure::target(Reason::InvalidToken));
    assert_eq!(verdicts, [Verdict::Accepted, Verdict::Accepted, Verdict::Accepted, refused]);
}

#[tokio::test]
async fn the_recorded_answers_of_the_token_endpoint_are_understood() {
    for (recorded, expected) in [
        (recorded!("token"), Verdict::Accepted),
        (recorded!("token_refused"), Verdict::Failed(Failure::channel(Reason::AuthFailed))),
    ] {
        // As it was on the wire: the vendor escapes the slash.
        let text =
            recorded["answer_text"].as_str().map_or_else(|| recorded["answer"].to_string(), str::to_owned);
        let status = recorded["status"].as_u64().unwrap() as u16;
        let vendor = FakeVendor::start(move |seen| match seen.path.as_str() {
            "/oauth2/v3/token" => Reply::status(status).body(text.clone()),
            _ => accepted(),
        })
        .await;
        let mut config = config(&vendor.url(""));
        config["app_id"] = recorded["form"]["client_id"].clone();
        let outcome = send_one(&*build(&config)).await;
        assert_eq!(outcome.verdict, expected, "{outcome:?}");
        let asked = vendor.requests_to("/token").remove(0);
        assert_eq!(json!([asked.method.as_str(), asked.path]), json!([recorded["method"], recorded["path"]]));
        assert_eq!(asked.header("content-type"), recorded["headers"]["content-type"]);
        let mut form = recorded["form"].clone();
        form["client_secret"] = json!(SECRET);
        assert_eq!(json!(asked.form()), form);
        let sent = vendor.requests_to(":send");
        if expected == Verdict::Accepted {
            let bearer = recorded["answer"]["access_token"].as_str().unwrap();
            assert_eq!(sent[0].header("authorization"), format!("Bearer {bearer}"));
        } else {
            assert!(sent.is_empty());
            let error = &recorded["answer"];
            let code = format!("{}/{}", error["error"], error["sub_error"]);
            assert_eq!(outcome.vendor.code, Some(code));
            assert_eq!(json!(outcome.vendor.words), error["error_description"]);
        }
    }
}

/// Calls back as recorded, at the time of the signature.
fn called(recorded: &Value, secret: Option<&str>) -> CallbackReply {
    let mut config = config("http://x.invalid");
    if let Some(secret) = secret {
        config["callback_user"] = json!("push-demo");
        config["callback_secret"] = json!(secret);
    }
    let mut headers = HeaderMap::new();
    for (name, value) in recorded["headers"].as_object().unwrap() {
        headers.insert(name.parse::<HeaderName>().unwrap(), value.as_str().unwrap().parse().unwrap());
    }
    let request = CallbackRequest {
        method: Method::POST,
        url: "https://gw.example/v1/callbacks/chn_1/s3cret".to_owned(),
        headers,
        body: recorded["body"].to_string().into(),
        received_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_563_105_451_261),
    };
    build(&config).parse_callback(&request).unwrap()
}

#[test]
fn the_recorded_receipts_are_believed_with_their_secret_only() {
    let failed = ReceiptEvent::failed(Reason::InvalidToken);
    for (name, recorded, events) in [
        ("receipts_v1", recorded!("receipts_v1"), vec![ReceiptEvent::Delivered, failed]),
        ("receipts_v2", recorded!("receipts_v2"), vec![ReceiptEvent::Delivered]),
    ] {
        let reply = called(&recorded, recorded["secret"].as_str());
        assert_eq!((reply.authenticated, reply.status), (true, StatusCode::OK), "{name}");
        assert_eq!(serde_json::from_slice::<Value>(&reply.body).unwrap(), recorded["answer"], "{name}");
        assert_eq!(reply.receipts.iter().map(|receipt| receipt.event).collect::<Vec<_>>(), events, "{name}");
        for (receipt, status) in reply.receipts.iter().zip(recorded["body"]["statuses"].as_array().unwrap()) {
            assert_eq!(
                json!([receipt.param, receipt.vendor_id, receipt.token]),
                json!([status["biTag"], status["requestId"], status["token"]]),
                "{name}"
            );
        }
        let other = called(&recorded, Some("YW5vdGhlciBzZWNyZXQ="));
        assert_eq!(
            (other.authenticated, other.status, other.receipts.len()),
            (false, StatusCode::UNAUTHORIZED, 0),
            "{name}"
        );
        // No secret is configured: the one in the URL has been compared by the gateway.
        assert_eq!(called(&recorded, None).receipts.len(), events.len(), "{name}");
    }
}

#[test]
fn the_published_header_is_nobodys_here_and_the_consoles_probe_is_answered() {
    let published = called(&recorded!("receipts_official_header"), Some("c2VjcmV0"));
    assert_eq!((published.authenticated, published.receipts.len()), (false, 0));
    let recorded = recorded!("receipts_probe");
    for secret in [Some("c2VjcmV0"), None] {
        let reply = called(&recorded, secret);
        assert_eq!((reply.status.as_u16(), reply.receipts.len()), (200, 0));
        assert_eq!(serde_json::from_slice::<Value>(&reply.body).unwrap(), recorded["answer"]);
    }
}
