//! Held to what the vendor's own client sends and understands: requests, answers and callbacks recorded from
//! twilio-python 9.13 (`tests/fixtures/sms_twilio`), written by neither us nor the sandbox.
//!
//! Each recorded form is said again in our words, sent by the adapter, and compared field by field. What differs on
//! purpose stands in [`refused_before`] and [`compare`], with its reason.

use std::path::PathBuf;

use http::{HeaderMap, HeaderName, Method};

use super::*;
use crate::contract::{CallbackRequest, Outcomes, Reason, ReceiptEvent};

const RECORDED_ACCOUNT: &str = "AC1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e";
const RECORDED_SID: &str = "SM00000000000000000000000000000002";
/// By `RequestValidator("12345").compute_signature` of twilio-python 9.13.0.
const SIGNATURE_WITH_PARAM: &str = "3HtAvd036bRaEn7FCDih8O18JcI=";

fn recordings() -> Vec<(String, Value)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/sms_twilio");
    let mut all: Vec<(String, Value)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| serde_json::from_slice(&std::fs::read(file.unwrap().path()).unwrap()).unwrap())
        .map(|fixture: Value| (fixture["case"].as_str().unwrap().to_owned(), fixture))
        .collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    assert!(all.len() >= 26, "only {} recordings were found", all.len());
    all
}

fn fixture(case: &str) -> Value {
    recordings().into_iter().find(|(name, _)| name == case).unwrap().1
}

/// The recorded messages to send: posts to the list, not to a message.
fn sends(fixture: &Value) -> Vec<Value> {
    let all = fixture["requests"].as_array().unwrap().iter();
    let is_send = |sent: &&Value| {
        sent["method"] == "POST" && sent["path"].as_str().unwrap().ends_with("/Messages.json")
    };
    all.filter(is_send).cloned().collect()
}

/// A channel with the sender and the account of a recorded request.
fn of_account(base_url: &str, recorded: &Value) -> Arc<dyn Provider> {
    let (form, path) = (&recorded["form"], recorded["path"].as_str().unwrap());
    let account = path.split('/').nth(3).unwrap();
    let mut more = json!({"account_sid": account, "smart_encoded": form["SmartEncoded"] == "true"});
    for (setting, field) in [("from", "From"), ("messaging_service_sid", "MessagingServiceSid")] {
        if form[field].is_string() {
            more[setting] = form[field].clone();
        }
    }
    build(&with(without(settings(base_url), &["from"]), &more))
}

/// The recorded message in the words of our API.
fn say_again(form: &Value) -> Batch {
    let mut content = json!({"notification": {"body": form["Body"]}});
    if form["MessageIntent"].is_string() {
        content["overrides"] = json!({"sms_twilio": {"MessageIntent": form["MessageIntent"]}});
    }
    let mut batch = batch(content, &[form["To"].as_str().unwrap()]);
    let validity = form["ValidityPeriod"].as_str().map_or(3600, |seconds| seconds.parse().unwrap());
    batch.ttl = Duration::from_secs(validity);
    // The recorded URL carries its own parameter.
    batch.targets[0].receipt_param = None;
    batch
}

fn context_of(form: &Value) -> SendContext {
    SendContext { callback_url: form["StatusCallback"].as_str().map(Into::into), ..context() }
}

/// What the client may ask for and a user of ours cannot: it ends before any call, for the vendor's own reason.
fn refused_before(case: &str, form: &Value) -> Option<Reason> {
    match case {
        "no_body" => Some(Reason::PayloadInvalid),
        "body_too_long" => Some(Reason::PayloadTooLarge),
        // Of the two recorded numbers, the one that has no country.
        "invalid_number" if form["To"] == "5551234567" => Some(Reason::UnreachableRecipient),
        _ => None,
    }
}

