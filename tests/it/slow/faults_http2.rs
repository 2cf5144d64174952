//! Vendors that use HTTP/2's ways of saying "not now": a refused stream, a connection that goes away, one stream at a
//! time. What was not processed is repeated and counts as no try; nothing is sent twice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request, Response};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::ledger::{self, Bounds};
use crate::sending::fcm_device;
use crate::world::{World, client};

const PHONES: usize = 120;

/// A peer between gateway and vendor, on a free port. Ends when dropped.
struct Peer {
    address: SocketAddr,
    /// How often it did what it is there for.
    did: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    #[expect(clippy::disallowed_methods, reason = "a test's server ends with the test")]
    async fn start<F>(serve: impl Fn(TcpStream, Arc<AtomicU64>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, did) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
        let count = Arc::clone(&did);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(serve(near, Arc::clone(&count)));
            }
        });
        Self { address, did, task }
    }
}

/// Answers streams with what the vendor says; refuses each `refuse`-th (0: none).
#[expect(clippy::disallowed_methods, reason = "a test's server ends with the test")]
async fn streams(near: TcpStream, vendor: String, most: u32, refuse: u64, did: Arc<AtomicU64>) {
    let mut builder = h2::server::Builder::new();
    let Ok(mut connection) = builder.max_concurrent_streams(most).handshake::<_, Bytes>(near).await else {
        return;
    };
    let (http, open) = (client(), Arc::new(AtomicU64::new(0)));
    let mut number = 0;
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        number += 1;
        if refuse > 0 && number % refuse == 0 {
            did.fetch_add(1, Ordering::SeqCst);
            respond.send_reset(Reason::REFUSED_STREAM);
            continue;
        }
        if refuse == 0 {
            did.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        }
        tokio::spawn(carry(http.clone(), vendor.clone(), request, respond, Arc::clone(&open)));
    }
}

async fn carry(
    http: reqwest::Client,
    vendor: String,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    open: Arc<AtomicU64>,
) {
    let (head, mut stream) = request.into_parts();
    let mut body = Vec::new();
    while let Some(Ok(piece)) = stream.data().await {
        let _ = stream.flow_control().release_capacity(piece.len());
        body.extend_from_slice(&piece);
    }
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let answer = http.request(head.method, format!("{vendor}{path}")).headers(head.headers).body(body).send();
    let answer = answer.await.unwrap();
    let response = Response::builder().status(answer.status()).header("content-type", "application/json");
    let body = answer.bytes().await.unwrap();
    open.fetch_sub(1, Ordering::SeqCst);
    let mut sending = respond.send_response(response.body(()).unwrap(), false).unwrap();
    sending.send_data(body, true).unwrap();
}

