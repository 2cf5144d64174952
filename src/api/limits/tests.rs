//! Who is counted for what.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::settings::Settings;

fn limits(change: impl FnOnce(&mut Rates)) -> CallLimits {
    let mut rates = Settings::defaults().rate;
    change(&mut rates);
    CallLimits::new(&rates, Clock::fixed(1_000_000), Arc::default())
}

fn payer<'a>(key: &'a str, app: i64, meter: &'a Meter) -> Payer<'a> {
    Payer { key, app: Some(app), meter }
}

#[test]
fn a_key_draws_on_its_own_rate_and_its_apps_and_reading_takes_nothing_from_sending() {
    let limits = limits(|rates| {
        (rates.key_calls_per_second, rates.app_calls_per_second) = (10, 15);
        rates.key_sends_per_second = 100;
    });
    let meter = Meter::default();
    let call = |key, app| limits.take(Kind::Calls, payer(key, app, &meter), 1);
    assert!((0..10).all(|_| call("a", 1).is_ok()));
    let refused = call("a", 1).unwrap_err();
    assert_eq!((refused.status.as_u16(), refused.code, refused.retry_after), (429, "rate_limited", Some(1)));
    assert!((0..5).all(|_| call("b", 1).is_ok()));
    assert!(call("b", 1).unwrap_err().detail.unwrap().contains("app"), "15 for the app");
    assert!(call("c", 2).is_ok(), "another app");
    let send = |cost| limits.take(Kind::Sends, payer("a", 1, &meter), cost);
    assert!(send(60).is_ok() && send(40).is_ok());
    assert!(limits.look(Kind::Sends, payer("a", 1, &meter)).is_err());
    assert_eq!(send(40).unwrap_err().retry_after, Some(1));
    limits.clock.advance(Duration::from_secs(1));
    assert!(limits.look(Kind::Sends, payer("a", 1, &meter)).is_ok());
    // More than a second's worth goes when nothing is owed, and is paid off afterwards.
    assert!(send(1000).is_ok());
    assert_eq!(send(1).unwrap_err().retry_after, Some(10));
    assert_eq!(limits.look(Kind::Sends, payer("a", 1, &meter)).unwrap_err().retry_after, Some(10));
}

#[test]
fn a_message_costs_as_many_as_it_lists() {
    assert_eq!(cost(&json!({"to": {"device_ids": ["a", "b", "c"]}})), 3);
    assert_eq!(cost(&json!({"to": {"tokens": [{}, {}]}})), 2);
    assert_eq!(cost(&json!({"to": {"audience": {"all": true}}})), 1);
    for odd in [json!({"to": {"phones": []}}), json!({"to": 7}), json!([]), json!(null)] {
        assert_eq!(cost(&odd), 1, "{odd}");
    }
}

#[test]
fn zero_is_no_limit() {
    let limits = limits(|rates| {
        (rates.key_calls_per_second, rates.app_calls_per_second) = (0, 0);
        (rates.address_failures_per_second, rates.phone_calls_per_second) = (0, 0);
    });
    let (meter, from) = (Meter::default(), IpAddr::from([9, 9, 9, 9]));
    for _ in 0..10_000 {
        limits.take(Kind::Calls, payer("a", 1, &meter), 1000).unwrap();
        limits.phone(1, &meter).unwrap();
        limits.failed(from, &meter).unwrap();
    }
    limits.strangers_may(from).unwrap();
    let mut headers = HeaderMap::new();
    limits.tell(&meter, Some(from), &mut headers);
    assert!(headers.is_empty(), "{headers:?}");
}

#[test]
fn strangers_are_refused_where_too_many_failed() {
    let limits = limits(|rates| rates.address_failures_per_second = 3);
    let (meter, from) = (Meter::default(), IpAddr::from([9, 9, 9, 9]));
    for _ in 0..3 {
        limits.strangers_may(from).unwrap();
        limits.failed(from, &meter).unwrap();
    }
    assert_eq!(limits.strangers_may(from).unwrap_err().code, "rate_limited");
    assert_eq!(limits.failed(from, &meter).unwrap_err().retry_after, Some(1));
    limits.strangers_may(IpAddr::from([9, 9, 9, 8])).unwrap();
    limits.clock.advance(Duration::from_millis(334));
    limits.strangers_may(from).unwrap();
}

#[test]
fn the_headers_tell_all_rates_and_what_is_left_of_the_nearest() {
    let limits = limits(|rates| (rates.key_calls_per_second, rates.app_calls_per_second) = (30, 20));
    let meter = Meter::default();
    limits.take(Kind::Calls, payer("a", 1, &meter), 5).unwrap();
    let mut headers = HeaderMap::new();
    limits.tell(&meter, None, &mut headers);
    assert_eq!(headers["ratelimit-policy"], "30;w=1;comment=\"key_calls\", 20;w=1;comment=\"app_calls\"");
    assert_eq!(headers["ratelimit-limit"], "20");
    assert_eq!(headers["ratelimit-remaining"], "15");
    assert_eq!(headers["ratelimit-reset"], "1");
}
