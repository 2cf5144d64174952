//! A reader of live events that does not read: it is let go, is told so, and misses nothing when it comes back.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::api_events::{live, open};
use crate::world::{PATIENCE, World};

/// More events than the machine keeps for a reader that takes none.
const EVENTS: usize = 20_000;
/// Streams that an app may have.
const STREAMS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_does_not_read_is_told_that_it_was_too_slow_and_misses_nothing() {
    let world = World::start().await;
    let query = "?types=delivery.suppressed";
    let mut lazy = live(&world, &world.api_key, query, None).await;
    let mut others = Vec::new();
    for _ in 1..STREAMS {
        others.push(live(&world, &world.api_key, "?types=webhook.disabled", None).await);
    }
    assert_eq!(open(&world, &world.api_key, query, None).await.status().as_u16(), 429);
    for part in 0..2 {
        let nobody: Vec<_> = (0..EVENTS / 2).map(|n| format!("nobody-{part}-{n}")).collect();
        let message = json!({"to": {"device_ids": nobody}, "class": "marketing", "data": {"a": "b"}});
        world.done(&world.send(message).await).await;
    }
    // Its place is given to another: it was let go.
    tokio::time::timeout(PATIENCE, async {
        while open(&world, &world.api_key, query, None).await.status().as_u16() == 429 {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    })
    .await
    .expect("whoever takes nothing is let go");
    drop(others);
    let mut got = BTreeSet::new();
    let end = loop {
        let (id, name, event) = lazy.next().await.expect("the last event says why");
        if name == "stream.end" {
            break event;
        }
        assert!(got.insert(id), "nothing is told twice");
    };
    assert_eq!(end["reason"], "too_slow", "{end:#}");
    assert!(lazy.next().await.is_none(), "that was the last");
    assert!(got.len() < EVENTS, "the machine kept them all");
    let last = end["last_event_id"].as_str().expect("where to go on");
    let mut back = live(&world, &world.api_key, query, Some(last)).await;
    while got.len() < EVENTS {
        let (id, name, event) = back.next().await.expect("it goes on");
        assert_eq!((name.as_str(), &event["id"]), ("delivery.suppressed", &Value::from(id.as_str())));
        assert!(got.insert(id), "nothing is told twice");
    }
}
