//! Held to what a well-known client sends and understands: requests and answers recorded from node-apn 8.1
//! (`tests/fixtures/apns`), written by neither us nor the sandbox.
//!
//! Each recorded request is said again in our words, sent by the adapter, and compared header by header and body by body.
//! What differs on purpose stands in [`compare_headers`] and [`NOT_SENT`], with its reason.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::certificates::by_certificate;
use super::sending::claims;
use super::*;
use crate::contract::{Certainty, Reason};

const COLLAPSE_ID: &str = "apns-collapse-id";

/// What the client sends and a user of ours cannot: each is refused before any call, for what the vendor answered.
const NOT_SENT: [(&str, Reason); 6] = [
    ("background_is_never_urgent", Reason::PayloadInvalid),
    ("bad_priority", Reason::PayloadInvalid),
    ("collapse_id_too_long", Reason::PayloadInvalid),
    ("payload_too_large", Reason::PayloadTooLarge),
    ("unknown_push_type", Reason::PayloadInvalid),
    // A notification to a kind that takes data only. (Our topic would have had its ending, theirs had none.)
    ("topic_without_what_its_type_asks_for", Reason::PayloadInvalid),
];

/// What nobody can say in our words: each request has the channel's topic, and an id of its own that is a UUID.
const NOT_SAID: [&str; 2] = ["message_id_is_no_uuid", "no_topic"];

/// How the last recorded answer of a case is read.
fn expected(case: &str) -> Verdict {
    let target = |reason| Failure::target(reason);
    let failure = match case {
        "alert_with_everything"
        | "background"
        | "certificate_in_the_place_of_a_token"
        | "expired_provider_token_is_renewed"
        | "goaway_says_why_and_the_client_comes_back"
        | "nothing_is_stored_with_expiration_0"
        | "too_many_is_tried_again"
        | "unavailable_is_tried_again"
        | "voip_may_be_longer" => return Verdict::Accepted,
        // The other environment's tokens look like this too.
        "bad_token" => target(Reason::InvalidToken).doubtful(),
        "dead" | "dead_since_long" | "expired_token" => target(Reason::InvalidToken),
        "token_of_another_app" => target(Reason::WrongApp),
        // A topic is the channel's own here: what is wrong with it is the channel's trouble.
        "key_of_another_team" | "topic_of_another_team" | "topic_without_what_its_type_asks_for" => {
            Failure::channel(Reason::AuthFailed)
        }
        "too_many_for_one_token" => target(Reason::RateLimited),
        "internal_error" | "shutdown" => Failure::channel(Reason::VendorUnavailable),
        "payload_too_large" => target(Reason::PayloadTooLarge),
        "background_is_never_urgent"
        | "bad_priority"
        | "collapse_id_too_long"
        | "message_id_is_no_uuid"
        | "no_topic"
        | "unknown_push_type" => target(Reason::PayloadInvalid),
        new => panic!("the recording {new} is not read here"),
    };
    Verdict::Failed(failure)
}

fn recordings() -> Vec<(String, Vec<Value>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/apns");
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| {
            let mut fixture: Value =
                serde_json::from_slice(&std::fs::read(file.unwrap().path()).unwrap()).unwrap();
            let requests = fixture["requests"].as_array().unwrap().clone();
            (fixture["case"].take().as_str().unwrap().to_owned(), requests)
        })
        .collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    assert!(all.len() >= 27, "only {} recordings were found", all.len());
    all
}

/// The answer as it was on the wire.
fn replay(recorded: &Value) -> Reply {
    let reply = Reply::status(recorded["status"].as_u64().unwrap() as u16).header("apns-id", APNS_ID);
    let mut body = serde_json::Map::new();
    if let Some(reason) = recorded["reason"].as_str() {
        body.insert("reason".to_owned(), json!(reason));
    }
    if recorded["has_timestamp"] == true {
        body.insert("timestamp".to_owned(), json!(1_699_000_000_123_u64));
    }
    assert_eq!(!body.is_empty(), recorded["has_body"] == true);
    if body.is_empty() { reply } else { reply.body(Value::Object(body).to_string()) }
}

