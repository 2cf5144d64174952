//! Held to what clients in use send and understand: requests and answers recorded from push-xiaomi 0.1.6 and xiaomi-push
//! 1.0.0 (`tests/fixtures/xiaomi`), written by neither us nor the sandbox.
//!
//! Each recorded form is said again in our words, sent by the adapter, and compared field by field. What differs on
//! purpose stands in [`differs`], with its reason.

use std::path::PathBuf;

use http::{HeaderMap, HeaderValue, Method};

use super::*;
use crate::contract::{CallbackRequest, Failure, Reason, ReceiptEvent, Scope, Verdict};

fn recordings() -> Vec<(String, Vec<Value>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/xiaomi");
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| serde_json::from_slice::<Value>(&std::fs::read(file.unwrap().path()).unwrap()).unwrap())
        .map(|fixture| {
            let requests = fixture["requests"].as_array().unwrap().clone();
            (fixture["case"].as_str().unwrap().to_owned(), requests)
        })
        .collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    assert!(all.len() >= 10, "only {} recordings were found", all.len());
    all
}

fn posts(requests: &[Value]) -> impl Iterator<Item = &Value> {
    requests.iter().filter(|sent| sent["method"] == "POST")
}

/// The recorded form. A client leaves what it was not told empty: as good as absent.
fn form(recorded: &Value) -> BTreeMap<String, String> {
    let fields = url::form_urlencoded::parse(recorded["body"].as_str().unwrap().as_bytes());
    fields.into_owned().filter(|(_, value)| !value.is_empty()).collect()
}

fn tokens(form: &BTreeMap<String, String>) -> Vec<&str> {
    form["registration_id"].split(',').collect()
}

fn data_of(form: &BTreeMap<String, String>) -> Value {
    serde_json::from_str(&form["payload"]).unwrap()
}

/// The recorded message in the words of our API.
fn say_again(form: &BTreeMap<String, String>) -> Batch {
    let mut data = data_of(form);
    let id = data.as_object_mut().unwrap().remove("anypush_id").unwrap();
    let mut said =
        json!({"notification": {"title": form["title"], "body": form["description"]}, "data": data});
    if let Some(link) = form.get("extra.intent_uri") {
        said["notification"]["click"] = json!({"open": "deep_link", "value": link});
    }
    let mut batch = batch(content(said), &tokens(form));
    batch.message.id = id.as_str().unwrap().to_owned();
    let ttl = form.get("time_to_live").map_or(3_600_000, |ms| ms.parse().unwrap());
    batch.ttl = Duration::from_millis(ttl);
    for target in &mut batch.targets {
        // One parameter for all, so that they share a request.
        target.receipt_param = Some("rcp".into());
    }
    batch
}

fn of_app(base_url: &str, form: &BTreeMap<String, String>) -> Arc<dyn Provider> {
    let mut config = json!({"app_secret": SECRET, "base_url": base_url});
    config["package_name"] = json!(form["restricted_package_name"]);
    if let Some(channel) = form.get("extra.channel_id") {
        config["private_channel_id"] = json!(channel);
        config["public_channel_id"] = json!(channel);
    }
    build(&config)
}

/// Whether our value of a field may be another than theirs. `None` stands for a field that is not sent.
#[expect(clippy::match_same_arms, reason = "each difference has a reason of its own")]
fn differs(name: &str, ours: Option<&str>, theirs: Option<&str>) -> bool {
    match (name, ours, theirs) {
        // A number that fits into Java's int, made from the message: a repeat replaces itself. The client's is the
        // time of sending in milliseconds.
        ("notify_id", Some(ours), Some(_)) => ours.parse::<i32>().is_ok_and(|id| id > 0),
        // Each message of ours has a TTL.
        ("time_to_live", Some("3600000"), None) => true,
        // Without an effect nothing is shown since 2024-09-30 (pId=1856): where nothing is said, the app opens.
        ("extra.notify_effect", Some("1"), None) => true,
        // Each message of ours is shown once, however often it is sent.
        ("extra.jobkey", Some(ours), _) => ours.len() == 20,
        // Ours finds the delivery again.
        ("extra.callback.param", Some("rcp"), None) => true,
        // A custom field of `extra`: what the app shall get stands in the payload, where every vendor's app finds it.
        ("extra.order", None, Some(_)) => true,
        _ => false,
    }
}

#[tokio::test]
async fn every_recorded_form_is_sent_as_the_clients_sent_it() {
    let mut compared = 0;
    for (case, requests) in recordings() {
        for recorded in posts(&requests) {
            let theirs = form(recorded);
            let vendor = vendor(|_| accepted()).await;
            let callback_url = theirs.get("extra.callback").map(|url| url.as_str().into());
            let context = SendContext { callback_url, ..context() };
            let channel = of_app(&vendor.url(""), &theirs);
            assert_contract(&*channel, say_again(&theirs), context, &[SECRET]).await;
            let sent = vendor.requests();
            assert_eq!(sent.len(), 1, "{case}");
            let seen = &sent[0];
            // One of the clients still posts to v2, which takes the same form.
            assert_eq!(seen.path, recorded["path"].as_str().unwrap().replace("/v2/", "/v3/"), "{case}");
            assert_eq!(recorded["headers"]["authorization"], "key=<access token>");
            assert_eq!(seen.header("authorization"), format!("key={SECRET}"), "{case}");
            // The vendor's own client names the charset; these do not.
            let form_type = recorded["headers"]["content-type"].as_str().unwrap();
            assert_eq!(seen.header("content-type"), format!("{form_type};charset=UTF-8"), "{case}");
            let mut ours = seen.form();
            // As JSON: the order of its keys is nobody's business. A tap is told to the app, too.
            let mut data = data_of(&ours);
            for told in ["anypush_open", "anypush_open_value"] {
                data.as_object_mut().unwrap().remove(told);
            }
            assert_eq!(data, data_of(&theirs), "{case}");
            ours.remove("payload");
            let names = ours.keys().chain(theirs.keys()).filter(|name| *name != "payload");
            for name in names {
                let (ours, theirs) =
                    (ours.get(name).map(String::as_str), theirs.get(name).map(String::as_str));
                assert!(ours == theirs || differs(name, ours, theirs), "{case}: {name} {ours:?} {theirs:?}");
            }
            compared += 1;
        }
    }
    assert!(compared >= 10, "only {compared} forms were compared");
}

