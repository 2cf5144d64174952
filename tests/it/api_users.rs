//! A person with several devices: found, sent to, and erased.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

use crate::sending::fcm_device;
use crate::world::World;

async fn two_phones(world: &World) {
    let mut devices = Vec::new();
    for (id, user, token) in
        [("a", "u-42", "ok-first"), ("b", "u-42", "ok-second"), ("c", "u-43", "ok-third")]
    {
        let mut device = fcm_device(token);
        device["user_id"] = json!(user);
        device["attributes"] = json!({"name": format!("person {user}")});
        device["location"] = json!({"lat": 31.2, "lon": 121.5});
        devices.push((id.to_owned(), device));
    }
    world.put_devices(devices).await;
}

fn ids(list: &Value, name: &str) -> Vec<String> {
    list["data"].as_array().unwrap().iter().map(|item| item[name].as_str().unwrap().to_owned()).collect()
}

/// Every byte of the database's files: what a thief of the disk would read.
fn raw(world: &World) -> Vec<u8> {
    let file = |name: &str| std::fs::read(world.data_dir().join(name)).unwrap_or_default();
    [file("anypush.db"), file("anypush.db-wal")].concat()
}

fn times(bytes: &[u8], word: &str) -> usize {
    bytes.windows(word.len()).filter(|window| *window == word.as_bytes()).count()
}

