//! Requests on the wire: encoding, regions, batches, callbacks.

use super::*;
use crate::contract::{Gate, Pass, Reason, Verdict};

#[tokio::test]
async fn a_registration_id_survives_the_form() {
    let vendor = vendor(|_| accepted()).await;
    send_to(&*channel(&vendor), &[TOKEN, "bad2"]).await;
    let seen = vendor.requests().remove(0);
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/v3/message/regid"));
    // The sheet's vectors: `+ / =` and the comma are escaped.
    let body = String::from_utf8(seen.body.to_vec()).unwrap();
    assert!(body.starts_with("registration_id=0VcFXB%2BGdD%2Fq%3D%2Cbad2&"), "{body}");
    assert_eq!(seen.header("authorization"), "key=AbCdSecret");
    assert_eq!(seen.header("content-type"), "application/x-www-form-urlencoded;charset=UTF-8");
    assert_eq!(seen.header("user-agent"), "anypush/test");
    assert!(body.contains("&extra.channel_id=118442&"), "dots stay: {body}");
}

#[tokio::test]
async fn a_repeat_is_the_same_request_byte_for_byte() {
    let vendor = vendor(|_| accepted()).await;
    let channel = channel(&vendor);
    let tokens: Vec<String> = (0..100).map(|n| format!("token{n}")).collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    for _ in 0..2 {
        send_to(&*channel, &tokens).await;
    }
    let seen = vendor.requests();
    assert_eq!(seen[0].body, seen[1].body);
}

#[tokio::test]
async fn a_thousand_targets_are_one_request_and_one_more_is_another() {
    let vendor = vendor(|_| accepted()).await;
    let tokens: Vec<String> = (0..1001).map(|n| format!("token{n}")).collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let outcomes = send_to(&*channel(&vendor), &tokens).await;
    assert!(outcomes.iter().all(|outcome| outcome.verdict == Verdict::Accepted));
    let mut sizes: Vec<usize> =
        vendor.requests().iter().map(|seen| seen.form()["registration_id"].split(',').count()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 1000]);
}

#[tokio::test]
async fn each_region_is_asked_at_its_own_service() {
    let russia = vendor(|_| refused(21301, "no")).await;
    let elsewhere = vendor(|_| accepted()).await;
    let mut config = config(&elsewhere.url(""));
    config["base_urls"] = json!({"ru": russia.url("")});
    let targets = vec![
        target("tokQa", 1),
        in_region("tokQb", 2, "ru"),
        in_region("tokQc", 3, "cn"),
        in_region("tokQd", 4, "eu"),
    ];
    let channel = build(&config);
    let outcomes = assert_contract(&*channel, batch_to(hello(), targets), context(), &[SECRET]).await;
    let accepted: Vec<bool> = outcomes.iter().map(|outcome| outcome.verdict == Verdict::Accepted).collect();
    assert_eq!(accepted, [true, false, true, true], "Russia's trouble is Russia's");
    let ids = |vendor: &FakeVendor| -> std::collections::BTreeSet<String> {
        vendor.requests().iter().map(|seen| seen.form()["registration_id"].clone()).collect()
    };
    assert_eq!(ids(&russia), ["tokQb".to_owned()].into());
    assert_eq!(ids(&elsewhere), ["tokQa,tokQc".to_owned(), "tokQd".to_owned()].into());
}

#[test]
fn without_another_word_each_region_has_the_vendors_address() {
    use crate::xiaomi::config::Config;
    use crate::xiaomi::region::Region;
    let mut config = config("x");
    config.as_object_mut().unwrap().remove("base_url");
    let config = Config::read(&config).unwrap();
    for (region, host) in [
        (Region::China, "https://api.xmpush.xiaomi.com/x"),
        (Region::Russia, "https://ru-api.xmpush.global.xiaomi.com/x"),
        (Region::India, "https://idmb-api.xmpush.global.xiaomi.com/x"),
        (Region::Europe, "https://fr-api.xmpush.global.xiaomi.com/x"),
        (Region::Global, "https://sgp-api.xmpush.global.xiaomi.com/x"),
    ] {
        assert_eq!(config.url(region, "/x"), host);
    }
}

