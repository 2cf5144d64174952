//! An audience that changes while it is walked: nobody twice, whoever was in it all the time once.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::ledger::{self, Bounds};
use crate::sending::{direct_device, fcm_device};
use crate::world::{PATIENCE, World};

/// More than two strides of the walk.
const STAY: usize = 10_500;
/// Of each kind: those that leave, come, and are deleted.
const CHANGE: usize = 150;

/// Changes everything that changes, a few calls at a time.
async fn change(world: &World) {
    stream::iter(0..CHANGE)
        .for_each_concurrent(4, |i| async move {
            let no_tags = Some(json!({"tags": []}));
            let left = world.api(Method::PATCH, &format!("/v1/devices/leaves{i}"), no_tags).await;
            assert_eq!(left.status, StatusCode::OK, "{}", left.body);
            world.put_devices(vec![(format!("comes{i}"), fcm_device(&format!("ok-comes-{i}")))]).await;
            let gone = world.api(Method::DELETE, &format!("/v1/devices/goes{i}"), None).await;
            assert!(gone.status.is_success(), "{}", gone.body);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audience_that_changes_while_it_is_walked_reaches_nobody_twice() {
    let mut world = World::start().await;
    let mut devices: Vec<_> =
        (0..STAY).map(|i| (format!("stays{i}"), fcm_device(&format!("ok-stays-{i}")))).collect();
    // Those that change stand at the beginning, in the middle and at the end of the walk.
    for i in 0..CHANGE {
        let at = i * STAY / CHANGE;
        devices.insert(at, (format!("leaves{i}"), fcm_device(&format!("ok-leaves-{i}"))));
        devices.insert(at, (format!("goes{i}"), direct_device()));
    }
    world.put_devices(devices).await;
    let send = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let to_all = json!({"to": {"audience": {"tag": "all"}}, "class": "marketing", "notification": {"title": "Hi"}});
        world.send(to_all).await
    };
    let ((), id) = tokio::join!(change(&world), send);
    let until = Instant::now() + PATIENCE;
    let message = loop {
        let message = world.until(&id, |_| true).await;
        if message["state"] == "done" {
            break message;
        }
        assert!(Instant::now() < until, "{message:#}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let targeted = message["counts"]["targeted"].as_u64().unwrap() as usize;
    assert!((STAY..=STAY + 3 * CHANGE).contains(&targeted), "{message:#}");
    let summary = world.sandbox(Method::GET, &format!("/summary?message={id}"), None).await;
    assert_eq!(summary["duplicates"], 0, "{summary:#}");
    let mut stayed = std::collections::HashSet::new();
    let mut after = 0;
    loop {
        let page = world.sandbox(Method::GET, &format!("/requests?after={after}&limit=10000"), None).await;
        let requests = page["requests"].as_array().unwrap();
        if requests.is_empty() {
            break;
        }
        for token in requests.iter().filter_map(|request| request["token"].as_str()) {
            if token.starts_with("ok-stays-") {
                assert!(stayed.insert(token.to_owned()), "{token} twice");
            }
        }
        after = page["next_after"].as_u64().unwrap();
    }
    assert_eq!(stayed.len(), STAY, "who was in it all the time was sent to");
    assert!(world.stop_gateway().success());
    ledger::check(&world, Bounds::default()).await;
}
