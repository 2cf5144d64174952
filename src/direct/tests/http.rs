//! Polling, and what phones say by single requests.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;

use super::{World, numbers};
use crate::delivery::state::State;
use crate::direct::secret;
use crate::secrets::token::with_checksum;
use crate::store::DeviceFilter;

#[tokio::test]
async fn a_short_poll_hands_out_in_order_and_the_next_one_acknowledges() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(world.send(n).await);
    }
    let first = world.poll("").await;
    assert_eq!(numbers(&first), [0, 1, 2]);
    assert_eq!(first["messages"][0]["id"], ids[0]);
    assert_eq!((&first["more"], &first["superseded"]), (&json!(false), &json!(null)));
    assert_eq!(first["heartbeat"], json!({"interval": 270, "max": 1680, "grace": 30}));
    let again = world.poll("").await;
    assert_eq!(again["messages"], first["messages"], "without a cursor nothing is acknowledged");
    let after = |answer: &serde_json::Value| format!("?after={}", answer["cursor"].as_str().unwrap());
    let half = world.poll(&format!("?after={}", first["messages"][1]["cursor"].as_str().unwrap())).await;
    assert_eq!(numbers(&half), [2]);
    let last = world.poll(&after(&half)).await;
    assert_eq!(numbers(&last), [0usize; 0]);
    assert_eq!(last["cursor"], half["cursor"]);
    for id in &ids {
        world.until_named(id, State::Delivered).await;
    }
}

