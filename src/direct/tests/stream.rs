//! Streams of server-sent events: the same inbox, read by somebody who says nothing on the line.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, Request, StatusCode};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;
use tower::ServiceExt as _;

use super::World;
use crate::api;
use crate::delivery::state::State;
use crate::direct::session::{ACK_LATE_MS, WINDOW};
use crate::direct::stream::UNSAID;
use crate::direct::tuning::WRITE_BLOCKED;
use crate::direct::{cursor, secret};
use crate::ids::Kind;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// What a stream says between two empty lines, as a client sees it.
#[derive(Debug, Clone, Default, PartialEq)]
struct Told {
    id: Option<String>,
    event: String,
    data: Value,
    retry: Option<u64>,
    comment: bool,
}

impl Told {
    fn number(&self) -> usize {
        assert_eq!(self.event, "message", "{self:?}");
        assert_eq!(self.data["cursor"].as_str(), self.id.as_deref(), "the id is the cursor");
        self.data["data"]["n"].as_str().unwrap().parse().unwrap()
    }
}

struct Stream {
    body: BodyDataStream,
    text: String,
}

impl Stream {
    /// `None`: it has ended.
    async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let mut told = Told::default();
                for line in block.lines() {
                    match line.split_once(": ").unwrap() {
                        ("id", id) => told.id = Some(id.to_owned()),
                        ("event", name) => told.event = name.to_owned(),
                        ("data", data) => told.data = serde_json::from_str(data).unwrap(),
                        ("retry", ms) => told.retry = Some(ms.parse().unwrap()),
                        ("", "hb") => told.comment = true,
                        other => panic!("{other:?}"),
                    }
                }
                self.text = rest.to_owned();
                return Some(told);
            }
            let bytes = timeout(PATIENCE, self.body.next()).await.expect("something in time")?.unwrap();
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    async fn told(&mut self) -> Told {
        self.next().await.expect("the stream goes on")
    }

    /// What is left of it up to its end.
    async fn rest(&mut self) -> Vec<Told> {
        let mut rest = Vec::new();
        while let Some(told) = self.next().await {
            rest.push(told);
        }
        rest
    }
}

