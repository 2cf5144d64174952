//! Certificates instead of keys.

use rcgen::{CertificateParams, DnType, KeyPair};

use super::super::certificate::Facts;
use super::super::config::Stage;
use super::*;
use crate::contract::Reason;

const DAY: u64 = 24 * 3600;

/// A certificate for `topic` that begins a day ago and ends after `days`, and its key.
fn certificate(topic: &str, name: &str, days: i64) -> (String, String, Vec<u8>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 1]), topic);
    let at = |seconds: i64| {
        let since = std::time::SystemTime::UNIX_EPOCH;
        let at = u64::try_from(1_700_000_000 + seconds).unwrap();
        (since + Duration::from_secs(at)).into()
    };
    params.not_before = at(-(DAY as i64));
    params.not_after = at(days * DAY as i64);
    let key = KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    (made.pem(), key.serialize_pem(), made.der().to_vec())
}

fn facts(topic: &str, name: &str, days: i64) -> Facts {
    Facts::read(&certificate(topic, name, days).2).unwrap()
}

fn warnings(facts: &Facts, days: u64) -> String {
    facts.warnings(now() + Duration::from_secs(days * DAY), "com.example.app", Stage::Production).join("; ")
}

#[test]
fn the_end_of_a_certificate_is_told_of_in_time() {
    let facts = facts("com.example.app", "Apple Push Services: com.example.app", 100);
    assert_eq!(warnings(&facts, 69), "");
    for (days, urgency) in
        [(71, "within 30 days"), (92, "within 30 days"), (94, "within a week"), (99, "within a day")]
    {
        let said = warnings(&facts, days);
        assert!(said.contains("ends on 2024-02-22") && said.contains(urgency), "{days}: {said}");
        assert_eq!(facts.unusable(now() + Duration::from_secs(days * DAY)), None);
    }
    let over = facts.unusable(now() + Duration::from_secs(100 * DAY)).unwrap();
    assert!(over.contains("ended on 2024-02-22"), "{over}");
    assert!(facts.unusable(now() - Duration::from_secs(2 * DAY)).unwrap().contains("begins on"));
}

#[test]
fn a_certificate_for_another_app_or_for_development_is_told_of() {
    let other = facts("com.example.other", "Apple Push Services: com.example.other", 100);
    assert!(warnings(&other, 0).contains("is for com.example.other"));
    let development = facts("com.example.app", "Apple Development IOS Push Services: com.example.app", 100);
    assert!(warnings(&development, 0).contains("sandbox only"));
    assert!(development.warnings(now(), "com.example.app", Stage::Sandbox).is_empty());
}

pub(super) fn by_certificate(base_url: &str, days: i64) -> (Value, String) {
    let (chain, key, _) = certificate("com.example.app", "Apple Push Services: com.example.app", days);
    let secret = key.lines().nth(1).unwrap().to_owned();
    let config = json!({
        "certificate": chain, "private_key": key, "bundle_id": "com.example.app", "base_url": base_url
    });
    (config, secret)
}

#[tokio::test]
async fn with_a_certificate_no_token_is_sent() {
    let vendor = vendor(|_| accepted()).await;
    let (config, secret) = by_certificate(&vendor.url(""), 5);
    let channel = build(&config);
    let outcome = assert_contract(&*channel, batch(hello(), &[TOKEN]), context(), &[&secret]).await.remove(0);
    assert_eq!(outcome.verdict, Verdict::Accepted);
    let seen = vendor.requests().remove(0);
    assert!(seen.headers.get("authorization").is_none());
    assert_eq!(seen.header("apns-topic"), "com.example.app");
    let found = channel.check(context()).await;
    assert!(found.ok && found.warnings[0].contains("within a week"), "{found:?}");
    assert!(!format!("{found:?}").contains(&secret));
}

#[tokio::test]
async fn a_certificate_that_has_ended_is_not_even_tried() {
    let vendor = vendor(|_| accepted()).await;
    let channel = build(&by_certificate(&vendor.url(""), 0).0);
    let outcome = assert_contract(&*channel, batch(hello(), &[TOKEN]), context(), &[]).await.remove(0);
    assert_eq!(*failed(&outcome), Failure::channel(Reason::AuthFailed));
    assert!(outcome.vendor.words.unwrap().contains("ended on 2023-11-14"));
    let found = channel.check(context()).await;
    assert!(!found.ok && found.detail.contains("ended on 2023-11-14"), "{found:?}");
    assert!(vendor.requests().is_empty());
}

#[test]
fn what_the_vendor_takes_with_a_token_only_is_not_served_by_a_certificate() {
    let (config, _) = by_certificate("https://a.example", 5);
    let channel = build(&with(config, &json!({"kinds": ["device", "location", "liveactivity", "voip"]})));
    let served = |kind: &str| {
        let mut address = target(TOKEN, 1).address;
        address.kind = kind.to_owned();
        channel.serves(&address).is_ok()
    };
    assert!(served("device") && served("voip") && !served("location") && !served("liveactivity"));
}

#[test]
fn a_certificate_with_a_strange_key_is_refused() {
    let (mut config, _) = by_certificate("https://a.example", 5);
    config["private_key"] = by_certificate("https://a.example", 5).0["private_key"].take();
    let Err(error) = (PROVIDER.build)(&config, &Environment::default()) else { panic!("built") };
    assert_eq!(error.0, [("/private_key".to_owned(), "does not belong to the certificate".to_owned())]);
}