#[tokio::test]
async fn every_recorded_answer_is_read_as_the_clients_understood_it() {
    let target = Failure::target;
    for (case, requests) in recordings() {
        let recorded = posts(&requests).next().unwrap();
        let body = recorded["answer"].to_string();
        let vendor = vendor(move |_| Reply::ok(body.clone())).await;
        let form = form(recorded);
        let outcomes = send_to(&*of_app(&vendor.url(""), &form), &tokens(&form)).await;
        let failed = |failure: Failure| Verdict::Failed(failure);
        let verdicts: Vec<Verdict> = outcomes.iter().map(|outcome| outcome.verdict.clone()).collect();
        let refused = match case.as_str() {
            // One bad token, or one of another region or package: a second strike is needed.
            "v2_refusal" => target(Reason::InvalidToken).doubtful(),
            // Nobody says which of them.
            "no_valid_targets" => target(Reason::Unclassified),
            "v2_invalid_channel" => target(Reason::PayloadInvalid),
            "wrong_secret" => Failure::channel(Reason::AuthFailed),
            // Of this class of channels only.
            "daily_quota" => Failure { scope: Scope::Class, ..Failure::channel(Reason::QuotaExceeded) },
            "some_bad_regids" => {
                let bad = failed(target(Reason::InvalidToken));
                assert_eq!(verdicts, [Verdict::Accepted, bad.clone(), Verdict::Accepted, bad]);
                continue;
            }
            _ => {
                assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Accepted), "{case}: {outcomes:?}");
                assert_eq!(json!(outcomes[0].vendor.id), recorded["answer"]["data"]["id"], "{case}");
                continue;
            }
        };
        assert!(verdicts.iter().all(|verdict| *verdict == failed(refused.clone())), "{case}: {outcomes:?}");
        let vendor = &outcomes[0].vendor;
        assert_eq!(vendor.code, recorded["answer"]["code"].as_i64().map(|code| code.to_string()), "{case}");
        assert_eq!(json!(vendor.words), recorded["answer"]["reason"], "{case}");
    }
}

#[tokio::test]
async fn what_became_of_a_message_is_asked_and_read_as_the_clients_do() {
    let mut asked = 0;
    for (case, requests) in recordings() {
        let by_id = |sent: &&Value| sent["query"].as_str().is_some_and(|query| query.starts_with("msg_id="));
        for recorded in requests.iter().filter(by_id) {
            let body = recorded["answer"].to_string();
            let vendor = FakeVendor::start(move |_| Reply::ok(body.clone())).await;
            let id = recorded["query"].as_str().unwrap().strip_prefix("msg_id=").unwrap().to_owned();
            let receipts =
                channel(&vendor).poll_receipts(std::slice::from_ref(&id), context()).await.unwrap();
            let told: Vec<_> =
                receipts.iter().map(|receipt| (receipt.vendor_id.clone(), receipt.event)).collect();
            // 65028: the vendor knows no such message, and nothing is known of it.
            let known = recorded["answer"]["code"] == 0;
            let expected = if known { vec![(Some(id), ReceiptEvent::Delivered)] } else { Vec::new() };
            assert_eq!(told, expected, "{case}");
            let seen = vendor.requests().remove(0);
            assert_eq!(
                json!([seen.method.as_str(), seen.path, seen.query]),
                json!([recorded["method"], recorded["path"], recorded["query"]])
            );
            assert_eq!(seen.header("authorization"), format!("key={SECRET}"));
            asked += 1;
        }
    }
    assert_eq!(asked, 3);
}

#[test]
fn the_callbacks_that_a_clients_message_brought_name_it_and_its_targets() {
    let (_, requests) = recordings().into_iter().find(|(case, _)| case == "callback").unwrap();
    let id = posts(&requests).next().unwrap()["answer"]["data"]["id"].as_str().unwrap();
    let mut told = Vec::new();
    for recorded in requests.iter().filter(|sent| sent["operation"] == "callback") {
        let content_type = recorded["headers"]["content-type"].as_str().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_str(content_type).unwrap());
        let request = CallbackRequest {
            method: Method::POST,
            url: "https://gw.example/".to_owned(),
            headers,
            body: recorded["body"].as_str().unwrap().to_owned().into(),
            received_at: SystemTime::UNIX_EPOCH,
        };
        let reply = build(&config("http://x.invalid")).parse_callback(&request).unwrap();
        assert!(reply.receipts.iter().all(|receipt| receipt.vendor_id.as_deref() == Some(id)), "{reply:?}");
        told.extend(reply.receipts.into_iter().map(|receipt| (receipt.token.unwrap(), receipt.event)));
    }
    let delivered = |token: &str| (token.to_owned(), ReceiptEvent::Delivered);
    let dead = ("fails-16-1".to_owned(), ReceiptEvent::failed(Reason::InvalidToken));
    assert_eq!(told, [delivered("interop-1"), delivered("interop-2"), dead]);
}