fn compare(case: &str, recorded: &Value, seen: &Seen) {
    assert_eq!(
        (seen.method.as_str(), seen.path.as_str()),
        (recorded["method"].as_str().unwrap(), recorded["path"].as_str().unwrap()),
        "{case}"
    );
    for header in ["accept", "content-type"] {
        assert_eq!(seen.header(header), recorded["headers"][header].as_str().unwrap(), "{case}: {header}");
    }
    // `accept-charset` and `x-twilio-client` speak of the client alone.
    assert!(seen.header("authorization").starts_with("Basic "), "{case}");
    let mut ours = seen.form();
    if recorded["form"].get("ValidityPeriod").is_none() {
        // Without it the vendor waits for four hours or ten, whatever the message's TTL is: ours always says it.
        assert_eq!(ours.remove("ValidityPeriod").as_deref(), Some("3600"), "{case}");
    }
    assert_eq!(json!(ours), recorded["form"], "{case}");
}

#[tokio::test]
async fn every_recorded_message_is_sent_as_the_vendors_client_sent_it() {
    let mut compared = 0;
    for (case, fixture) in recordings() {
        for recorded in sends(&fixture) {
            let form = &recorded["form"];
            if case == "no_sender" {
                // A channel without a sender cannot be configured.
                let lacking = without(settings("http://x.invalid"), &["from"]);
                let environment = Environment::default();
                assert!((PROVIDER.build)(&lacking, &environment).is_err());
                continue;
            }
            let vendor = vendor(|_| queued()).await;
            let channel = of_account(&vendor.url(""), &recorded);
            // Not by assert_contract: one recorded number is part of the example in the words about its form.
            let (sink, mut source) = Outcomes::channel();
            channel.send(say_again(form), context_of(form), sink).await;
            let outcomes = [source.recv().await.unwrap()];
            if let Some(reason) = refused_before(&case, form) {
                assert_eq!(failed(&outcomes[0]), &Failure::target(reason), "{case}");
                assert_eq!(vendor.requests().len(), 0, "{case}");
                continue;
            }
            assert_eq!(outcomes[0].verdict, Verdict::Accepted, "{case}: {outcomes:?}");
            compare(&case, &recorded, &vendor.requests()[0]);
            compared += 1;
        }
    }
    assert!(compared >= 20, "only {compared} messages were compared");
}

/// How the answer to a case's first message is read.
fn expected(case: &str) -> Verdict {
    let failure = match case {
        "account_of_somebody_else" | "bad_credentials" => Failure::channel(Reason::AuthFailed),
        "body_too_long" => Failure::target(Reason::PayloadTooLarge),
        "foreign_sender" | "no_body" | "no_sender" => Failure::target(Reason::PayloadInvalid),
        "opted_out" | "opted_out_in_the_new_shape" => Failure::target(Reason::OptedOut),
        // Numbers move: a second strike is needed.
        "invalid_number" | "not_a_mobile" => Failure::target(Reason::UnreachableRecipient).doubtful(),
        "limited" => Failure::channel(Reason::RateLimited),
        // It may have been taken, and each text costs.
        "internal_error" => Failure::channel(Reason::VendorUnavailable).doubtful(),
        "unavailable" => Failure::channel(Reason::VendorUnavailable),
        _ => return Verdict::Accepted,
    };
    Verdict::Failed(failure)
}

#[tokio::test]
async fn every_recorded_answer_is_read_as_the_vendors_client_understood_it() {
    let (mut accepted, mut refused) = (0, 0);
    for (case, fixture) in recordings() {
        for recorded in sends(&fixture) {
            let (status, body) =
                (recorded["status"].as_u64().unwrap() as u16, recorded["answer"].to_string());
            let vendor = vendor(move |_| Reply::status(status).body(body.clone())).await;
            let outcome = send_one(&*channel(&vendor)).await;
            assert_eq!(outcome.verdict, expected(&case), "{case}: {outcome:?}");
            assert_eq!(outcome.vendor.status, Some(status), "{case}");
            let code = recorded["error_code"].as_u64().map(|code| code.to_string());
            assert_eq!(outcome.vendor.code, code, "{case}");
            if outcome.verdict == Verdict::Accepted {
                assert_eq!(outcome.vendor.id.as_deref(), Some(RECORDED_SID), "{case}");
                accepted += 1;
            } else {
                assert!(outcome.vendor.words.is_some(), "{case}: the vendor's words are lost");
                refused += 1;
            }
        }
    }
    assert!(accepted >= 10 && refused >= 12, "{accepted} accepted, {refused} refused");
}