impl World {
    async fn answer(&self, query: &str, headers: &[(&str, &str)]) -> axum::response::Response {
        let mut request = Request::builder().uri(format!("/v1/device/events{query}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        api::router(&self.gateway).oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    async fn open(&self, after: Option<&str>) -> axum::response::Response {
        let bearer = format!("Bearer {}", self.secret);
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(after.map(|after| ("last-event-id", after)));
        self.answer("", &headers).await
    }

    /// A stream that has said hello.
    async fn listen(&self, after: Option<&str>) -> Stream {
        let answer = self.open(after).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let mut stream = Stream { body: answer.into_body().into_data_stream(), text: String::new() };
        assert_eq!(stream.told().await.retry, Some(5000));
        let hello = stream.told().await;
        assert_eq!((hello.event.as_str(), hello.data["cursor"].as_str()), ("hello", hello.id.as_deref()));
        assert_eq!(hello.data["heartbeat"]["interval"], 270);
        if let Some(after) = after {
            assert_eq!(hello.id.as_deref(), Some(after), "nobody is put back");
        }
        stream
    }

    async fn ack(&self, body: Value) -> Value {
        let (status, answer) = self.request("POST", "/v1/device/ack", Some(body)).await;
        assert_eq!(status, StatusCode::OK);
        answer["acknowledged"].clone()
    }
}

impl World {
    /// Turns the clock of waiting tasks, once the stream waits for nothing but time.
    async fn later(&self, time: Duration) {
        let idle = async {
            loop {
                let window = self.gateway.hub.window(self.device.seq).expect("a stream");
                // Nothing is being read for it, also after everybody else has had a turn.
                let before = window.with(|session| session.wants().is_none());
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                if before && window.with(|session| session.wants().is_none()) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, idle).await.expect("the stream comes to rest");
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn what_waits_comes_in_order_what_is_new_at_once_and_coming_again_acknowledges() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(world.send(n).await);
    }
    let answer = world.open(None).await;
    assert_eq!(header(answer.headers(), "content-type"), Some("text/event-stream"));
    assert_eq!(header(answer.headers(), "cache-control"), Some("no-store"));
    assert_eq!(header(answer.headers(), "x-accel-buffering"), Some("no"));
    drop(answer);
    let mut stream = world.listen(None).await;
    let mut last = Told::default();
    for (n, id) in ids.iter().enumerate() {
        last = stream.told().await;
        assert_eq!((last.number(), last.data["id"].as_str()), (n, Some(id.as_str())));
    }
    ids.push(world.send(3).await);
    assert_eq!(stream.told().await.number(), 3);
    assert_eq!(world.gateway.hub.connected(), 1);
    drop(stream);
    world.connected(0).await;
    assert_eq!(
        world.state(world.gateway.codec.decode(Kind::Message, &ids[0]).unwrap()).await,
        Some(State::Accepted)
    );
    // The third was the last that the phone kept: the fourth comes again under its old name and place.
    let mut again = world.listen(last.id.as_deref()).await;
    let fourth = again.told().await;
    assert_eq!((fourth.number(), fourth.data["id"].as_str()), (3, Some(ids[3].as_str())));
    for id in &ids[..3] {
        world.until_named(id, State::Delivered).await;
    }
    assert_eq!(world.ack(json!({"cursor": fourth.id})).await, 1);
    drop(again);
    let mut third = world.listen(fourth.id.as_deref()).await;
    world.send(4).await;
    assert_eq!(third.told().await.number(), 4, "what was acknowledged comes no more");
}

#[tokio::test]
async fn a_phone_that_acknowledges_by_requests_keeps_its_stream_and_gets_a_windowful_at_a_time() {
    let world = World::new().await;
    world.send(0).await;
    let mut stream = world.listen(None).await;
    let first = stream.told().await;
    assert_eq!(world.ack(json!({"messages": [first.data["id"]]})).await, 1);
    for n in 1..=2 * WINDOW {
        world.send(n).await;
    }
    let mut last = Told::default();
    for n in 1..=WINDOW {
        last = stream.told().await;
        assert_eq!(last.number(), n);
    }
    // One receipt is one place: what comes next is the one after the window, and then none until there is room.
    let shown = json!([{"message_id": last.data["id"], "event": "displayed"}]);
    world.request("POST", "/v1/device/receipts", Some(shown)).await;
    assert_eq!(stream.told().await.number(), WINDOW + 1);
    world.gateway.tasks.stop();
    let rest = stream.rest().await;
    assert_eq!(rest.len(), 1, "nothing but when to come again: {rest:?}");
}

#[tokio::test]
async fn who_says_nothing_gets_a_hundred_and_the_rest_after_coming_again() {
    let world = World::new().await;
    for n in 0..UNSAID + 5 {
        world.send(n).await;
    }
    let mut stream = world.listen(None).await;
    let mut told = stream.rest().await;
    let end = told.pop().unwrap();
    assert_eq!((end.retry, end.event.as_str()), (Some(500), ""));
    assert_eq!(told.iter().map(Told::number).collect::<Vec<_>>(), (0..UNSAID).collect::<Vec<_>>());
    world.connected(0).await;
    let mut again = world.listen(told.last().unwrap().id.as_deref()).await;
    for n in UNSAID..UNSAID + 5 {
        assert_eq!(again.told().await.number(), n);
    }
}

#[tokio::test]
async fn an_acknowledgement_that_is_late_ends_the_stream_so_that_it_comes_with_the_next() {
    let world = World::new().await;
    let id = world.send(1).await;
    let mut stream = world.listen(None).await;
    let told = stream.told().await;
    world.later(Duration::from_millis(ACK_LATE_MS + 1)).await;
    let end = stream.rest().await;
    assert_eq!(end.iter().map(|told| told.retry).collect::<Vec<_>>(), [Some(500)]);
    assert!(!world.gateway.hub.is_connected(world.device.seq), "whoever owes counts as not connected");
    let _again = world.listen(told.id.as_deref()).await;
    world.until_named(&id, State::Delivered).await;
}

#[tokio::test]
async fn a_quiet_stream_shows_that_it_lives() {
    let world = World::new().await;
    let mut stream = world.listen(None).await;
    for _ in 0..2 {
        world.later(Duration::from_secs(270)).await;
        assert!(stream.told().await.comment);
    }
    world.send(1).await;
    assert_eq!(stream.told().await.number(), 1);
}

#[tokio::test]
async fn the_newest_connection_of_any_kind_wins_and_the_older_one_is_told_to_stay_away() {
    let world = World::new().await;
    let mut old = world.listen(None).await;
    let wrong = format!("Bearer {}", secret::make(world.device.username.as_deref()).secret);
    let refused = world.answer("", &[("authorization", &wrong)]).await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let mut new = world.listen(None).await;
    let end = old.rest().await;
    assert_eq!((end.len(), end[0].event.as_str(), end[0].retry), (1, "superseded", Some(300_000)));
    world.send(1).await;
    let told = new.told().await;
    assert_eq!((told.number(), world.gateway.hub.connected()), (1, 1));
    let poll = world.poll(&format!("?wait_seconds=1&after={}", told.id.unwrap())).await;
    assert_eq!(poll["messages"], json!([]));
    assert_eq!(new.rest().await[0].event, "superseded");
}

#[tokio::test]
async fn a_revoked_secret_ends_the_stream() {
    let world = World::new().await;
    let mut stream = world.listen(None).await;
    secret::issue(&world.gateway, world.app, "phone-1").await.unwrap().unwrap();
    let end = stream.rest().await;
    assert_eq!((end.len(), end[0].event.as_str()), (1, "revoked"));
    assert_eq!(world.open(None).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_stop_says_when_to_come_again_and_takes_nobody_new() {
    let world = World::new().await;
    let mut stream = world.listen(None).await;
    world.gateway.tasks.stop();
    let end = stream.rest().await;
    assert_eq!(end.len(), 1);
    assert!((1_000..30_000).contains(&end[0].retry.unwrap()));
    assert_eq!(world.open(None).await.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_recalled_message_is_taken_off_the_screen() {
    let world = World::new().await;
    let id = world.send(1).await;
    let mut stream = world.listen(None).await;
    stream.told().await;
    let message = world.gateway.codec.decode(Kind::Message, &id).unwrap();
    assert_eq!(world.gateway.hub.recall([world.device.seq], message).len(), 1);
    let told = stream.told().await;
    assert_eq!((told.event.as_str(), &told.data, told.id), ("recall", &json!({"id": id}), None));
}

#[tokio::test]
async fn who_takes_nothing_for_a_minute_gives_up_its_seat_and_loses_nothing() {
    let world = World::new().await;
    world.send(1).await;
    // Nobody reads: the hello fills the channel, and the message finds no room.
    let held = world.open(None).await;
    world.connected(1).await;
    world.later(WRITE_BLOCKED + Duration::from_millis(1)).await;
    world.connected(0).await;
    assert_eq!(world.listen(None).await.told().await.number(), 1);
    drop(held);
}

#[tokio::test]
async fn cursors_of_others_are_refused_and_those_of_an_older_epoch_acknowledge_nothing() {
    let mut world = World::new().await;
    let bearer = format!("Bearer {}", world.secret);
    let foreign = cursor::encode(world.device.seq + 1, world.device.epoch, 1);
    for (query, after) in
        [("", "nonsense"), ("", foreign.as_str()), ("?after=nonsense", ""), ("?colour=red", "")]
    {
        let headers = [("authorization", bearer.as_str()), ("last-event-id", after)];
        let refused = world.answer(query, &headers).await;
        assert!(refused.status().is_client_error(), "{query} {after}: {}", refused.status());
    }
    assert_eq!(world.gateway.hub.connected(), 0, "who is refused takes nobody's seat");
    world.send(1).await;
    let told = world.listen(None).await.told().await;
    let (_, secret) = secret::issue(&world.gateway, world.app, "phone-1").await.unwrap().unwrap();
    world.secret = secret;
    let answer = world.open(told.id.as_deref()).await;
    let mut stream = Stream { body: answer.into_body().into_data_stream(), text: String::new() };
    stream.told().await;
    assert_ne!(stream.told().await.id, told.id, "it begins anew");
    assert_eq!(stream.told().await.number(), 1);
}

#[tokio::test]
async fn a_page_comes_with_a_ticket_and_from_an_origin_that_may() {
    let world = World::new().await;
    world.send(1).await;
    let (_, answer) = world.request("POST", "/v1/device/ticket", None).await;
    let query = format!("?ticket={}", answer["ticket"].as_str().unwrap());
    let evil = [("host", "push.example"), ("origin", "https://evil.example")];
    let refused = world.answer(&query, &evil).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(header(refused.headers(), "access-control-allow-origin"), None);
    let own = [("host", "push.example"), ("origin", "https://push.example")];
    let opened = world.answer(&query, &own).await;
    assert_eq!(opened.status(), StatusCode::OK, "the refusal used up no ticket");
    assert_eq!(header(opened.headers(), "access-control-allow-origin"), Some("https://push.example"));
    let mut stream = Stream { body: opened.into_body().into_data_stream(), text: String::new() };
    stream.told().await;
    stream.told().await;
    let told = stream.told().await;
    assert_eq!(told.number(), 1);
    assert_eq!(world.answer(&query, &own).await.status(), StatusCode::UNAUTHORIZED, "used up");
    // A page cannot set the header when it opens a stream anew: the parameter says the same.
    let (_, answer) = world.request("POST", "/v1/device/ticket", None).await;
    let query = format!("?after={}&ticket={}", told.id.unwrap(), answer["ticket"].as_str().unwrap());
    assert_eq!(world.answer(&query, &own).await.status(), StatusCode::OK);
    world.until_named(told.data["id"].as_str().unwrap(), State::Delivered).await;
}
