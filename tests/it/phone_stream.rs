//! A phone on a stream of server-sent events, through the real binary: it listens, the line breaks, and nothing is lost.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::contract;
use crate::ledger::{self, Bounds};
use crate::sending::direct_device;
use crate::world::{PATIENCE, World};

/// A stream, and what the phone keeps of it.
struct Phone {
    answer: Response,
    text: String,
    /// What an app stores: ids that it has shown, and how far it is.
    shown: Vec<String>,
    at: Option<String>,
}

impl Phone {
    async fn listen(world: &World, secret: &str, before: Option<Self>) -> Self {
        let (shown, at) = before.map(|phone| (phone.shown, phone.at)).unwrap_or_default();
        let mut request = world.http.get(format!("{}/v1/device/events", world.url)).bearer_auth(secret);
        if let Some(at) = &at {
            request = request.header("Last-Event-ID", at);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        assert!(answer.headers().contains_key("Request-Id"));
        contract::called(&Method::GET, "/v1/device/events");
        Self { answer, text: String::new(), shown, at }
    }

    /// Takes one event; `false`: the line is broken.
    async fn take(&mut self) -> bool {
        let block = loop {
            if let Some(end) = self.text.find("\n\n") {
                let rest = self.text.split_off(end + 2);
                break std::mem::replace(&mut self.text, rest);
            }
            let some = tokio::time::timeout(PATIENCE, self.answer.chunk()).await.expect("something in time");
            let Ok(Some(bytes)) = some else { return false };
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        };
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        if let Some(id) = field("id: ") {
            self.at = Some(id);
        }
        if field("event: ").as_deref() == Some("message") {
            let message: Value = serde_json::from_str(&field("data: ").unwrap()).unwrap();
            let id = message["id"].as_str().unwrap().to_owned();
            if !self.shown.contains(&id) {
                self.shown.push(id);
            }
        }
        true
    }
}

impl Phone {
    /// Reads until all of these were shown, and comes again where the gateway asks for it.
    async fn until_shown(mut self, world: &World, secret: &str, wanted: &[String]) -> Self {
        while !wanted.iter().all(|id| self.shown.contains(id)) {
            if !self.take().await {
                self = Self::listen(world, secret, Some(self)).await;
            }
        }
        self
    }
}

/// Sends so many messages to the phone, at the same time; those that were answered with 202.
async fn send(world: &World, count: usize) -> Vec<String> {
    let message =
        json!({"to": {"device_ids": ["phone"]}, "data": {"a": "b"}, "route": {"steps": [{"use": "direct"}]}});
    let sends = (0..count).map(|_| {
        world
            .http
            .post(format!("{}/v1/messages", world.url))
            .bearer_auth(&world.api_key)
            .json(&message)
            .send()
    });
    let mut accepted = Vec::new();
    for answer in futures_util::future::join_all(sends).await {
        let Ok(answer) = answer else {
            world.book.unanswered();
            continue;
        };
        let status = answer.status();
        let Ok(body) = answer.json::<Value>().await else {
            world.book.unanswered();
            continue;
        };
        world.book.answered(status, &body);
        if status.as_u16() == 202 {
            accepted.push(body["id"].as_str().unwrap().to_owned());
        }
    }
    accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_accepted_is_lost_when_the_gateway_is_killed_under_a_stream() {
    let mut world = World::start().await;
    world.put_devices(vec![("phone".into(), direct_device())]).await;
    let secret = world.device_secrets(&["phone".into()]).await.remove(0);
    let mut accepted = send(&world, 5).await;
    let mut phone = Phone::listen(&world, &secret, None).await;
    for round in 1..=3 {
        phone = phone.until_shown(&world, &secret, &accepted).await;
        let (more, after) = tokio::join!(send(&world, 30), async {
            let wanted = phone.shown.len() + 3 * round;
            while phone.shown.len() < wanted {
                assert!(phone.take().await, "the line broke by itself");
            }
            kill(&world);
            while phone.take().await {}
            phone
        });
        accepted.extend(more);
        world.kill_gateway();
        world.start_gateway().await;
        phone = Phone::listen(&world, &secret, Some(after)).await;
    }
    phone = phone.until_shown(&world, &secret, &accepted).await;
    // The last of them are acknowledged by coming again.
    let _again = Phone::listen(&world, &secret, Some(phone)).await;
    for id in &accepted {
        world.until(id, |m| m["counts"]["now"]["delivered"] == 1).await;
    }
    assert!(world.stop_gateway().success());
    ledger::check(&world, Bounds { crashes: 3, ..Bounds::default() }).await;
}

/// Kills the gateway while others still use the world.
fn kill(world: &World) {
    let pid = world.gateway_pid().to_string();
    assert!(std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
}