#[tokio::test]
async fn an_address_of_an_unknown_region_is_not_served_and_not_sent() {
    let vendor = vendor(|_| accepted()).await;
    let channel = channel(&vendor);
    let lost = in_region("tokQa", 1, "moon");
    assert!(channel.serves(&lost.address).unwrap_err().contains("cn, ru, in, eu, global"));
    assert!(channel.serves(&target("tokQa", 1).address).is_ok());
    let outcomes =
        assert_contract(&*channel, batch_to(hello(), vec![lost, target("tokQb", 2)]), context(), &[]).await;
    assert!(
        matches!(&outcomes[0].verdict, Verdict::Failed(failure) if failure.reason == Reason::PayloadInvalid)
    );
    assert_eq!(outcomes[1].verdict, Verdict::Accepted);
    assert_eq!(vendor.requests().remove(0).form()["registration_id"], "tokQb");
}

#[tokio::test]
async fn a_token_with_a_comma_reaches_nobody_else() {
    let vendor = vendor(|_| accepted()).await;
    let outcomes = send_to(&*channel(&vendor), &["tokQx,victim", "", "tokQ b", "good"]).await;
    for outcome in &outcomes[..3] {
        assert!(
            matches!(&outcome.verdict, Verdict::Failed(failure) if failure.reason == Reason::InvalidToken)
        );
    }
    assert_eq!(outcomes[3].verdict, Verdict::Accepted);
    assert_eq!(vendor.requests().remove(0).form()["registration_id"], "good");
}

#[tokio::test]
async fn a_token_that_stands_twice_is_sent_once_and_both_get_their_outcome() {
    let vendor = vendor(|_| accepted_with(json!({"bad_regids": "tokQb"}))).await;
    let outcomes = send_to(&*channel(&vendor), &["tokQa", "tokQb", "tokQa", "tokQb"]).await;
    let accepted: Vec<bool> = outcomes.iter().map(|outcome| outcome.verdict == Verdict::Accepted).collect();
    assert_eq!(accepted, [true, false, true, false]);
    assert_eq!(vendor.requests().remove(0).form()["registration_id"], "tokQa,tokQb");
}

#[tokio::test]
async fn the_vendor_is_told_where_to_report_and_the_first_target_names_the_message() {
    let vendor = vendor(|_| accepted()).await;
    let context = crate::contract::SendContext { callback_url: Some(CALLBACK.into()), ..context() };
    assert_contract(&*channel(&vendor), batch(hello(), &["tokQa", "tokQb"]), context, &[SECRET, "s3cret"])
        .await;
    let form = vendor.requests().remove(0).form();
    assert_eq!(form["extra.callback"], CALLBACK);
    assert_eq!(form["extra.callback.param"], "param-1");
    // 1, 2, 16, 32, 64, 128, 1024.
    assert_eq!(form["extra.callback.type"], "1267");
}

#[tokio::test]
async fn a_callback_url_that_the_vendor_would_refuse_costs_receipts_and_not_the_message() {
    let vendor = vendor(|_| accepted()).await;
    let long = format!("https://gw.example/{}", "x".repeat(128));
    let context = crate::contract::SendContext { callback_url: Some(long.into()), ..context() };
    let outcomes = assert_contract(&*channel(&vendor), batch(hello(), &["tokQa"]), context, &[SECRET]).await;
    assert_eq!(outcomes[0].verdict, Verdict::Accepted);
    assert!(!vendor.requests().remove(0).form().keys().any(|name| name.starts_with("extra.callback")));
}

struct ClosedGate;

#[async_trait::async_trait]
impl Gate for ClosedGate {
    async fn pass(&self, targets: usize) -> Result<Pass, Reason> {
        assert_eq!(targets, 2);
        Err(Reason::Cancelled)
    }
}

#[tokio::test]
async fn the_gate_is_asked_with_the_number_of_targets_and_its_no_is_their_outcome() {
    let vendor = vendor(|_| accepted()).await;
    let context = crate::contract::SendContext { gate: Arc::new(ClosedGate), ..context() };
    let outcomes =
        assert_contract(&*channel(&vendor), batch(hello(), &["tokQa", "tokQb"]), context, &[]).await;
    for outcome in outcomes {
        assert!(matches!(&outcome.verdict, Verdict::Failed(failure) if failure.reason == Reason::Cancelled));
        assert_eq!(outcome.latency, Duration::ZERO);
    }
    assert!(vendor.requests().is_empty());
}