/// A recorded callback with its verdict.
fn called(recorded: &Value) -> CallbackRequest {
    let mut headers = HeaderMap::new();
    for (name, value) in recorded["headers"].as_object().unwrap() {
        headers.insert(name.parse::<HeaderName>().unwrap(), value.as_str().unwrap().parse().unwrap());
    }
    let text = |name: &str| recorded[name].as_str().unwrap().to_owned();
    CallbackRequest {
        method: Method::POST,
        url: text("url"),
        headers,
        body: text("body").into(),
        received_at: now(),
    }
}

#[test]
fn every_recorded_callback_is_believed_exactly_when_the_vendors_validator_does() {
    let (mut believed, mut refused) = (0, 0);
    for (case, fixture) in recordings() {
        let callbacks = fixture["callbacks"].as_array().unwrap();
        if callbacks.is_empty() {
            continue;
        }
        let shared = &fixture["shared_key"];
        let mut keys = json!({});
        keys[shared["id"].as_str().unwrap()] = shared["secret"].clone();
        let more = json!({"auth_token": fixture["auth_token"], "webhook_shared_keys": keys});
        let channel = build(&with(settings("http://x.invalid"), &more));
        for recorded in callbacks {
            let reply = channel.parse_callback(&called(recorded)).unwrap();
            assert_eq!(json!(reply.authenticated), recorded["is_authentic"], "{case}: {recorded}");
            // The same report with one letter changed, or to another address, is nobody's.
            for (field, from, to) in
                [("body", "MessageStatus=", "MessageStatus=x"), ("url", "m=msg", "m=gsm")]
            {
                let mut forged = recorded.clone();
                forged[field] = json!(recorded[field].as_str().unwrap().replace(from, to));
                assert!(!channel.parse_callback(&called(&forged)).unwrap().authenticated, "{case}: {field}");
            }
            if reply.authenticated {
                believed += 1;
            } else {
                assert_eq!((reply.receipts.len(), reply.status.as_u16()), (0, 403), "{case}");
                refused += 1;
            }
        }
    }
    assert!(believed >= 18 && refused >= 3, "{believed} believed, {refused} refused");
}

#[test]
fn the_recorded_reports_become_receipts() {
    let delivered = ReceiptEvent::Delivered;
    let failed = ReceiptEvent::failed;
    for (case, events) in [
        ("delivered_is_reported", vec![delivered]),
        ("reported_before_the_answer", vec![delivered]),
        ("reported_out_of_order", vec![delivered]),
        // A repeat is another receipt: the gateway knows them by message and event.
        ("reported_twice", vec![delivered, delivered]),
        ("signed_with_a_shared_key", vec![delivered]),
        ("gone_handset", vec![failed(Reason::UnreachableRecipient)]),
        ("filtered", vec![failed(Reason::CarrierRejected)]),
    ] {
        let fixture = fixture(case);
        let keys = json!({"webhooks_sharedkey_fixture": fixture["shared_key"]["secret"]});
        let more = json!({"auth_token": fixture["auth_token"], "webhook_shared_keys": keys});
        let channel = build(&with(settings("http://x.invalid"), &more));
        let callbacks = fixture["callbacks"].as_array().unwrap();
        let receipts: Vec<_> = callbacks
            .iter()
            .flat_map(|recorded| channel.parse_callback(&called(recorded)).unwrap().receipts)
            .collect();
        assert_eq!(receipts.iter().map(|receipt| receipt.event).collect::<Vec<_>>(), events, "{case}");
        let to = &sends(&fixture)[0]["form"]["To"];
        for receipt in &receipts {
            assert_eq!(receipt.vendor_id.as_deref(), Some(RECORDED_SID), "{case}");
            assert_eq!(json!(receipt.token), *to, "{case}");
        }
    }
}

