//! Live events through the real binary.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::api_webhooks::fits;
use crate::trouble::{phone, to_phone};
use crate::world::{PATIENCE, World};

/// An open stream.
pub(crate) struct Live {
    answer: Response,
    text: String,
}

/// A message of a stream: id, name, data.
pub(crate) type Told = (String, String, Value);

pub(crate) async fn open(world: &World, key: &str, query: &str, after: Option<&str>) -> Response {
    let mut request = world.http.get(format!("{}/v1/events{query}", world.url)).bearer_auth(key);
    if let Some(after) = after {
        request = request.header("Last-Event-ID", after);
    }
    request.send().await.unwrap()
}

pub(crate) async fn live(world: &World, key: &str, query: &str, after: Option<&str>) -> Live {
    let answer = open(world, key, query, after).await;
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    crate::contract::called(&Method::GET, "/v1/events");
    let mut live = Live { answer, text: String::new() };
    // Its first words: from here on nothing is missed.
    while !live.text.contains("retry: 3000\n\n") {
        live.read().await.expect("a stream begins");
    }
    live.text = live.text.replace("retry: 3000\n\n", "");
    live
}

impl Live {
    async fn read(&mut self) -> Option<()> {
        let some =
            tokio::time::timeout(PATIENCE, self.answer.chunk()).await.expect("a stream says something");
        self.text.push_str(std::str::from_utf8(&some.ok()??).unwrap());
        Some(())
    }

    /// The next message; `None`: it has ended.
    pub(crate) async fn next(&mut self) -> Option<Told> {
        loop {
            let Some((message, rest)) = self.text.split_once("\n\n") else {
                self.read().await?;
                continue;
            };
            let (message, rest) = (message.to_owned(), rest.to_owned());
            self.text = rest;
            let field = |name: &str| {
                let line = message.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
                line.unwrap_or_default().to_owned()
            };
            if !message.starts_with(':') {
                return Some((field("id"), field("event"), serde_json::from_str(&field("data")).unwrap()));
            }
        }
    }

    async fn some(&mut self, n: usize) -> Vec<Told> {
        let mut all = Vec::new();
        while all.len() < n {
            all.push(self.next().await.expect("the stream goes on"));
        }
        all
    }
}

