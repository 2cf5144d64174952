//! The wall clock jumps while the gateway runs: nothing expires before its time, nothing is stuck, nothing is sent
//! twice, and ids stay in order.

use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::ledger::{self, Bounds};
use crate::sending::fcm_device;
use crate::world::World;

const HOUR: i64 = 3600;
const PHONES: usize = 20;
/// Far less than anything that waits for a jump to pass, more than a busy machine needs.
const SOON: Duration = Duration::from_mins(2);

fn jump(file: &Path, seconds: i64) {
    std::fs::write(file, seconds.to_string()).unwrap();
}

fn to_all(title: &str) -> Value {
    json!({
        "to": {"audience": {"tag": "all"}}, "class": "transactional", "ttl_seconds": 1800,
        "notification": {"title": title}
    })
}

async fn vendor(world: &World, outage: &str) {
    // Tokens that outlive every jump: that a vendor refuses signatures from the future is another matter.
    let switch = json!({"outage": outage, "access_token_seconds": 10_000_000});
    world.sandbox(Method::PUT, "/providers/fcm", Some(switch)).await;
}

/// Sends while the vendor is down, sets the clock wrong by `seconds` once the first tries have failed, sets it to `then`
/// and lets the vendor come back: everything arrives, soon.
async fn outlasts(world: &World, file: &Path, title: &str, seconds: i64, then: i64) -> String {
    vendor(world, "http_503").await;
    let id = world.send(to_all(title)).await;
    let tried = |d: &Value| d["reason"] == "vendor_unavailable";
    while world.deliveries(&id).await.iter().filter(|d| tried(d)).count() < PHONES {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    jump(file, seconds);
    // Long enough for whatever looks at the clock to have looked.
    tokio::time::sleep(Duration::from_secs(7)).await;
    let message = world.until(&id, |_| true).await;
    assert_eq!(message["counts"]["now"]["pending"], PHONES, "{message:#}");
    let off = off(world).await;
    // The gateway's time has followed by a twentieth of the minutes that the test has taken.
    let wrong = seconds.abs();
    assert!((wrong - 60..=wrong + 60).contains(&off), "{title}: off by {off}");
    jump(file, then);
    vendor(world, "none").await;
    let began = Instant::now();
    let message = world.done(&id).await;
    assert_eq!(message["counts"]["now"]["accepted"], PHONES, "{message:#}");
    assert!(began.elapsed() < SOON, "{title} took {:?}", began.elapsed());
    id
}

/// By how much the gateway says that the wall clock is off, in seconds.
async fn off(world: &World) -> i64 {
    let metrics = world.http.get(format!("{}/metrics", world.url)).bearer_auth(&world.admin_key);
    let text = metrics.send().await.unwrap().text().await.unwrap();
    let line = text.lines().find(|line| line.starts_with("anypush_clock_off_seconds ")).expect("the metric");
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wall_clock_that_jumps_ends_nothing_early_and_stops_nothing() {
    let mut world = World::start().await;
    let file = world.data_dir().join("wall-clock");
    world.put_devices((0..PHONES).map(|i| (format!("p{i}"), fcm_device(&format!("ok-{i}")))).collect()).await;
    let away = json!({"platform": "android", "tags": []});
    world.put_devices(vec![("away".into(), away)]).await;
    world.device_secrets(&["away".into()]).await;
    assert!(world.stop_gateway().success());
    world.env = vec![("ANYPUSH_WALL_CLOCK", file.display().to_string())];
    world.start_gateway().await;
    vendor(&world, "none").await;
    // Waits in an inbox, with a deadline that every jump forward passes.
    let to_inbox =
        json!({"to": {"device_ids": ["away"]}, "ttl_seconds": 3000, "notification": {"title": "Inbox"}});
    let inbox = world.send(to_inbox).await;
    // Also fetches the vendor's token, signed by a clock that is right.
    let first = world.send(to_all("first")).await;
    world.done(&first).await;
    let mut sent = vec![inbox.clone(), first];
    // A day ahead the vendor's token is over and a new one would be refused: what is sent waits for the clock.
    for (title, seconds, then) in
        [("ahead", HOUR, HOUR), ("back", -HOUR, -HOUR), ("a day", 25 * HOUR, 0), ("right again", 0, 0)]
    {
        sent.push(outlasts(&world, &file, title, seconds, then).await);
        let now = world.send(to_all("now")).await;
        let message = world.done(&now).await;
        assert_eq!(message["counts"]["now"]["accepted"], PHONES, "{title}: {message:#}");
        sent.push(now);
        let message = world.until(&inbox, |_| true).await;
        assert_eq!(message["counts"]["now"]["accepted"], 1, "{title}: {message:#}");
    }
    assert!(world.log().contains("the wall clock jumped"), "nobody was told");
    // A start with a clock that was set back: new ids still come after the old ones.
    assert!(world.stop_gateway().success());
    jump(&file, -HOUR);
    world.start_gateway().await;
    let after = world.send(to_all("after")).await;
    assert_eq!(world.done(&after).await["counts"]["now"]["accepted"], PHONES);
    sent.push(after);
    let list = world.api(Method::GET, "/v1/messages?limit=100", None).await;
    let listed: Vec<_> =
        list.body["data"].as_array().unwrap().iter().rev().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(listed, sent);
    assert!(world.stop_gateway().success());
    let report = ledger::check(&world, Bounds { lossy: true, ..Bounds::default() }).await;
    assert_eq!(report.duplicates, 0);
}