#[test]
fn a_report_to_an_address_of_ours_finds_its_delivery_and_its_signature_covers_the_parameter() {
    // What the vendor's own client signs for such an address.
    let recorded = json!({
        "url": "https://push.example.com/v1/callbacks/chn_1/s3cret?p=rcp_1-_",
        "headers": {"x-twilio-signature": SIGNATURE_WITH_PARAM, "content-type": "application/x-www-form-urlencoded"},
        "body": format!(
            "AccountSid={RECORDED_ACCOUNT}&ApiVersion=2010-04-01&From=%2B15557654321&MessageSid={RECORDED_SID}&\
             MessageStatus=delivered&SmsSid={RECORDED_SID}&SmsStatus=delivered&To=%2B15551234567"
        ),
    });
    let channel = build(&with(settings("http://x.invalid"), &json!({"auth_token": "12345"})));
    let reply = channel.parse_callback(&called(&recorded)).unwrap();
    assert!(reply.authenticated);
    assert_eq!(reply.receipts[0].param.as_deref(), Some("rcp_1-_"));
    let mut other = recorded;
    other["url"] = json!("https://push.example.com/v1/callbacks/chn_1/s3cret?p=rcp_2");
    assert!(!channel.parse_callback(&called(&other)).unwrap().authenticated, "another delivery's report");
}

/// A vendor that answers as in the recording, by method and path.
async fn replayed(requests: Vec<Value>) -> FakeVendor {
    vendor(move |seen| {
        let answer = requests.iter().rev().find(|recorded| {
            seen.method.as_str() == recorded["method"]
                && Some(seen.path.as_str()) == recorded["path"].as_str()
        });
        match answer {
            Some(recorded) => Reply::status(recorded["status"].as_u64().unwrap() as u16)
                .body(recorded["answer"].to_string()),
            None => Reply::status(418),
        }
    })
    .await
}

#[tokio::test]
async fn a_fetched_message_tells_what_became_of_it_and_a_deleted_one_nothing() {
    for (case, expected) in
        [("delivered_is_reported", vec![ReceiptEvent::Delivered]), ("listed_and_forgotten", Vec::new())]
    {
        let vendor = replayed(fixture(case)["requests"].as_array().unwrap().clone()).await;
        let channel = build(&with(settings(&vendor.url("")), &json!({"account_sid": RECORDED_ACCOUNT})));
        let receipts = channel.poll_receipts(&[RECORDED_SID.to_owned()], context()).await.unwrap();
        assert_eq!(receipts.iter().map(|receipt| receipt.event).collect::<Vec<_>>(), expected, "{case}");
        if let Some(receipt) = receipts.first() {
            assert_eq!(receipt.extra["price"], "-0.00790");
        }
        let seen = vendor.requests().remove(0);
        assert_eq!((seen.method.as_str(), seen.header("accept")), ("GET", "application/json"));
    }
}

#[tokio::test]
async fn a_check_takes_the_recorded_not_found_of_a_message_for_a_good_login_and_nothing_else() {
    let gone = fixture("listed_and_forgotten")["requests"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&gone["status"], &gone["error_code"]), (&json!(404), &json!(20404)));
    let bad = sends(&fixture("bad_credentials")).remove(0);
    let limited = sends(&fixture("limited")).remove(0);
    for (recorded, reason) in
        [(gone, None), (bad, Some(Reason::AuthFailed)), (limited, Some(Reason::RateLimited))]
    {
        let (status, body) = (recorded["status"].as_u64().unwrap() as u16, recorded["answer"].to_string());
        let vendor = vendor(move |_| Reply::status(status).body(body.clone())).await;
        let report = channel(&vendor).check(context()).await;
        assert_eq!((report.ok, report.reason), (reason.is_none(), reason), "{report:?}");
        let seen = vendor.requests().remove(0);
        // As the client fetches a message.
        assert_eq!(seen.method.as_str(), "GET");
        let last = seen.path.strip_prefix(&format!("/2010-04-01/Accounts/{ACCOUNT}/Messages/")).unwrap();
        assert_eq!(last, "SM00000000000000000000000000000000.json");
    }
}