/// The text of every row of every table: what an operator sees.
async fn everything(world: &World) -> String {
    let file = world.data_dir().join("anypush.db");
    let mut db = SqliteConnectOptions::new().filename(file).read_only(true).connect().await.unwrap();
    let mut all = String::new();
    for sql in [
        "SELECT CAST(concat_ws('|', id, user_id, platform, profile, username) AS BLOB) FROM devices",
        "SELECT CAST(concat_ws('|', tag, device) AS BLOB) FROM device_tags",
        "SELECT CAST(concat_ws('|', name, value, device) AS BLOB) FROM device_attrs",
        "SELECT CAST(concat_ws('|', device, lat, lon) AS BLOB) FROM device_places",
        "SELECT CAST(concat_ws('|', device, token, params) AS BLOB) FROM addresses",
        "SELECT CAST(concat_ws('|', device, message, variables) AS BLOB) FROM inbox",
        "SELECT CAST(concat_ws('|', vendor_id, trail) AS BLOB) FROM deliveries",
    ] {
        let rows: Vec<Vec<u8>> = sqlx::query_scalar(sql).fetch_all(&mut db).await.unwrap();
        all += &String::from_utf8_lossy(&rows.join(&b'\n'));
        all.push('\n');
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_to_users_reaches_each_of_their_devices_once() {
    let world = World::start().await;
    two_phones(&world).await;
    let to = json!({"to": {"user_ids": ["u-42", "u-44", "u-42"]}, "notification": {"title": "Hello"}});
    let run = world.api(Method::POST, "/v1/messages?dry_run=true", Some(to.clone())).await.body;
    assert_eq!((&run["targeted"], &run["complete"]), (&json!(3), &json!(true)), "{run:#}");
    let message = world.done(&world.send(to).await).await;
    assert_eq!(message["counts"]["targeted"], 3);
    assert_eq!(message["reasons"], json!({"unknown_target": 1}));
    assert_eq!(message["counts"]["now"]["accepted"], 2);
    let ledger = world.sandbox(Method::GET, "/summary", None).await;
    assert_eq!((&ledger["accepted_distinct"], &ledger["duplicates"]), (&json!(2), &json!(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_tells_its_devices_and_what_they_got_newest_first() {
    let world = World::start().await;
    two_phones(&world).await;
    let mut sent = Vec::new();
    for to in [json!({"device_ids": ["a"]}), json!({"user_ids": ["u-42"]}), json!({"device_ids": ["b", "c"]})]
    {
        let id = world.send(json!({"to": to, "notification": {"title": "Hello"}})).await;
        world.done(&id).await;
        sent.push(id);
    }
    let user = world.api(Method::GET, "/v1/users/u-42?limit=1", None).await.body;
    assert_eq!((&user["id"], ids(&user, "id")), (&json!("u-42"), vec!["a".to_owned()]));
    let cursor = user["next_cursor"].as_str().unwrap();
    let rest = world.api(Method::GET, &format!("/v1/users/u-42?cursor={cursor}"), None).await.body;
    assert_eq!((ids(&rest, "id"), &rest["next_cursor"]), (vec!["b".to_owned()], &json!(null)));
    let foreign = world.api(Method::GET, &format!("/v1/users/u-43?cursor={cursor}"), None).await;
    assert_eq!(foreign.body["code"], "invalid_cursor");

    let (mut got, mut cursor) = (Vec::new(), String::new());
    loop {
        let page =
            world.api(Method::GET, &format!("/v1/users/u-42/deliveries?limit=1{cursor}"), None).await.body;
        got.extend(ids(&page, "message_id").into_iter().zip(ids(&page, "device_id")));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let expected = [(2, "b"), (1, "b"), (1, "a"), (0, "a")];
    assert_eq!(got, expected.map(|(n, device): (usize, &str)| (sent[n].clone(), device.to_owned())));

    for path in ["/v1/users/nobody", "/v1/users/nobody/deliveries"] {
        assert_eq!(world.api(Method::GET, path, None).await.status, StatusCode::NOT_FOUND);
    }
    let (_, stranger) = world.new_app("stranger").await;
    for (method, path) in [
        (Method::GET, "/v1/users/u-42"),
        (Method::GET, "/v1/users/u-42/deliveries"),
        (Method::DELETE, "/v1/users/u-42"),
    ] {
        let absent = world.call(&stranger, method, path, None).await;
        assert_eq!(absent.status, StatusCode::NOT_FOUND, "another app's user looks absent: {path}");
    }
}

/// What was said to them alone, how calls named them, and who will be asked later: (finished messages, the scheduled one).
async fn say_things_to(world: &World, user: &str, token: &str) -> (Vec<String>, String) {
    let hook = json!({"url": "http://127.0.0.1:9/hook", "events": ["message.done", "delivery.accepted"]});
    let made = world.api(Method::POST, &format!("/v1/apps/{}/webhooks", world.app_id), Some(hook)).await;
    assert_eq!(made.status, StatusCode::CREATED, "{:#}", made.body);
    let alone = json!({"to": {"user_ids": [user]}, "notification": {"title": "Only for Ann"},
        "data": {"code": "code-4711"}, "metadata": {"order": "order-of-ann"}, "collapse_key": "key-of-ann"});
    let by_token = json!({"to": {"tokens": [{"provider": "fcm", "token": token}]},
        "notification": {"title": "Also for Ann"}});
    let later = (crate::world::now() + jiff::SignedDuration::from_hours(24)).to_string();
    let scheduled = json!({"to": {"user_ids": [user, "u-43"]}, "send_at": later,
        "notification": {"title": "For both"}});
    let mut sent = Vec::new();
    for message in [alone, by_token] {
        let id = world.send(message).await;
        world.done(&id).await;
        sent.push(id);
    }
    (sent, world.send(scheduled).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_erased_user_nothing_is_left_but_numbers() {
    let mut world = World::start().await;
    two_phones(&world).await;
    let secrets = world.device_secrets(&["a".into(), "c".into()]).await;
    let (sent, scheduled) = say_things_to(&world, "u-42", "ok-first").await;
    let said = [
        "ok-first",
        "ok-second",
        "person u-42",
        "Only for Ann",
        "Also for Ann",
        "code-4711",
        "order-of-ann",
        "key-of-ann",
    ];
    assert!(said.iter().all(|word| times(&raw(&world), word) > 0), "this test would see them");
    let id =
        world.send(json!({"to": {"user_ids": ["u-42", "u-43"]}, "notification": {"title": "Hello"}})).await;
    let before = world.done(&id).await;
    let words = ["u-42", "ok-first", "ok-second", "person u-42"];
    let found = everything(&world).await;
    assert!(words.iter().all(|word| found.contains(word)), "this test would see them:\n{found}");

    let gone = world.api(Method::DELETE, "/v1/users/u-42", None).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    for path in ["/v1/users/u-42", "/v1/devices/a", "/v1/devices/b"] {
        assert_eq!(world.api(Method::GET, path, None).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let again = world.api(Method::DELETE, "/v1/users/u-42", None).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
    let refused = world.call(&secrets[0], Method::GET, "/v1/device/messages", None).await;
    assert_eq!(refused.body["code"], "invalid_device_secret");
    let other = world.call(&secrets[1], Method::GET, "/v1/device/messages", None).await;
    assert_eq!(other.status, StatusCode::OK, "the other user's phone is still welcome: {}", other.body);

    // While it works: the log too is cut as soon as that can be.
    let until = std::time::Instant::now() + crate::world::PATIENCE;
    while said.iter().any(|word| times(&raw(&world), word) > 0) {
        let left: Vec<_> = said.iter().filter(|word| times(&raw(&world), word) > 0).collect();
        assert!(std::time::Instant::now() < until, "{left:?} can still be read");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    for id in &sent {
        let message = world.until(id, |_| true).await;
        assert_eq!((&message["state"], &message["metadata"]), (&json!("done"), &json!({})), "{message:#}");
    }
    assert_eq!(world.until(&scheduled, |_| true).await["state"], "scheduled");
    let after = world.until(&id, |_| true).await;
    assert_eq!(after["counts"], before["counts"], "the counts still add up");
    let deliveries = world.deliveries(&id).await;
    let named: Vec<_> = deliveries.iter().map(|delivery| delivery["device_id"].clone()).collect();
    assert_eq!(named, [json!(null), json!(null), json!("c")]);
    assert!(world.stop_gateway().success());
    let bytes = raw(&world);
    assert!(said.iter().all(|word| times(&bytes, word) == 0));
    // The audit log says who erased whom.
    assert_eq!(times(&bytes, "u-42"), times(&bytes, "users/u-42"), "and nothing else does");
    assert!(times(&bytes, "ok-third") > 0 && times(&bytes, "For both") > 0, "what is others' stays");
    let found = everything(&world).await;
    assert!(!words.iter().any(|word| found.contains(word)), "{found}");
    assert!(found.contains("u-43") && found.contains("ok-third"));
    world.start_gateway().await;
    // The id is free, and its new device has nothing of the old one.
    world.put_devices(vec![("a".into(), json!({}))]).await;
    let fresh = world.api(Method::GET, "/v1/devices/a/deliveries", None).await.body;
    assert_eq!(fresh["data"], json!([]));
}

/// A19, as far as backends go: their word moves a token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_that_changed_hands_gets_nothing_for_its_old_owner() {
    let world = World::start().await;
    world.put_devices(vec![("old".into(), fcm_device("ok-phone"))]).await;
    let first = world.send(json!({"to": {"device_ids": ["old"]}, "notification": {"title": "1"}})).await;
    world.done(&first).await;
    world.put_devices(vec![("new".into(), fcm_device("ok-phone"))]).await;
    let second = world.send(json!({"to": {"device_ids": ["old"]}, "notification": {"title": "2"}})).await;
    assert_eq!(world.done(&second).await["reasons"], json!({"no_route": 1}));
    let third = world.send(json!({"to": {"device_ids": ["new"]}, "notification": {"title": "3"}})).await;
    assert_eq!(world.done(&third).await["counts"]["now"]["accepted"], 1);
    assert_eq!(world.sandbox(Method::GET, "/summary", None).await["accepted_distinct"], 2);
}
