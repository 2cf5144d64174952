//! Things that happen while an answer is on its way.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::ledger::{self, Bounds};
use crate::trouble::{phone, to_phone};
use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_no_to_an_old_registration_leaves_the_new_one_alone() {
    let mut world = World::start().await;
    phone(&world, "dead-phone").await;
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"latency_ms": 3000}))).await;
    let id = world.send(to_phone()).await;
    // The request is on its way when the app is installed anew, and gets the same token.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let without = world.api(Method::PUT, "/v1/devices/phone", Some(json!({"addresses": []}))).await;
    assert!(without.status.is_success(), "{}", without.body);
    phone(&world, "dead-phone").await;
    let message = world.until(&id, |_| true).await;
    assert_eq!(message["counts"]["now"]["pending"], 1, "it was answered too soon: {message:#}");
    let message = world.done(&id).await;
    assert_eq!(message["counts"]["now"]["failed"], 1, "{message:#}");
    let device = world.api(Method::GET, "/v1/devices/phone", None).await;
    let addresses = device.body["addresses"].as_array().unwrap();
    let active = addresses.iter().filter(|address| address["state"] == "active").count();
    assert_eq!(active, 1, "the new registration was retired by a word about the old one: {addresses:#?}");
    // What the vendor says of the new one counts.
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"latency_ms": 0}))).await;
    let again = world.send(to_phone()).await;
    world.done(&again).await;
    let device = world.api(Method::GET, "/v1/devices/phone", None).await;
    assert_eq!(device.status, StatusCode::OK);
    let addresses = device.body["addresses"].as_array().unwrap();
    assert!(addresses.iter().all(|address| address["state"] == "retired"), "{addresses:#?}");
    assert!(world.stop_gateway().success());
    ledger::check(&world, Bounds::default()).await;
}