#[tokio::test]
async fn an_empty_inbox_is_asked_once_until_something_comes() {
    let world = World::new().await;
    let (quiet, device) = (world.gateway.hub.quiet().clone(), world.device.seq);
    world.poll("").await;
    assert!(quiet.look(device, world.gateway.clock.now_ms()).is_none(), "now it is known to be empty");
    world.send(1).await;
    // Phones are told after the commit, and the commit is what `send` has waited for.
    tokio::time::timeout(Duration::from_mins(1), async {
        while quiet.look(device, world.gateway.clock.now_ms()).is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("what comes in ends the quiet");
    let answer = world.poll("").await;
    assert_eq!(numbers(&answer), [1]);
}

#[tokio::test]
async fn a_page_says_that_there_is_more() {
    let world = World::new().await;
    for n in 0..3 {
        world.send(n).await;
    }
    let page = world.poll("?limit=2").await;
    assert_eq!(
        (numbers(&page), &page["more"], &page["next_poll_seconds"]),
        (vec![0, 1], &json!(true), &json!(1))
    );
    let rest = world.poll(&format!("?limit=2&after={}", page["cursor"].as_str().unwrap())).await;
    assert_eq!((numbers(&rest), &rest["more"]), (vec![2], &json!(false)));
}

#[tokio::test]
async fn a_long_poll_wakes_when_something_comes() {
    let world = World::new().await;
    let (answer, ()) = tokio::join!(world.poll("?wait_seconds=55"), async {
        world.connected(1).await;
        world.send(7).await;
    });
    assert_eq!(numbers(&answer), [7]);
    assert_eq!(world.gateway.hub.connected(), 0, "the seat is given up");
    let query = format!("?wait_seconds=1&after={}", answer["cursor"].as_str().unwrap());
    let empty = tokio::time::timeout(Duration::from_secs(5), world.poll(&query)).await.unwrap();
    assert_eq!(numbers(&empty), [0usize; 0]);
}

#[tokio::test]
async fn the_newer_of_two_polls_wins_and_a_stop_ends_both() {
    let world = World::new().await;
    let (old, new) = tokio::join!(world.poll("?wait_seconds=55"), async {
        world.connected(1).await;
        let new = world.poll("?wait_seconds=55");
        let stop = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            world.gateway.tasks.stop();
        };
        tokio::join!(new, stop).0
    });
    assert_eq!(old["superseded"], json!(true));
    assert_eq!(new["superseded"], json!(null));
}

#[tokio::test]
async fn what_is_over_is_not_handed_out() {
    let world = World::new().await;
    let id = world.send_for(1, 60).await;
    world.send_for(2, 3600).await;
    world.gateway.clock.advance(Duration::from_mins(2));
    assert_eq!(numbers(&world.poll("").await), [2]);
    drop(id);
}

#[tokio::test]
async fn cursors_of_others_are_refused_and_those_of_an_older_epoch_forgotten() {
    let mut world = World::new().await;
    world.send(1).await;
    let first = world.poll("").await;
    let cursor = first["cursor"].as_str().unwrap().to_owned();
    let path = format!("/v1/device/messages?after={}x", &cursor[..21]);
    let (status, problem) = world.request("GET", &path, None).await;
    assert_eq!((status, &problem["code"]), (StatusCode::BAD_REQUEST, &json!("invalid_cursor")));
    let (device, secret) = secret::issue(&world.gateway, world.app, "phone-1").await.unwrap().unwrap();
    assert_eq!(device.username, world.device.username);
    world.secret = secret;
    let again = world.poll(&format!("?after={cursor}")).await;
    assert_eq!(numbers(&again), [1], "an older epoch acknowledges nothing");
    assert_ne!(again["cursor"], json!(cursor));
}

#[tokio::test]
async fn only_the_present_secret_opens_the_inbox() {
    let world = World::new().await;
    world.poll("").await;
    let new = secret::make(None);
    let other = secret::make(world.device.username.as_deref()).secret;
    let (_, rotated) = secret::issue(&world.gateway, world.app, "phone-1").await.unwrap().unwrap();
    let cases = [
        None,
        Some("apk_live_abcdefgh"),
        Some("aps_short"),
        Some(new.secret.as_str()),
        Some(other.as_str()),
        Some(world.secret.as_str()),
    ];
    for case in cases {
        let (status, problem) = world.request_as(case, "GET", "/v1/device/messages", None).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{case:?}");
        assert_eq!(problem["code"], "invalid_device_secret");
    }
    let (status, _) = world.request_as(Some(&rotated), "GET", "/v1/device/messages", None).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn acknowledgements_end_what_was_handed_out() {
    let world = World::new().await;
    let (one, two) = (world.send(1).await, world.send(2).await);
    let page = world.poll("?limit=1").await;
    let beyond = crate::direct::cursor::encode(world.device.seq, world.device.epoch, i64::MAX);
    let (status, answer) = world.request("POST", "/v1/device/ack", Some(json!({"cursor": beyond}))).await;
    assert_eq!((status, &answer["acknowledged"]), (StatusCode::OK, &json!(1)), "two was not handed out");
    world.until_named(&one, State::Delivered).await;
    assert_eq!(numbers(&world.poll("").await), [2]);
    let exact = json!({"messages": [two, "msg_unknown"]});
    let (_, answer) = world.request("POST", "/v1/device/ack", Some(exact)).await;
    assert_eq!(answer["acknowledged"], 1);
    assert_eq!(numbers(&world.poll("").await), [0usize; 0]);
    drop(page);
    for wrong in [json!({}), json!({"cursor": "x", "messages": []}), json!({"x": 1}), json!([])] {
        let (status, _) = world.request("POST", "/v1/device/ack", Some(wrong.clone())).await;
        assert!(status.is_client_error(), "{wrong}");
    }
}

#[tokio::test]
async fn receipts_raise_the_delivery_and_never_lower_it() {
    let world = World::new().await;
    let id = world.send(1).await;
    world.poll("").await;
    let receipt = |event: &str| json!([{"message_id": id, "event": event, "at": "2027-01-15T08:00:00Z"}]);
    for (event, state) in [("displayed", State::Displayed), ("clicked", State::Clicked)] {
        let (status, answer) = world.request("POST", "/v1/device/receipts", Some(receipt(event))).await;
        assert_eq!((status, &answer["recorded"]), (StatusCode::OK, &json!(1)));
        world.until_named(&id, state).await;
    }
    for event in ["delivered", "dismissed"] {
        let (status, _) = world.request("POST", "/v1/device/receipts", Some(receipt(event))).await;
        assert_eq!(status, StatusCode::OK);
    }
    world.until_named(&id, State::Clicked).await;
    assert_eq!(numbers(&world.poll("").await), [0usize; 0], "what was shown is here");
    let (status, problem) = world.request("POST", "/v1/device/receipts", Some(receipt("hugged"))).await;
    assert_eq!((status, &problem["pointer"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("/0/event")));
    let many: Vec<_> = (0..101).map(|_| receipt("clicked")[0].clone()).collect();
    let (status, _) = world.request("POST", "/v1/device/receipts", Some(json!(many))).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_ticket_is_good_once_for_a_minute_and_not_after_a_revocation() {
    let world = World::new().await;
    let ticket = async || {
        let (status, answer) = world.request("POST", "/v1/device/ticket", None).await;
        assert_eq!(status, StatusCode::OK);
        answer["ticket"].as_str().unwrap().to_owned()
    };
    let with = async |ticket: &str| {
        let path = format!("/v1/device/messages?limit=5&ticket={ticket}");
        world.request_as(None, "GET", &path, None).await.0
    };
    let first = ticket().await;
    assert_eq!(with(&first).await, StatusCode::OK);
    assert_eq!(with(&first).await, StatusCode::UNAUTHORIZED, "used");
    let forged = with_checksum(&first[..first.len() - 10]);
    let second = ticket().await;
    assert_eq!(with(&forged).await, StatusCode::UNAUTHORIZED);
    assert_eq!(with("x").await, StatusCode::UNAUTHORIZED);
    assert_eq!(with(&second).await, StatusCode::OK, "a wrong one does not use up the right one");
    let late = ticket().await;
    world.gateway.clock.advance(Duration::from_mins(1));
    assert_eq!(with(&late).await, StatusCode::UNAUTHORIZED);
    let revoked = ticket().await;
    world.gateway.hub.revoke(world.device.seq);
    assert_eq!(with(&revoked).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_phone_changes_only_what_is_its_own() {
    let world = World::new().await;
    let patch = async |body| world.request("PATCH", "/v1/device", Some(body)).await;
    let good =
        json!({"app_version": "3.2.0", "language": "de", "timezone": null, "notifications_enabled": false});
    assert_eq!(patch(good).await.0, StatusCode::NO_CONTENT);
    let filter = DeviceFilter { id: Some(world.device.id.clone()), ..DeviceFilter::default() };
    let device = world.gateway.store.devices(world.device.app, &filter, 0, 1).await.unwrap().remove(0);
    assert_eq!((device.enabled, &device.profile["app_version"]), (false, &json!("3.2.0")));
    for (body, status, code) in [
        (json!({"user_id": "u-1"}), 403, "forbidden"),
        (json!({"tags": ["vip"]}), 403, "forbidden"),
        (json!({"addresses": [{"provider": "phone", "token": "+4912345"}]}), 403, "forbidden"),
        (json!({"addresses": [{"provider": "nobody", "token": "x"}]}), 422, "invalid_field"),
        (json!({"language": 7}), 422, "invalid_field"),
        (json!({"colour": "red"}), 422, "unknown_field"),
    ] {
        let (got, problem) = patch(body.clone()).await;
        assert_eq!((got.as_u16(), problem["code"].as_str()), (status, Some(code)), "{body}");
    }
}

#[tokio::test]
async fn bodies_and_parameters_have_limits() {
    let world = World::new().await;
    for query in ["?limit=0", "?limit=101", "?wait_seconds=56", "?limit=x", "?unknown=1", "?after=%ff"] {
        let (status, problem) = world.request("GET", &format!("/v1/device/messages{query}"), None).await;
        assert_eq!(status.as_u16(), if query.contains("after") { 400 } else { 422 }, "{query}");
        assert!(problem["detail"].is_string());
    }
    let large = json!({"cursor": "x".repeat(70_000)});
    let (status, problem) = world.request("POST", "/v1/device/ack", Some(large)).await;
    assert_eq!((status, &problem["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("body_too_large")));
    let (status, problem) = world.request("GET", "/v1/device/socket", None).await;
    assert_eq!((status, &problem["code"]), (StatusCode::UPGRADE_REQUIRED, &json!("upgrade_required")));
}
