//! Floods of HTTP/2 frames (A25): the connection that they come by is closed or stands still, the gateway keeps little of
//! them, and others are served.

use std::time::Duration;

use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::{PATIENCE, World};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// What a flood may cost: far below what it would be if its frames were kept.
const MEBIBYTES: u64 = 64;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// `GET /openapi.yaml`, as HPACK: the largest answer that nobody needs a key for.
fn request() -> Vec<u8> {
    let mut block = vec![0x82, 0x86];
    for (name, value) in [(1, "x"), (4, "/openapi.yaml")] {
        block.extend([name, value.len() as u8]);
        block.extend(value.as_bytes());
    }
    block
}

async fn connect(world: &World, settings: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(world.url.trim_start_matches("http://")).await.unwrap();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).await.unwrap();
    stream
}

/// Whether the gateway ended a connection with GOAWAY; what came is read to its end.
async fn is_sent_away(mut stream: TcpStream, flood: Vec<u8>) -> bool {
    let (mut reading, mut writing) = stream.split();
    let mut answer = Vec::new();
    let write = async {
        // It may be closed before all of it is written.
        let _ = writing.write_all(&flood).await;
    };
    let read = tokio::time::timeout(PATIENCE, reading.read_to_end(&mut answer));
    let (read, ()) = tokio::join!(read, write);
    assert!(read.is_ok(), "the gateway keeps the connection");
    let mut rest = answer.as_slice();
    while let [a, b, c, kind, _, _, _, _, _, after @ ..] = rest {
        if *kind == GOAWAY {
            return true;
        }
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        rest = after.get(length..).unwrap_or_default();
    }
    // With bytes unread when it closed, the system sends a reset, and what was said before it may be lost.
    read.unwrap().is_err() || answer.is_empty()
}

async fn assert_serves(world: &World, before: u64) {
    let list = world.api(Method::GET, "/v1/messages", None).await;
    assert_eq!(list.status.as_u16(), 200, "{}", list.body);
    let grown = world.resident_kb().unwrap().saturating_sub(before) / 1024;
    assert!(grown < MEBIBYTES, "the gateway grew by {grown} MiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_floods_with_resets_or_headers_without_end_is_closed() {
    let mut world = World::start().await;
    world.keep_to_two_threads().await;
    let before = world.resident_kb().unwrap();
    let streams = || (0..20_000u32).map(|n| 2 * n + 1);
    let open = |id| frame(HEADERS, END_STREAM | END_HEADERS, id, &request());
    // CVE-2023-44487: each request is taken back at once.
    let rapid = streams().flat_map(|id| [open(id), frame(RESET, 0, id, &8u32.to_be_bytes())].concat());
    // CVE-2025-8671: the gateway is brought to take back each request itself.
    let made = streams().flat_map(|id| [open(id), frame(WINDOW_UPDATE, 0, id, &[0; 4])].concat());
    // CVE-2024-27316: headers that never end, in frames with nothing in them, and with more and more.
    let first = frame(HEADERS, END_STREAM, 1, &request());
    let empty = first.iter().copied().chain((0..100_000).flat_map(|_| frame(CONTINUATION, 0, 1, &[])));
    let field = [&[0, 1, b'a', 100][..], &[b'x'; 100]].concat();
    let more = first.iter().copied().chain((0..50_000).flat_map(|_| frame(CONTINUATION, 0, 1, &field)));
    let floods: [(&str, Vec<u8>); 4] = [
        ("rapid reset", rapid.collect()),
        ("resets that the gateway makes", made.collect()),
        ("empty CONTINUATION", empty.collect()),
        ("headers without end", more.collect()),
    ];
    for (what, flood) in floods {
        assert!(is_sent_away(connect(&world, &[]).await, flood).await, "{what}");
        assert_serves(&world, before).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_asks_without_end_and_reads_nothing_costs_little() {
    let mut world = World::start().await;
    world.keep_to_two_threads().await;
    let before = world.resident_kb().unwrap();
    let mut kept = Vec::new();
    for flood in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])] {
        let mut stream = connect(&world, &[]).await;
        let some = flood.repeat(4096);
        for _ in 0..500 {
            // Where its answers are not read the gateway stops reading too; or it closes.
            let written = tokio::time::timeout(Duration::from_secs(3), stream.write_all(&some)).await;
            if !matches!(written, Ok(Ok(()))) {
                break;
            }
        }
        assert_serves(&world, before).await;
        kept.push(stream);
    }
    // A window of 0: all answers are ready, and none may be sent.
    for _ in 0..10 {
        let mut stream = connect(&world, &[0, 4, 0, 0, 0, 0]).await;
        let asked = (0..100u32).flat_map(|n| frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &request()));
        stream.write_all(&asked.collect::<Vec<_>>()).await.unwrap();
        kept.push(stream);
    }
    assert_serves(&world, before).await;
    assert_eq!(kept.len(), 12);
}