/// The recorded request in the words of our API: what they call `aps` beyond the common fields is an override.
fn say_again(recorded: &Value) -> Batch {
    let (headers, body) = (&recorded["headers"], &recorded["body"]);
    let (mut aps, mut shown, mut data) = (body["aps"].clone(), json!({}), json!({}));
    for (name, value) in body.as_object().unwrap() {
        if name != "aps" && name != "anypush_id" {
            data[name] = value.clone();
        }
    }
    if let Some(alert) = aps.get_mut("alert").and_then(Value::as_object_mut) {
        for field in ["title", "body"] {
            shown[field] = alert.remove(field).unwrap();
        }
        if let Some(badge) = aps["badge"].as_u64() {
            shown["badge"] = json!({"set": badge});
        }
        shown["actions_category"] = aps["category"].clone();
    }
    let mut content = json!({"data": data});
    if headers["apns-push-type"] != "background" || aps["alert"].is_object() {
        let is_shown = shown.as_object().is_some_and(|shown| !shown.is_empty());
        content["notification"] = if is_shown { shown } else { Value::Null };
    }
    content["collapse_key"] = headers[COLLAPSE_ID].clone();
    if let Some(aps) = aps.as_object_mut() {
        for said in ["badge", "category", "content-available"] {
            aps.remove(said);
        }
        aps.retain(|_, value| !value.as_object().is_some_and(serde_json::Map::is_empty));
        content["overrides"] = json!({"apns": {"aps": aps}});
    }
    let token = recorded["path"].as_str().unwrap().strip_prefix("/3/device/").unwrap();
    let mut batch = batch(content, &[token]);
    batch.message.id = "msg_interop".to_owned();
    if headers["apns-push-type"] == "voip" {
        batch.targets[0].address.kind = "voip".to_owned();
    }
    let until = headers["apns-expiration"].as_str().map(|until| until.parse::<u64>().unwrap());
    let now = now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    batch.ttl = until.map_or(batch.ttl, |until| Duration::from_secs(until.saturating_sub(now)));
    batch
}

fn compare_headers(case: &str, recorded: &Value, seen: &Seen) {
    let theirs = recorded["headers"].as_object().unwrap();
    for (name, value) in theirs {
        match name.as_str() {
            "authorization" => {
                let (header, claims) = claims(seen.header(name));
                // The client's JWT library adds `typ`, which Apple does not ask for.
                let mut known = recorded["jwt"]["header"].as_object().unwrap().clone();
                assert_eq!(known.remove("typ"), Some(json!("JWT")));
                assert_eq!(header["alg"], known["alg"], "{case}");
                let names = |value: &Value| {
                    value.as_object().unwrap().keys().cloned().collect::<std::collections::BTreeSet<_>>()
                };
                assert_eq!(names(&header), known.keys().cloned().collect(), "{case}");
                assert_eq!(names(&claims), names(&recorded["jwt"]["claims"]), "{case}");
            }
            // Ours is the delivery's key, whatever the caller would like: it finds the delivery again.
            "apns-id" => assert_eq!(seen.header(name).len(), value.as_str().unwrap().len(), "{case}"),
            _ => assert_eq!(seen.header(name), value.as_str().unwrap(), "{case}: {name}"),
        }
    }
    let more = seen.headers.keys().map(http::HeaderName::as_str).filter(|name| !theirs.contains_key(*name));
    let more: Vec<&str> = more.collect();
    for name in more {
        let reason = match name {
            "apns-id" => "every delivery has one",
            "apns-expiration" => "every message of ours has a TTL",
            COLLAPSE_ID => "a repeat after a lost answer replaces the first on the screen",
            "apns-topic" => "sent with a certificate too: it may have several topics",
            "user-agent" | "content-length" => "of the transport",
            _ => panic!("{case}: the client sends no {name}"),
        };
        let alert_only = name != COLLAPSE_ID || seen.header("apns-push-type") == "alert";
        assert!(alert_only, "{case}: {name} ({reason})");
    }
}

fn of_team(base_url: &str, case: &str, recorded: &Value) -> Arc<dyn Provider> {
    let topic = recorded["headers"]["apns-topic"].as_str().unwrap_or("com.example.app");
    let kind = if recorded["headers"]["apns-push-type"] == "voip" { "voip" } else { "device" };
    let more = json!({"bundle_id": topic.strip_suffix(".voip").unwrap_or(topic), "team_id": "INTEROP001", "kinds": [kind]});
    if case == "certificate_in_the_place_of_a_token" {
        let (config, _) = by_certificate(base_url, 5);
        return build(&with(config, &json!({"bundle_id": topic})));
    }
    // Tokens are shared by key: each case has its own.
    let key_id = format!("{:0<10.10}", case.replace('_', "").to_uppercase());
    build(&with(settings(base_url, &key_id), &more))
}

#[tokio::test]
async fn every_recorded_request_is_sent_as_the_client_sent_it() {
    let mut compared = 0;
    for (case, requests) in recordings() {
        for recorded in &requests {
            if NOT_SENT.iter().any(|(name, _)| *name == case) || NOT_SAID.contains(&case.as_str()) {
                continue;
            }
            let vendor = vendor(|_| accepted()).await;
            let channel = of_team(&vendor.url(""), &case, recorded);
            let outcomes = assert_contract(&*channel, say_again(recorded), context(), &["eyJhbGci"]).await;
            assert_eq!(outcomes[0].verdict, Verdict::Accepted, "{case}: {outcomes:?}");
            let seen = vendor.requests().remove(0);
            assert_eq!(
                (seen.method.as_str(), seen.path.as_str()),
                (recorded["method"].as_str().unwrap(), recorded["path"].as_str().unwrap()),
                "{case}"
            );
            let mut body = seen.json();
            if recorded["body"].get("aps").is_none() {
                // Apple's page gives every payload an `aps`; the client leaves out an empty one.
                assert_eq!(body.as_object_mut().unwrap().remove("aps"), Some(json!({})), "{case}");
            }
            assert_eq!(body, recorded["body"], "{case}");
            compare_headers(&case, recorded, &seen);
            compared += 1;
        }
    }
    assert!(compared >= 30, "only {compared} requests were compared");
}