/// A frame of HTTP/2: its head and what follows; `None` at the end of the connection.
async fn frame(from: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<(u8, u32, Vec<u8>)> {
    let mut bytes = vec![0; 9];
    from.read_exact(&mut bytes).await.ok()?;
    let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
    let (kind, stream) = (bytes[3], u32::from_be_bytes(bytes[5..9].try_into().unwrap()) & 0x7fff_ffff);
    bytes.resize(9 + length, 0);
    from.read_exact(&mut bytes[9..]).await.ok()?;
    Some((kind, stream, bytes))
}

/// Carries this many streams; then says GOAWAY with the last of them, and what comes after it reaches nobody.
async fn goes_away(near: TcpStream, vendor: String, streams: u32, did: Arc<AtomicU64>) {
    const HEADERS: u8 = 1;
    let far = TcpStream::connect(vendor.strip_prefix("http://").unwrap()).await.unwrap();
    let (mut requests, mut near) = near.into_split();
    let (mut answers, mut far) = far.into_split();
    let last = 2 * streams - 1;
    let (beyond, told) = tokio::sync::watch::channel(false);
    let there = async {
        let mut preface = [0; 24];
        if requests.read_exact(&mut preface).await.is_err() || far.write_all(&preface).await.is_err() {
            return;
        }
        while let Some((kind, stream, bytes)) = frame(&mut requests).await {
            if stream > last {
                did.fetch_add(u64::from(kind == HEADERS), Ordering::SeqCst);
                beyond.send_replace(true);
            } else if far.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let back = async {
        let mut told = told;
        let mut is_told = false;
        let (whole, mut frames) = tokio::sync::mpsc::channel(16);
        let read = async move {
            while let Some((_, _, bytes)) = frame(&mut answers).await {
                if whole.send(bytes).await.is_err() {
                    return;
                }
            }
        };
        let write = async move {
            loop {
                let bytes = tokio::select! {
                    Some(bytes) = frames.recv() => bytes,
                    Ok(()) = told.changed(), if !is_told => {
                        is_told = true;
                        let mut away = vec![0, 0, 8, 7, 0, 0, 0, 0, 0];
                        away.extend_from_slice(&last.to_be_bytes());
                        away.extend_from_slice(&[0; 4]);
                        away
                    }
                    else => return,
                };
                if near.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        };
        tokio::join!(read, write);
    };
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

/// Two messages through a peer: each phone is asked for exactly once for each.
async fn sends_through(mut world: World, peer: &Peer) {
    let more = json!({"base_url": format!("http://{}", peer.address)});
    let put = world.put_fcm_channel_at(&world.app_id, "fcm", "demo-project", more).await;
    assert!(put.status.is_success(), "{}", put.body);
    let phones = (0..PHONES).map(|i| (format!("p{i}"), fcm_device(&format!("ok-{i}"))));
    world.put_devices(phones.collect()).await;
    world.sandbox(Method::PUT, "/providers/fcm", Some(json!({"latency_ms": 30}))).await;
    for class in ["transactional", "marketing"] {
        let to_all = json!({
            "to": {"audience": {"tag": "all"}}, "class": class, "notification": {"title": "Hello"}
        });
        let id = world.send(to_all).await;
        let message = world.done(&id).await;
        assert_eq!(message["counts"]["now"]["accepted"], PHONES, "{message:#}");
        for delivery in world.deliveries(&id).await.iter().take(30) {
            let path = format!("/v1/messages/{id}/deliveries/{}", delivery["id"].as_str().unwrap());
            let told = world.api(Method::GET, &path, None).await.body;
            let last = told["trail"].as_array().unwrap().last().unwrap().clone();
            // Repeated at once it is no try; who is refused each time waits, and that is one.
            assert!(last["attempt"].as_u64() <= Some(2), "{told:#}");
        }
    }
    assert!(world.stop_gateway().success());
    // Neither crash nor doubt: the check wants one request for each phone and message.
    ledger::check(&world, Bounds::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_a_vendor_refuses_are_sent_again_and_count_as_no_try() {
    let world = World::start().await;
    let vendor = world.sandbox_url.clone();
    let peer = Peer::start(move |near, did| streams(near, vendor.clone(), 100, 3, did)).await;
    sends_through(world, &peer).await;
    assert!(peer.did.load(Ordering::SeqCst) > 10, "hardly anything was refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendor_that_takes_one_stream_at_a_time_gets_one_at_a_time() {
    let world = World::start().await;
    let vendor = world.sandbox_url.clone();
    let peer = Peer::start(move |near, did| streams(near, vendor.clone(), 1, 0, did)).await;
    sends_through(world, &peer).await;
    assert_eq!(peer.did.load(Ordering::SeqCst), 1, "streams at a time, at most");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_above_the_last_stream_of_a_goaway_are_sent_again_elsewhere() {
    let world = World::start().await;
    let vendor = world.sandbox_url.clone();
    let peer = Peer::start(move |near, did| goes_away(near, vendor.clone(), 20, did)).await;
    sends_through(world, &peer).await;
    assert!(peer.did.load(Ordering::SeqCst) > 5, "hardly anything came after the last stream");
}
