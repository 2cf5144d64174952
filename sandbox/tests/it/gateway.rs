//! A gateway of few lines, to see what the played phones say to it.

use std::sync::{Arc, Mutex};

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// What the phones said, and what they are to be given.
#[derive(Default)]
pub(crate) struct Desk {
    /// Authorization, path and content of everything that came.
    pub(crate) heard: Mutex<Vec<Value>>,
    /// Messages, from position 1 on.
    inbox: Mutex<Vec<Value>>,
    came: Notify,
    hang_up: Notify,
}

impl Desk {
    /// Starts it; its end is that of the set.
    pub(crate) async fn open(tasks: &mut JoinSet<()>) -> (Arc<Self>, String) {
        let desk = Arc::new(Self::default());
        let router = Router::new()
            .route("/v1/device/socket", get(socket))
            .route("/v1/device/messages", get(messages))
            .route("/v1/device/receipts", post(receipts))
            .with_state(desk.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        (desk, url)
    }

    /// Puts a message into the inbox.
    pub(crate) fn send(&self, id: &str, title: &str) {
        let mut inbox = self.inbox.lock().unwrap();
        let pos = inbox.len() + 1;
        inbox.push(json!({
            "id": id, "pos": pos, "cursor": format!("e1.{pos}"), "class": "transactional",
            "notification": {"title": title, "body": "b", "click": {"open": "app"}}, "data": {"k": "v"},
            "expires_at": "2030-01-01T00:00:00Z", "added_by_a_later_gateway": true,
        }));
        drop(inbox);
        self.came.notify_waiters();
    }

    /// Ends all sockets without a word.
    pub(crate) fn hang_up(&self) {
        self.hang_up.notify_waiters();
    }

    pub(crate) fn has_heard(&self, what: &Value) -> usize {
        self.heard.lock().unwrap().iter().filter(|heard| &heard["said"] == what).count()
    }

    fn hear(&self, path: &str, said: &Value) {
        self.heard.lock().unwrap().push(json!({"path": path, "said": said}));
    }

    fn after(&self, pos: usize) -> Vec<Value> {
        self.inbox.lock().unwrap().iter().skip(pos).cloned().collect()
    }
}

fn assert_authorised(headers: &HeaderMap) {
    assert_eq!(headers["authorization"], "Bearer aps_secret");
}

async fn socket(State(desk): State<Arc<Desk>>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    assert_authorised(&headers);
    upgrade.protocols(["anypush.v1"]).on_upgrade(move |socket| async move {
        let _ = talk(&desk, socket).await;
    })
}

async fn talk(desk: &Desk, mut socket: WebSocket) -> Result<(), axum::Error> {
    let hello = json!({"hello": {"cursor": "e1.0", "heartbeat": {"interval": 1, "max": 1680, "grace": 30}, "server": "n1"}});
    socket.send(Message::text(hello.to_string())).await?;
    // Everything is given again on each connection: acknowledging is what a gateway judges, not this desk.
    let mut given = 0;
    loop {
        let came = desk.came.notified();
        for message in desk.after(given) {
            given += 1;
            socket.send(Message::text(json!({"msg": message}).to_string())).await?;
        }
        tokio::select! {
            () = came => {}
            () = desk.hang_up.notified() => return Ok(()),
            frame = socket.recv() => match frame {
                Some(Ok(Message::Text(text))) => {
                    let said: Value = serde_json::from_str(&text).unwrap();
                    if said == json!({}) {
                        socket.send(Message::text("{}")).await?;
                    }
                    desk.hear("socket", &said);
                }
                Some(Ok(_)) => {}
                _ => return Ok(()),
            },
        }
    }
}

#[derive(serde::Deserialize)]
struct Poll {
    after: Option<String>,
    wait_seconds: u64,
}

async fn messages(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
    Query(poll): Query<Poll>,
) -> Json<Value> {
    assert_authorised(&headers);
    assert_eq!(poll.wait_seconds, 25);
    desk.hear("messages", &json!({"after": poll.after}));
    let pos = poll.after.as_deref().and_then(|after| after.strip_prefix("e1.")?.parse().ok()).unwrap_or(0);
    let came = desk.came.notified();
    if desk.after(pos).is_empty() {
        came.await;
    }
    let messages = desk.after(pos);
    Json(json!({"messages": messages, "cursor": format!("e1.{}", pos + messages.len()), "more": false}))
}

async fn receipts(State(desk): State<Arc<Desk>>, headers: HeaderMap, Json(mut said): Json<Value>) {
    assert_authorised(&headers);
    assert!(said[0]["at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    said[0].as_object_mut().unwrap().remove("at");
    desk.hear("receipts", &said);
}
