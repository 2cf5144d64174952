//! What an idle phone costs: the reason for a WebSocket's three buffer sizes.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::World;
use crate::direct::secret;
use crate::store::DevicePut;

/// Phones that are there before it is measured, so that tables and pools have grown.
const WARM: usize = 200;
/// Measured several times: other tests in this process can only add to it, so the least is the truth.
const ROUNDS: usize = 3;
const ROUND: usize = 400;
/// Both ends are in this process, and nothing is optimised here: ours alone is less.
const MOST_BYTES: usize = 6 * 1024;

#[tokio::test]
async fn slow_an_idle_socket_costs_less_than_six_kilobytes() {
    let world = World::new().await;
    let mut held = Vec::new();
    let mut least = usize::MAX;
    for n in 0..WARM {
        held.push(open(&world, n).await);
    }
    for _ in 0..ROUNDS {
        let before = resident_bytes();
        for _ in 0..ROUND {
            held.push(open(&world, held.len()).await);
        }
        least = least.min(resident_bytes().saturating_sub(before) / ROUND);
    }
    world.connected(held.len()).await;
    println!("an idle WebSocket costs {least} bytes");
    assert!((500..MOST_BYTES).contains(&least), "an idle WebSocket costs {least} bytes");
}

/// A phone that has said hello and a heartbeat.
async fn open(world: &World, n: usize) -> TcpStream {
    let id = format!("idle-{n}");
    let put = DevicePut { id: id.clone(), enabled: true, ..DevicePut::default() };
    world.gateway.store.put_devices(world.app, vec![put], 0).await.unwrap();
    let (_, secret) = secret::issue(&world.gateway, world.app, &id).await.unwrap().unwrap();
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "GET /v1/device/socket HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {secret}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        world.address
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'{', b'}']).await.unwrap();
    let mut read = Vec::with_capacity(1024);
    while !read.ends_with(b"\x81\x02{}") {
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0);
    }
    stream
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}
