//! WebSockets, with another implementation's client where ours might be too kind.

use std::time::Duration;

use axum::http::StatusCode;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::{Request, Response};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::World;
use crate::delivery::state::State;
use crate::direct::secret;

struct Phone(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl World {
    fn upgrade(&self, secret: &str) -> Request {
        let mut request = format!("ws://{}/v1/device/socket", self.address).into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {secret}").parse().unwrap());
        request
    }

    async fn connect(&self) -> Phone {
        let (socket, _) = connect_async(self.upgrade(&self.secret)).await.unwrap();
        let mut phone = Phone(socket);
        let hello = phone.json().await;
        assert_eq!(hello["hello"]["heartbeat"], json!({"interval": 270, "max": 1680, "grace": 30}));
        phone
    }

    async fn refused(&self, request: Request) -> Response {
        match connect_async(request).await.map(|_| ()) {
            Err(Error::Http(response)) => *response,
            other => panic!("not refused: {other:?}"),
        }
    }
}

impl Phone {
    async fn next(&mut self) -> Message {
        timeout(Duration::from_secs(5), self.0.next()).await.expect("a frame in time").unwrap().unwrap()
    }

    async fn json(&mut self) -> Value {
        serde_json::from_str(self.next().await.to_text().unwrap()).unwrap()
    }

    async fn message(&mut self) -> Value {
        self.json().await["msg"].clone()
    }

    async fn say(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    /// Nothing but this answer is on the way.
    async fn is_quiet(&mut self) {
        self.say(json!({})).await;
        assert_eq!(self.json().await, json!({}));
    }

    /// Reads up to the end: the reason that was said and the close code.
    async fn end(&mut self) -> (Option<Value>, u16) {
        let mut bye = None;
        loop {
            match self.next().await {
                Message::Text(text) => {
                    bye = Some(serde_json::from_str::<Value>(&text).unwrap()["bye"].clone());
                }
                Message::Close(Some(frame)) => return (bye, frame.code.into()),
                other => panic!("not an end: {other:?}"),
            }
        }
    }
}

fn number(message: &Value) -> usize {
    message["data"]["n"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_came_while_offline_comes_in_order_and_once_acknowledged_no_more() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(world.send(n).await);
    }
    let mut phone = world.connect().await;
    let mut cursor = json!(null);
    for (n, id) in ids.iter().enumerate() {
        let message = phone.message().await;
        assert_eq!((number(&message), &message["id"]), (n, &json!(id)));
        cursor = message["cursor"].clone();
    }
    phone.say(json!({"ack": cursor})).await;
    for id in &ids {
        world.until_named(id, State::Delivered).await;
    }
    let live = world.send(9).await;
    let message = phone.message().await;
    assert_eq!(number(&message), 9);
    phone.say(json!({"acks": [live]})).await;
    world.until_named(&live, State::Delivered).await;
    drop(phone);
    world.connected(0).await;
    world.connect().await.is_quiet().await;
}

#[tokio::test]
async fn who_connects_again_to_an_empty_inbox_costs_no_read_and_gets_what_comes() {
    let world = World::new().await;
    world.connect().await.is_quiet().await;
    world.connected(0).await;
    let (quiet, now_ms) = (world.gateway.hub.quiet(), world.gateway.clock.now_ms());
    assert!(quiet.look(world.device.seq, now_ms).is_none(), "now it is known to be empty");
    let mut phone = world.connect().await;
    phone.is_quiet().await;
    world.send(1).await;
    assert_eq!(number(&phone.message().await), 1);
    drop(phone);
    world.connected(0).await;
    assert_eq!(number(&world.connect().await.message().await), 1, "it was not acknowledged");
}

#[tokio::test]
async fn what_was_handed_out_and_not_acknowledged_comes_again_under_the_same_name() {
    let world = World::new().await;
    world.send(1).await;
    let mut first = world.connect().await;
    let message = first.message().await;
    // No goodbye: the connection is cut.
    drop(first);
    world.connected(0).await;
    let mut second = world.connect().await;
    assert_eq!(second.message().await, message);
    assert_eq!(world.poll("").await["messages"][0], message, "polling sees the same inbox");
}

#[tokio::test]
async fn the_window_is_twenty_and_moves_on() {
    let world = World::new().await;
    for n in 0..25 {
        world.send(n).await;
    }
    let mut phone = world.connect().await;
    let mut fifth = json!(null);
    for n in 0..20 {
        let message = phone.message().await;
        assert_eq!(number(&message), n);
        if n == 4 {
            fifth = message["cursor"].clone();
        }
    }
    phone.is_quiet().await;
    phone.say(json!({"ack": fifth})).await;
    for n in 20..25 {
        assert_eq!(number(&phone.message().await), n);
    }
    phone.is_quiet().await;
}

#[tokio::test]
async fn the_newest_connection_wins_and_a_wrong_secret_disturbs_nobody() {
    let world = World::new().await;
    let mut old = world.connect().await;
    let wrong = secret::make(world.device.username.as_deref()).secret;
    assert_eq!(world.refused(world.upgrade(&wrong)).await.status(), StatusCode::UNAUTHORIZED);
    old.is_quiet().await;
    let mut new = world.connect().await;
    let (bye, code) = old.end().await;
    assert_eq!((bye.unwrap()["reason"].as_str(), code), (Some("superseded"), 4001));
    world.send(1).await;
    assert_eq!(number(&new.message().await), 1);
    assert_eq!(world.gateway.hub.connected(), 1);
}

#[tokio::test]
async fn a_revoked_secret_ends_the_connection() {
    let world = World::new().await;
    let mut phone = world.connect().await;
    secret::issue(&world.gateway, world.app, "phone-1").await.unwrap().unwrap();
    let (bye, code) = phone.end().await;
    assert_eq!((bye.unwrap()["reason"].as_str(), code), (Some("revoked"), 4003));
    assert_eq!(world.refused(world.upgrade(&world.secret)).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_stop_says_goodbye_and_when_to_come_again() {
    let world = World::new().await;
    let mut phone = world.connect().await;
    world.gateway.tasks.stop();
    let (bye, code) = phone.end().await;
    let bye = bye.unwrap();
    assert_eq!((bye["reason"].as_str(), code), (Some("drain"), 1012));
    assert!((1_000..30_000).contains(&bye["retry_ms"].as_u64().unwrap()));
    let refused = world.refused(world.upgrade(&world.secret)).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn heartbeats_and_pings_are_answered_and_the_unknown_ignored() {
    let world = World::new().await;
    let mut phone = world.connect().await;
    phone.is_quiet().await;
    phone.0.send(Message::Ping("hb".into())).await.unwrap();
    assert_eq!(phone.next().await, Message::Pong("hb".into()));
    phone.say(json!({"resume": null, "net": {"type": "lte"}, "tomorrow": 1})).await;
    phone.say(json!({"acks": ["msg_unknown"]})).await;
    phone.is_quiet().await;
}

#[tokio::test]
async fn receipts_come_over_the_socket_too() {
    let world = World::new().await;
    let id = world.send(1).await;
    let mut phone = world.connect().await;
    phone.message().await;
    phone.say(json!({"receipt": {"message_id": id, "event": "clicked", "at": "2027-01-15T08:00:00Z"}})).await;
    world.until_named(&id, State::Clicked).await;
    phone.is_quiet().await;
}

#[tokio::test]
async fn a_ticket_opens_a_socket_for_a_page_of_ours_only() {
    let world = World::new().await;
    let (_, answer) = world.request("POST", "/v1/device/ticket", None).await;
    let ticket = answer["ticket"].as_str().unwrap();
    let request = |origin: &str| {
        let url = format!("ws://{}/v1/device/socket?ticket={ticket}", world.address);
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("origin", origin.parse().unwrap());
        request.headers_mut().insert("sec-websocket-protocol", "other, anypush.v1".parse().unwrap());
        request
    };
    let refused = world.refused(request("https://evil.example")).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let own = format!("http://{}", world.address);
    let (_socket, response) = connect_async(request(&own)).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "anypush.v1");
    assert!(!response.headers().contains_key("sec-websocket-extensions"));
    assert_eq!(world.refused(request(&own)).await.status(), StatusCode::UNAUTHORIZED, "used up");
}

#[tokio::test]
async fn a_subprotocol_is_echoed_only_if_it_was_offered() {
    let world = World::new().await;
    let (_socket, response) = connect_async(world.upgrade(&world.secret)).await.unwrap();
    assert!(!response.headers().contains_key("sec-websocket-protocol"));
}

#[tokio::test]
async fn broken_rules_end_the_connection_with_the_code_that_says_which() {
    let world = World::new().await;
    for (frame, code) in [
        (Message::text("x".repeat(70_000)), 1009),
        (Message::text("no json"), 1008),
        (Message::text(r#"{"ack": "no cursor"}"#), 1008),
        (Message::binary(vec![0]), 1008),
    ] {
        let mut phone = world.connect().await;
        phone.0.send(frame.clone()).await.unwrap();
        assert_eq!(phone.end().await.1, code, "{}", frame.len());
    }
    // Frames that no decent client sends: unmasked text, a reserved bit, a ping of 126 bytes, 2^63 bytes, bad UTF-8.
    let masked = |head: &[u8], body: &[u8]| [head, &[0, 0, 0, 0], body].concat();
    let huge = [&[0x81, 0xff][..], &(1u64 << 63).to_be_bytes(), &[0, 0, 0, 0]].concat();
    for (bytes, code) in [
        (vec![0x81, 2, b'{', b'}'], 1002),
        (masked(&[0xc1, 0x82], b"{}"), 1002),
        (masked(&[0x89, 0xfe, 0, 126], &[0; 126]), 1002),
        (huge, 1009),
        (masked(&[0x81, 0x81], &[0xff]), 1007),
    ] {
        assert_eq!(raw(&world, &bytes).await, code, "{:x?}", &bytes[..2]);
    }
    world.connected(0).await;
}

/// Sends bytes after the handshake; the code with which the server closes.
async fn raw(world: &World, bytes: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "GET /v1/device/socket HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        world.address, world.secret
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while !read.windows(7).any(|w| w == b"\"hello\"") {
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0);
    }
    stream.write_all(bytes).await.unwrap();
    let rest = async { while stream.read_buf(&mut read).await.is_ok_and(|n| n > 0) {} };
    timeout(Duration::from_secs(5), rest).await.expect("the server closes");
    // The close frame is the last one: 0x88, a length, the code.
    let at = read.iter().rposition(|byte| *byte == 0x88).expect("a close frame");
    u16::from_be_bytes([read[at + 2], read[at + 3]])
}
