//! Handsets: of a vendor, and connected to a gateway themselves.

use std::time::{Duration, Instant};

use anypush_sandbox::{PhoneChange, PhoneView};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::gateway::Desk;
use crate::world::{PROJECT, World, to};

fn change(value: Value) -> PhoneChange {
    serde_json::from_value(value).unwrap()
}

/// Waits until the phone is as wished; tells how it is when it never gets so.
async fn until(world: &World, id: &str, wished: impl Fn(&PhoneView) -> bool) -> PhoneView {
    let began = Instant::now();
    loop {
        let phone = world.running.phones().get(id).unwrap();
        if wished(&phone) {
            return phone;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{phone:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn heard(desk: &Desk, what: Value) {
    let began = Instant::now();
    while desk.has_heard(&what) == 0 {
        assert!(began.elapsed() < Duration::from_secs(10), "{what} not in {:?}", desk.heard.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn titles(phone: &PhoneView) -> Vec<&str> {
    phone.screen.iter().filter_map(|shown| shown.title.as_deref()).collect()
}

#[tokio::test]
async fn a_phone_of_fcm_shows_what_was_accepted_for_its_token() {
    let world = World::start().await;
    let token = world.access_token(PROJECT).await;
    let (status, _) =
        world.put("/_sandbox/phones/p1", json!({"kind": "fcm", "token": "tok-1", "label": "A"})).await;
    assert_eq!(status, 200);
    world.post(&token, &to("tok-1", "m1")).await;
    world.post(&token, &to("tok-2", "m2")).await;
    let phone = &world.get("/_sandbox/phones").await["phones"][0];
    assert_eq!(
        (&phone["label"], &phone["connected"], &phone["kind"]),
        (&json!("A"), &json!(true), &json!("fcm"))
    );
    let screen = phone["screen"].as_array().unwrap();
    assert_eq!(screen.len(), 1);
    assert_eq!((&screen[0]["message_id"], &screen[0]["title"]), (&json!("m1"), &json!("Hello")));
    assert_eq!(screen[0]["data"], json!({"anypush_id": "m1"}));
    world.put("/_sandbox/phones/p1", json!({"token": "tok-3"})).await;
    world.post(&token, &to("tok-1", "m3")).await;
    assert_eq!(world.running.phones().get("p1").unwrap().screen.len(), 1, "the token is another one now");
    assert!(world.running.phones().remove("p1"));
    assert!(world.running.phones().list().is_empty());
}

#[tokio::test]
async fn an_offline_phone_of_fcm_gets_its_pushes_later_if_they_live_so_long() {
    let world = World::start().await;
    let token = world.access_token(PROJECT).await;
    let phones = world.running.phones();
    phones.put("p1", change(json!({"kind": "fcm", "token": "tok-1", "online": false}))).unwrap();
    for (title, android) in [
        ("old", json!({"collapse_key": "k"})),
        ("new", json!({"collapse_key": "k"})),
        ("now or never", json!({"ttl": "0s"})),
        ("short", json!({"ttl": "0.001s"})),
        ("long", json!({"ttl": "60s"})),
    ] {
        let message = json!({"token": "tok-1", "notification": {"title": title}, "android": android});
        assert_eq!(world.post(&token, &json!({"message": message})).await.0, 200);
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(titles(&phones.get("p1").unwrap()).is_empty());
    phones.put("p1", change(json!({"online": true}))).unwrap();
    assert_eq!(titles(&phones.get("p1").unwrap()), ["long", "new"]);
}

#[tokio::test]
async fn a_phone_of_fcm_reports_what_it_showed_and_taps_to_its_gateway() {
    let mut tasks = JoinSet::new();
    let (desk, gateway) = Desk::open(&mut tasks).await;
    let world = World::start().await;
    let token = world.access_token(PROJECT).await;
    let phone = json!({"kind": "fcm", "token": "tok-1", "gateway": gateway, "secret": "aps_secret", "receipts": ["displayed"]});
    let (_, view) = world.put("/_sandbox/phones/p1", phone).await;
    assert!(!view.to_string().contains("aps_secret"));
    world.post(&token, &to("tok-1", "m1")).await;
    heard(&desk, json!([{"message_id": "m1", "event": "displayed"}])).await;
    let tap = async |message: &str| {
        let url = format!("{}/_sandbox/phones/p1/tap", world.url);
        world.http.post(url).json(&json!({"message_id": message})).send().await.unwrap().status().as_u16()
    };
    assert_eq!((tap("m1").await, tap("m2").await), (200, 404));
    assert_eq!(desk.has_heard(&json!([{"message_id": "m1", "event": "clicked"}])), 1);
    assert!(world.running.phones().get("p1").unwrap().screen[0].tapped_at.is_some());
}

#[tokio::test]
async fn a_phone_on_a_websocket_shows_acknowledges_and_reports() {
    let mut tasks = JoinSet::new();
    let (desk, gateway) = Desk::open(&mut tasks).await;
    let world = World::start().await;
    let phones = world.running.phones();
    desk.send("msg_1", "one");
    let phone = json!({"kind": "direct_websocket", "gateway": gateway, "secret": "aps_secret", "receipts": ["displayed"]});
    phones.put("p1", change(phone)).unwrap();
    until(&world, "p1", |phone| phone.connected && phone.screen.len() == 1).await;
    heard(&desk, json!({"ack": "e1.1"})).await;
    assert_eq!(
        desk.heard.lock().unwrap()[0]["said"]["receipt"]["event"],
        "displayed",
        "reported, then acknowledged"
    );
    desk.send("msg_2", "two");
    let phone = until(&world, "p1", |phone| phone.screen.len() == 2).await;
    assert_eq!(titles(&phone), ["two", "one"]);
    heard(&desk, json!({"ack": "e1.2"})).await;
    phones.tap("p1", "msg_2").await.unwrap();
    assert_eq!(desk.has_heard(&json!([{"message_id": "msg_2", "event": "clicked"}])), 1);
    heard(&desk, json!({})).await;
}

#[tokio::test]
async fn a_phone_comes_back_after_its_socket_is_lost_and_shows_nothing_twice() {
    let mut tasks = JoinSet::new();
    let (desk, gateway) = Desk::open(&mut tasks).await;
    let world = World::start().await;
    let phones = world.running.phones();
    let phone = json!({"kind": "direct_websocket", "gateway": gateway, "secret": "aps_secret"});
    phones.put("p1", change(phone)).unwrap();
    desk.send("msg_1", "one");
    until(&world, "p1", |phone| phone.screen.len() == 1).await;
    heard(&desk, json!({"ack": "e1.1"})).await;
    desk.hang_up();
    heard(&desk, json!({"resume": "e1.1"})).await;
    let phone = until(&world, "p1", |phone| phone.repeated == 1).await;
    assert_eq!(phone.screen.len(), 1);
    phones.put("p1", change(json!({"online": false}))).unwrap();
    assert!(!phones.get("p1").unwrap().connected);
    desk.send("msg_2", "two");
    phones.put("p1", change(json!({"online": true}))).unwrap();
    until(&world, "p1", |phone| phone.screen.len() == 2).await;
}

#[tokio::test]
async fn a_phone_that_polls_acknowledges_with_its_next_poll() {
    let mut tasks = JoinSet::new();
    let (desk, gateway) = Desk::open(&mut tasks).await;
    let world = World::start().await;
    let phones = world.running.phones();
    desk.send("msg_1", "one");
    let phone = json!({"kind": "direct_polling", "gateway": format!("{gateway}/"), "secret": "aps_secret"});
    phones.put("p1", change(phone)).unwrap();
    heard(&desk, json!({"after": "e1.1"})).await;
    desk.send("msg_2", "two");
    let phone = until(&world, "p1", |phone| phone.screen.len() == 2).await;
    assert!(phone.connected);
    heard(&desk, json!({"after": "e1.2"})).await;
    assert_eq!(desk.has_heard(&json!({"after": null})), 1);
    phones.tap("p1", "msg_1").await.unwrap();
    assert_eq!(desk.has_heard(&json!([{"message_id": "msg_1", "event": "clicked"}])), 1);
}

#[tokio::test]
async fn a_phone_whose_gateway_is_away_says_why_and_connects_when_it_is_there() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let world = World::start().await;
    let phones = world.running.phones();
    for kind in ["direct_websocket", "direct_polling"] {
        let phone = json!({"kind": kind, "gateway": gateway, "secret": "aps_secret"});
        phones.put(kind, change(phone)).unwrap();
        let phone = until(&world, kind, |phone| phone.last_error.is_some()).await;
        assert!(!phone.connected);
    }
    let mut tasks = JoinSet::new();
    let (desk, gateway) = Desk::open(&mut tasks).await;
    desk.send("msg_1", "one");
    for kind in ["direct_websocket", "direct_polling"] {
        phones.put(kind, change(json!({"gateway": gateway}))).unwrap();
        until(&world, kind, |phone| phone.screen.len() == 1).await;
    }
    tokio::time::timeout(Duration::from_secs(5), world.stop()).await.unwrap();
}

#[tokio::test]
async fn a_phone_that_cannot_be_is_refused() {
    let world = World::start().await;
    for wrong in [
        json!({}),
        json!({"kind": "fcm"}),
        json!({"kind": "direct_polling", "gateway": "http://127.0.0.1:1"}),
        json!({"kind": "fcm", "token": "t", "colour": "red"}),
    ] {
        assert_eq!(world.put("/_sandbox/phones/p1", wrong).await.0, 400);
    }
    assert!(world.running.phones().list().is_empty());
    let phones = world.running.phones();
    phones.put("p2", change(json!({"kind": "fcm", "token": "t"}))).unwrap();
    assert!(phones.put("p2", change(json!({"kind": "direct_polling"}))).is_err());
    assert_eq!(phones.get("p2").unwrap().token.as_deref(), Some("t"), "a refused change changes nothing");
    let url = format!("{}/_sandbox/phones/p1", world.url);
    assert_eq!(world.http.delete(url).send().await.unwrap().status(), 404);
}
