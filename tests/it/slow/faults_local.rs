//! On the gateway's own machine: too few file descriptors.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::ledger::{self, Bounds};
use crate::trouble::{phone, to_phone};
use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_without_file_descriptors_waits_and_recovers() {
    let mut world = World::start().await;
    phone(&world, "ok-phone").await;
    assert!(world.stop_gateway().success());
    world.before = "ulimit -n 64";
    world.start_gateway().await;
    let address = world.url["http://".len()..].to_owned();
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(TcpStream::connect(&address).await.unwrap());
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let complaints = world.log().matches("could not be accepted").count();
    assert!((1..200).contains(&complaints), "it does not sleep between tries: {complaints} lines");
    assert!(!world.log().contains("panicked"), "{}", world.log());
    drop(held);
    world.ready().await;
    let id = world.send(to_phone()).await;
    world.done(&id).await;
    assert!(world.stop_gateway().success());
    ledger::check(&world, Bounds::default()).await;
}