#[tokio::test]
async fn what_the_vendor_refused_of_the_client_is_refused_before_any_call() {
    for (case, recorded) in recordings() {
        let Some((_, reason)) = NOT_SENT.iter().find(|(name, _)| *name == case) else { continue };
        let recorded = &recorded[0];
        let vendor = vendor(|_| accepted()).await;
        let channel = of_team(&vendor.url(""), &case, recorded);
        let mut batch = say_again(recorded);
        let headers = &recorded["headers"];
        let mut content: Value = serde_json::to_value(&*batch.content).unwrap();
        content["overrides"]["apns"]["headers"] = match case.as_str() {
            "collapse_id_too_long" => json!({COLLAPSE_ID: headers[COLLAPSE_ID]}),
            _ => {
                json!({"apns-priority": headers["apns-priority"], "apns-push-type": headers["apns-push-type"]})
            }
        };
        batch.content = Arc::new(serde_json::from_value(content).unwrap());
        let outcomes = assert_contract(&*channel, batch, context(), &[]).await;
        assert_eq!(failed(&outcomes[0]), &Failure::target(*reason), "{case}: {outcomes:?}");
        assert_eq!(vendor.requests().len(), 0, "{case}");
    }
}

#[tokio::test]
async fn every_recorded_answer_is_read_as_the_client_understood_it() {
    for (case, requests) in recordings() {
        let answers: Vec<Reply> = requests.iter().map(replay).collect();
        let (last, next) = (requests.len() - 1, AtomicUsize::new(0));
        // Of several answers the first is what one attempt of ours sees; the client repeats, we leave that to the gateway.
        let vendor = vendor(move |_| answers[next.fetch_add(1, Ordering::SeqCst).min(last)].clone()).await;
        let channel = of_team(&vendor.url(""), &case, &json!({"headers": {}}));
        let mut verdicts = Vec::new();
        for attempt in 0..requests.len() {
            let outcome = send_one(&*channel).await;
            let recorded = &requests[vendor.requests().len().min(last + 1) - 1];
            assert_eq!(json!(outcome.vendor.status), recorded["status"], "{case}, {attempt}");
            assert_eq!(json!(outcome.vendor.code), recorded["reason"], "{case}, {attempt}");
            let dated =
                outcome.vendor.words.as_deref().is_some_and(|words| words.contains("since 2023-11-03"));
            assert_eq!(dated, recorded["has_timestamp"] == true, "{case}: {outcome:?}");
            let mut verdict = outcome.verdict;
            if let Verdict::Failed(failure) = &mut verdict {
                assert_eq!(failure.since.take().is_some(), dated, "{case}: {failure:?}");
            }
            verdicts.push(verdict);
        }
        if case == "certificate_in_the_place_of_a_token" {
            // Its second request was for another team's topic.
            let refused = Verdict::Failed(Failure::channel(Reason::AuthFailed));
            assert_eq!(verdicts, [Verdict::Accepted, refused]);
            continue;
        }
        assert_eq!(verdicts.last(), Some(&expected(&case)), "{case}");
        let definite = |verdict: &Verdict| match verdict {
            Verdict::Accepted => true,
            Verdict::Failed(failure) => failure.certainty == Certainty::Definite,
        };
        assert!(
            verdicts.iter().all(|verdict| definite(verdict) || case == "bad_token"),
            "{case}: {verdicts:?}"
        );
    }
}

#[tokio::test]
async fn every_request_has_the_channels_topic_and_an_id_that_the_vendor_takes() {
    for (case, requests) in recordings() {
        if NOT_SAID.contains(&case.as_str()) {
            let vendor = vendor(|_| accepted()).await;
            let channel = of_team(&vendor.url(""), &case, &requests[0]);
            assert_contract(&*channel, say_again(&requests[0]), context(), &[]).await;
            let seen = vendor.requests().remove(0);
            assert_eq!(seen.header("apns-topic"), "com.example.app", "{case}");
            let groups: Vec<usize> = seen.header("apns-id").split('-').map(str::len).collect();
            assert_eq!(groups, [8, 4, 4, 4, 12], "{case}");
        }
    }
}