fn names(told: &[Told]) -> Vec<&str> {
    told.iter().map(|(_, name, _)| name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_is_told_at_once_and_a_reader_that_comes_back_misses_nothing() {
    let mut world = World::start().await;
    phone(&world, "ok-phone").await;
    let mut first = live(&world, &world.api_key, "", None).await;
    let id = world.send(to_phone()).await;
    let told = first.some(2).await;
    assert_eq!(names(&told), ["delivery.accepted", "message.done"]);
    for (id, name, event) in &told {
        assert_eq!((&event["id"], &event["type"]), (&json!(id), &json!(name)));
        fits(event);
    }
    assert_eq!(told[1].2["data"]["message_id"], json!(id));
    drop(first);
    // Gone for a while, over a restart too.
    let missed = world.send(to_phone()).await;
    world.done(&missed).await;
    world.stop_gateway();
    world.start_gateway().await;
    let mut back = live(&world, &world.api_key, "", Some(&told[0].0)).await;
    let more = back.some(3).await;
    assert_eq!(more[0], told[1], "the same event, word for word");
    assert_eq!(names(&more[1..]), ["delivery.accepted", "message.done"]);
    assert_eq!(more[2].2["data"]["message_id"], json!(missed));
    let ids: BTreeSet<_> = more.iter().map(|(id, ..)| id).collect();
    assert_eq!(ids.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_gets_what_it_asks_for_and_hears_of_a_gap() {
    let world = World::start().await;
    phone(&world, "ok-phone").await;
    // A webhook of one kind: the journal has that alone until somebody reads live.
    let hook = json!({"url": "https://backend.example/", "events": ["message.done"]});
    let path = format!("/v1/apps/{}/webhooks", world.app_id);
    let made = world.api(Method::POST, &path, Some(hook)).await;
    assert_eq!(made.status.as_u16(), 201, "{:#}", made.body);
    world.done(&world.send(to_phone()).await).await;
    let attempts = format!("{path}/{}/attempts", made.body["id"].as_str().unwrap());
    let until = Instant::now() + PATIENCE;
    let event = loop {
        let tried = world.api(Method::GET, &attempts, None).await.body;
        if let Some(event) = tried["data"][0]["event_id"].as_str() {
            break event.to_owned();
        }
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    world.done(&world.send(to_phone()).await).await;
    // Of the second message only its end was written down: a reader that was at the first one's is told so.
    let mut back = live(&world, &world.api_key, "", Some(&event)).await;
    let told = back.some(2).await;
    assert_eq!(names(&told), ["stream.gap", "message.done"]);
    assert_eq!(told[0].2["after"], json!(event));
    let mut labelled = live(&world, &world.api_key, "?label=mine&types=message.done", None).await;
    world.done(&world.send(to_phone()).await).await;
    let mut message = to_phone();
    message["label"] = json!("mine");
    let mine = world.send(message).await;
    let told = labelled.some(1).await;
    assert_eq!((names(&told), &told[0].2["data"]["message_id"]), (vec!["message.done"], &json!(mine)));
    let mut one = live(&world, &world.api_key, &format!("?message_id={mine}"), Some(&event)).await;
    let told = one.some(3).await;
    assert_eq!(names(&told), ["stream.gap", "delivery.accepted", "message.done"]);
    for (query, after) in [("?types=message.lost", None), ("?colour=red", None), ("", Some("evt_nonsense"))] {
        let refused = open(&world, &world.api_key, query, after).await;
        assert!(refused.status().is_client_error(), "{query}");
    }
}

/// A5: nothing of one app is told to another, whatever it asks for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_tells_nothing_of_another_app() {
    let world = World::start().await;
    phone(&world, "ok-phone").await;
    let (_, other_key) = world.new_app("other").await;
    let mut own = live(&world, &world.api_key, "", None).await;
    let mut other = live(&world, &other_key, "", None).await;
    let id = world.send(to_phone()).await;
    let told = own.some(2).await;
    let mut asked = live(&world, &other_key, &format!("?message_id={id}"), Some(&told[0].0)).await;
    // Something of its own, so that the silence before it means something.
    let body = json!({"to": {"device_ids": ["nobody"]}, "data": {"a": "b"}});
    let sent = world.call(&other_key, Method::POST, "/v1/messages", Some(body)).await;
    let seen = other.some(2).await;
    assert!(seen.iter().all(|(.., event)| event["data"]["message_id"] == sent.body["id"]), "{seen:#?}");
    let gap = tokio::time::timeout(Duration::from_secs(2), asked.next()).await;
    assert!(gap.is_err() || names(&[gap.unwrap().unwrap()]) == ["stream.gap"]);
}

/// A8.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_within_a_second_of_its_key() {
    let world = World::start().await;
    let path = format!("/v1/apps/{}/keys", world.app_id);
    let body = json!({"name": "reader", "scopes": ["reports:read"]});
    let key = world.call(&world.admin_key, Method::POST, &path, Some(body)).await.body;
    let mut stream = live(&world, key["key"].as_str().unwrap(), "", None).await;
    let path = format!("{path}/{}", key["id"].as_str().unwrap());
    world.call(&world.admin_key, Method::DELETE, &path, None).await;
    let revoked = Instant::now();
    let (_, name, data) = stream.next().await.expect("a last word");
    assert_eq!((name.as_str(), &data["reason"]), ("stream.end", &json!("key_revoked")));
    assert!(stream.next().await.is_none(), "and nothing after it");
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    let without = json!({"name": "sender", "scopes": ["messages:write"]});
    let path = format!("/v1/apps/{}/keys", world.app_id);
    let key = world.call(&world.admin_key, Method::POST, &path, Some(without)).await.body;
    let refused = open(&world, key["key"].as_str().unwrap(), "", None).await;
    assert_eq!(refused.status().as_u16(), 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_says_that_the_gateway_stops_and_an_app_has_so_many() {
    let mut world = World::start().await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(live(&world, &world.api_key, "", None).await);
    }
    let refused = open(&world, &world.api_key, "", None).await;
    assert_eq!(refused.status().as_u16(), 429);
    drop(streams.split_off(1));
    let until = Instant::now() + PATIENCE;
    while !open(&world, &world.api_key, "", None).await.status().is_success() {
        assert!(Instant::now() < until, "who has gone makes room");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut stream = streams.remove(0);
    world.tell_to_stop();
    let (_, name, data) = stream.next().await.expect("a last word");
    assert_eq!((name.as_str(), &data["reason"]), ("stream.end", &json!("stopping")));
    assert!(world.stop_gateway().success());
}
