//! The gateway dies at each named point of its way (`failpoint!`), starts again, and the ledger adds up. Points of
//! callbacks, webhooks and of what is removed for its age are where these are tested.

use std::os::unix::process::ExitStatusExt as _;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::api_import::import;
use crate::ledger::{self, Bounds};
use crate::sending::{connect, direct_device, fcm_device};
use crate::world::World;

/// Everything that this test sends may be in hand at once.
const ALL: u64 = 300;
pub(crate) const SIGABRT: i32 = 6;

/// Devices, a message to all of them and one to one of them, the end at the `nth` time that `point` is reached, and
/// what must hold after a new start: repeated calls are answered, everything ends, nothing is lost.
async fn dies_at(point: &str, nth: u32) -> World {
    let mut world = World::start().await;
    let mut devices: Vec<_> = (0..200).map(|i| (format!("ok-{i}"), fcm_device(&format!("ok-{i}")))).collect();
    devices.extend((0..20).map(|i| (format!("flaky-{i}"), fcm_device(&format!("flaky-{i}")))));
    devices.extend((0..20).map(|i| (format!("direct-{i}"), direct_device())));
    // So that a page has somebody to part from while it waits.
    devices.push(("slow".to_owned(), fcm_device("slow-1")));
    world.put_devices(devices).await;
    let direct: Vec<_> = (0..20).map(|i| format!("direct-{i}")).collect();
    let secrets = world.device_secrets(&direct).await;
    assert!(world.stop_gateway().success());
    world.env = vec![("ANYPUSH_FAILPOINT", format!("{point}:{nth}"))];
    world.start_gateway().await;
    for (id, secret) in direct.iter().zip(&secrets).take(5) {
        connect(&world, id, secret).await;
    }
    let calls = [
        ("one", json!({"to": {"device_ids": ["ok-1", "direct-1"]}, "notification": {"title": "One"}})),
        (
            "all",
            json!({"to": {"audience": {"tag": "all"}}, "class": "transactional", "notification": {"title": "All"}}),
        ),
    ];
    let mut first = Vec::new();
    for (key, body) in &calls {
        first.push(post(&world, key, body).await.map(|(_, id)| id));
    }
    let status = world.ended().await;
    assert_eq!(status.signal(), Some(SIGABRT), "{point} was never reached: {status}\n{}", world.log());
    world.env.clear();
    world.start_gateway().await;
    for ((key, body), before) in calls.iter().zip(first) {
        let (status, id) = post(&world, key, body).await.expect("an answer");
        assert_eq!(status, StatusCode::ACCEPTED);
        assert!(before.is_none_or(|before| before == id), "{key} has another id now");
        world.book.answered(status, &json!({"id": id}));
        world.done(&id).await;
    }
    assert!(world.stop_gateway().success());
    ledger::check(&world, Bounds { crashes: 1, window: ALL, ..Bounds::default() }).await;
    world
}

/// Makes a call; `None` where the gateway died over it.
pub(super) async fn post(world: &World, key: &str, body: &Value) -> Option<(StatusCode, String)> {
    let request = world.http.request(Method::POST, format!("{}/v1/messages", world.url));
    let request = request.bearer_auth(&world.api_key).header("Idempotency-Key", key).json(body);
    let answer = request.send().await.ok()?;
    let status = answer.status();
    let body: Value = answer.json().await.ok()?;
    let id = body["id"].as_str().unwrap_or_else(|| panic!("{status} {body}"));
    Some((status, id.to_owned()))
}

/// C6, between two rounds of an expression: the walk goes on where it was, and nobody is skipped or doubled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_two_rounds_of_an_expression() {
    let mut world = World::start().await;
    let line = |n: u32| {
        let tags: &[&str] = if n.is_multiple_of(10) { &["muted"] } else { &[] };
        let address = json!({"provider": "fcm", "token": format!("ok-{n}")});
        json!({"id": format!("d{n}"), "tags": tags, "attributes": {"n": n}, "addresses": [address]})
            .to_string()
    };
    let lines: Vec<_> = (0..12_000).map(line).collect();
    assert_eq!(import(&world, &world.api_key, lines.join("\n").into()).await.len(), 12_000);
    assert!(world.stop_gateway().success());
    world.env = vec![("ANYPUSH_FAILPOINT", "expand.after_commit:1".to_owned())];
    world.start_gateway().await;
    let audience = json!({"and": [{"attr": "n", "gte": 0}, {"not": {"tag": "muted"}}]});
    let body = json!({"to": {"audience": audience}, "class": "marketing", "notification": {"title": "All"}});
    post(&world, "all", &body).await;
    assert_eq!(world.ended().await.signal(), Some(SIGABRT), "{}", world.log());
    world.env.clear();
    world.start_gateway().await;
    let (status, id) = post(&world, "all", &body).await.expect("an answer");
    world.book.answered(status, &json!({"id": id}));
    let message = world.done(&id).await;
    assert_eq!(message["counts"]["targeted"], 10_800);
    assert_eq!(message["counts"]["now"]["accepted"], 10_800, "{message:#}");
    let ledger = world.sandbox(Method::GET, &format!("/summary?message={id}"), None).await;
    assert_eq!(ledger["accepted_distinct"], 10_800, "{ledger:#}");
    assert!(world.stop_gateway().success());
    ledger::check(&world, Bounds { crashes: 1, window: 5000, ..Bounds::default() }).await;
}

macro_rules! points {
    ($($(#[$meta:meta])* $test:ident: $point:literal, $nth:literal;)*) => {$(
        $(#[$meta])*
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            dies_at($point, $nth).await;
        }
    )*};
}

points! {
    /// C1
    before_a_message_is_written: "accept.before_begin", 1;
    /// C2
    before_a_message_is_committed: "accept.before_commit", 2;
    /// C3
    after_a_message_is_committed: "accept.after_commit", 1;
    /// C3
    before_a_message_is_answered: "accept.before_answer", 2;
    /// C6
    before_an_audience_is_committed: "expand.before_commit", 1;
    /// C6
    after_an_audience_is_committed: "expand.after_commit", 1;
    /// C8
    before_a_page_is_sent: "page.before_send", 2;
    /// C9
    while_a_page_is_half_answered: "page.half_answered", 1;
    /// C9
    after_a_page_is_answered: "page.answered", 2;
    /// C9
    after_a_page_has_parted_from_who_left_it: "page.parted", 1;
    /// C10
    before_outcomes_are_written: "record.before_write", 2;
    /// C11
    before_outcomes_are_committed: "outcomes.before_commit", 2;
    /// C11
    after_outcomes_are_committed: "outcomes.after_commit", 2;
    /// C10
    after_outcomes_are_written: "record.after_write", 3;
    /// C46
    before_an_acknowledgement_is_committed: "ack.before_commit", 1;
    /// C46
    after_an_acknowledgement_is_committed: "ack.after_commit", 1;
}
