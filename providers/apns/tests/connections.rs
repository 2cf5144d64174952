//! Connections that end, and what their end says.

use std::sync::atomic::Ordering;

use super::*;
use crate::contract::{Hint, Reason};
use crate::kit::testing::raw_peer::{Does, leaving_peer, peer};

const ID: (&str, &str) = ("apns-id", APNS_ID);

#[tokio::test]
async fn a_connection_that_shuts_down_is_left_and_the_notification_goes_by_another() {
    for does in [
        |connection, _| match connection {
            0 => Does::Reply(503, ID, r#"{"reason":"Shutdown"}"#),
            _ => Does::Reply(200, ID, ""),
        },
        |connection, _| match connection {
            0 => Does::Reply(400, ID, r#"{"reason":"IdleTimeout"}"#),
            _ => Does::Reply(200, ID, ""),
        },
        |connection, _| match connection {
            0 => Does::Reply(429, ID, r#"{"reason":"TooManyProviderTokenUpdates"}"#),
            _ => Does::Reply(200, ID, ""),
        },
    ] {
        let peer = peer(100, does).await;
        let channel = build(&settings(&peer.base, "RECONNECT1"));
        for _ in 0..3 {
            assert_eq!(send_one(&*channel).await.verdict, Verdict::Accepted);
        }
        assert_eq!(peer.connections.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test]
async fn a_refused_key_is_tried_on_a_new_connection_the_next_time() {
    let peer = peer(100, |connection, _| match connection {
        0 => Does::Reply(403, ID, r#"{"reason":"InvalidProviderToken"}"#),
        _ => Does::Reply(200, ID, ""),
    })
    .await;
    let channel = build(&settings(&peer.base, "RECONNECT2"));
    assert_eq!(*failed(&send_one(&*channel).await), Failure::channel(Reason::AuthFailed));
    assert_eq!(send_one(&*channel).await.verdict, Verdict::Accepted);
}

#[tokio::test]
async fn a_new_connection_carries_one_notification_until_the_vendor_has_seen_a_good_token() {
    let peer =
        peer(1000, |_, stream| Does::Answer(Duration::from_millis(if stream == 0 { 300 } else { 20 }))).await;
    let channel = build(&settings(&peer.base, "WARMUP0001"));
    let many: Vec<String> = (0..30).map(|n| format!("{n:064x}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let early = tokio::time::timeout(
        Duration::from_millis(200),
        assert_contract(&*channel, batch(hello(), &many), context(), &[]),
    );
    assert!(early.await.is_err());
    assert_eq!(peer.most_streams.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_goaway_that_speaks_of_the_credentials_is_no_outage() {
    let peer = leaving_peer(r#"{"reason":"BadCertificate"}"#).await;
    let outcome = send_one(&*build(&settings(&peer.base, "GOAWAY0001"))).await;
    assert_eq!(*failed(&outcome), Failure::channel(Reason::AuthFailed));
    assert_eq!(outcome.vendor.code.as_deref(), Some("BadCertificate"));
}

#[tokio::test]
async fn a_goaway_without_a_complaint_repeats_what_was_not_processed_at_once() {
    for words in ["", r#"{"reason":"Shutdown"}"#, "nonsense"] {
        let peer = leaving_peer(words).await;
        let outcome = send_one(&*build(&settings(&peer.base, "GOAWAY0002"))).await;
        let expected = Failure::channel(Reason::VendorUnavailable).hint(Hint::NotProcessed);
        assert_eq!(*failed(&outcome), expected, "{words}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_during_a_request_leaves_doubt() {
    for does in [|_, _| Does::HangUp, |_, _| Does::HeadOnly] {
        let peer = peer(100, does).await;
        let outcome = send_one(&*build(&settings(&peer.base, "BROKEN0001"))).await;
        assert_eq!(*failed(&outcome), Failure::channel(Reason::VendorUnavailable).doubtful());
    }
}
