//! A second app cannot see a byte of the first, nor change one, whatever it asks for.
//!
//! The first app's texts hold a marker that the second never sends, and its things have names and ids that the second
//! knows. The second calls every operation of `openapi.yaml` in random order, with these names, ids and cursors in every
//! place, and reads its live events and its webhook all the while. A third app does nothing, and must see nothing happen.
//!
//! `ANYPUSH_SEED` gives the calls of an earlier run again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::prelude::*;
use rand::rngs::StdRng;
use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::api_webhooks::Backend;
use crate::contract::FILE;
use crate::world::{PATIENCE, World};

/// How long random calls go on, after each operation was called [`EACH`] times.
const TIME: Duration = Duration::from_secs(8);
const EACH: usize = 4;

/// Names and ids, by what they are of.
type Bag = HashMap<&'static str, Vec<String>>;

/// One of the apps.
struct App {
    id: String,
    key: String,
    /// A phone's.
    secret: String,
    bag: Bag,
}

/// What only the first app's own texts hold. It may stand in names of channels.
fn marker(random: &mut StdRng) -> String {
    format!("zq{:016x}", random.random::<u64>())
}

impl App {
    /// Makes an app with one of everything. `text` stands in all its texts, `shared` in names that others may know.
    async fn make(world: &World, text: &str, shared: &str, hook: &str) -> Self {
        let (id, key) = world.new_app(&format!("app-{text}")).await;
        let at = |rest: &str| format!("/v1/apps/{id}/{rest}");
        let mut bag = Bag::from([("app", vec![id.clone()])]);
        for (name, project) in
            [("fcm".to_owned(), format!("p-{text}")), (text.to_owned(), format!("q-{text}"))]
        {
            let put = world.put_fcm_channel(&id, &name, &project).await;
            assert!(put.status.is_success(), "{}", put.body);
            bag.entry("channel_id").or_default().push(text_of(&put.body["id"]));
        }
        let category =
            json!({"class": "transactional", "providers": {"fcm": {"channel_id": format!("c-{text}")}}});
        let rules = json!({"rules": [{"name": text, "match": {"categories": ["order"]}, "steps": [{"use": "direct"}, {"use": "fcm"}]}]});
        let device = |tag: &str| {
            json!({
                "user_id": format!("user-{shared}"), "platform": "android", "model": text, "tags": [tag, text],
                "attributes": {"level": text, text: 1},
                "addresses": [{"provider": "fcm", "token": format!("ok-{tag}")}, {"provider": "fcm", "token": format!("ok-{tag}-{text}")}],
            })
        };
        let webhook =
            json!({"url": format!("{hook}/{text}"), "events": ["message.done", "delivery.accepted"]});
        let puts = [
            (Method::PUT, at("categories/order"), category.clone()),
            (Method::PUT, at(&format!("categories/{text}")), category),
            (Method::PUT, at("routes"), rules),
            (Method::PUT, format!("/v1/devices/dev-{shared}"), device(&format!("tag-{shared}"))),
            (Method::PUT, format!("/v1/devices/dev-{text}"), device(&format!("tag2-{shared}"))),
            (Method::POST, at("webhooks"), webhook),
            (Method::POST, at("registration_keys"), json!({"name": text, "algorithm": "HS256"})),
        ];
        for (method, path, body) in puts {
            let made = world.call(&key, method, &path, Some(body)).await;
            assert!(made.status.is_success(), "{path}: {:#}", made.body);
            let kind = if path.ends_with("webhooks") { "webhook" } else { "registration_key" };
            if let Some(id) = made.body["id"].as_str().filter(|_| made.status == 201) {
                bag.entry(kind).or_default().push(id.to_owned());
            }
        }
        let path = format!("/v1/devices/dev-{shared}/secret");
        let made = world.call(&key, Method::POST, &path, None).await;
        let secret = text_of(&made.body["secret"]);
        let more = [
            ("device", format!("dev-{shared}")),
            ("user", format!("user-{shared}")),
            ("tag", format!("tag-{shared}")),
            ("token", format!("ok-tag-{shared}")),
            ("label", format!("label-{shared}")),
            ("channel", "fcm".to_owned()),
            ("category", "order".to_owned()),
            ("text", format!("word-{shared}")),
            ("key", key.split('_').nth(2).unwrap()[..8].to_owned()),
        ];
        for (kind, name) in more {
            bag.entry(kind).or_default().push(name);
        }
        let mut app = Self { id, key, secret, bag };
        app.send(world, text, shared).await;
        app
    }

    /// Sends some messages and waits until they are done.
    async fn send(&mut self, world: &World, text: &str, shared: &str) {
        for n in 0..3 {
            let body = json!({
                "to": {"device_ids": [format!("dev-{shared}"), format!("dev-{text}")]},
                "notification": {"title": text, "body": format!("{text} {n}")},
                "data": {"k": text}, "metadata": {"trace": text}, "category": "order", "collapse_key": format!("{text}{n}"),
                "label": if n == 0 { format!("label-{shared}") } else { text.to_owned() },
            });
            let sent = world.call(&self.key, Method::POST, "/v1/messages", Some(body)).await;
            assert_eq!(sent.status, 202, "{:#}", sent.body);
            let id = text_of(&sent.body["id"]);
            let until = Instant::now() + PATIENCE;
            loop {
                let message = self.get(world, &format!("/v1/messages/{id}")).await;
                if message["state"] == "done" {
                    break;
                }
                assert!(Instant::now() < until, "{message:#}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let deliveries = self.get(world, &format!("/v1/messages/{id}/deliveries")).await;
            let ids = deliveries["data"].as_array().unwrap().iter().map(|one| text_of(&one["id"]));
            self.bag.entry("delivery").or_default().extend(ids);
            self.bag.entry("message").or_default().push(id);
        }
    }

    async fn get(&self, world: &World, path: &str) -> Value {
        let key = if path.starts_with("/v1/device/") { &self.secret } else { &self.key };
        world.call(key, Method::GET, path, None).await.body
    }

    /// Everything that the app can see of itself, in the hours of the test.
    async fn all(&self, world: &World, hours: &str) -> Vec<(String, Value)> {
        let at = |rest: &str| format!("/v1/apps/{}/{rest}", self.id);
        let each = |kind: &str, path: &dyn Fn(&String) -> Vec<String>| -> Vec<String> {
            self.bag.get(kind).into_iter().flatten().flat_map(path).collect()
        };
        let mut paths = vec![format!("/v1/apps/{}", self.id)];
        paths.extend(["channels", "categories", "routes", "webhooks", "registration_keys"].map(at));
        paths.extend(["/v1/messages", "/v1/devices", "/v1/audit?limit=100"].map(str::to_owned));
        paths.push(format!("/v1/reports/deliveries?{hours}&group_by=channel,platform,class,label,reason"));
        paths.extend(each("message", &|id| {
            vec![format!("/v1/messages/{id}"), format!("/v1/messages/{id}/deliveries")]
        }));
        paths.extend(each("device", &|id| {
            vec![format!("/v1/devices/{id}"), format!("/v1/devices/{id}/deliveries")]
        }));
        paths.extend(each("user", &|id| {
            vec![format!("/v1/users/{id}"), format!("/v1/users/{id}/deliveries")]
        }));
        paths.extend(each("channel", &|name| vec![at(&format!("channels/{name}"))]));
        paths.extend(each("webhook", &|id| {
            vec![at(&format!("webhooks/{id}")), at(&format!("webhooks/{id}/attempts"))]
        }));
        if !self.secret.is_empty() {
            paths.push("/v1/device/messages".to_owned());
        }
        let mut seen = Vec::with_capacity(paths.len());
        for path in paths {
            let mut value = self.get(world, &path).await;
            forget_times(&mut value);
            seen.push((path, value));
        }
        seen
    }

    /// The same, when nothing moves any more.
    async fn settled(&self, world: &World, hours: &str) -> Vec<(String, Value)> {
        let until = Instant::now() + PATIENCE;
        let mut before = self.all(world, hours).await;
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let now = self.all(world, hours).await;
            if now == before {
                return now;
            }
            assert!(Instant::now() < until, "it never settles");
            before = now;
        }
    }

    /// Cursors of all its lists.
    async fn cursors(&mut self, world: &World) {
        let lists = ["/v1/messages", "/v1/devices", "/v1/audit"].map(str::to_owned);
        let own = ["channels", "categories"].map(|list| format!("/v1/apps/{}/{list}", self.id));
        let of = [("message", "messages"), ("user", "users"), ("device", "devices")];
        let of = of.map(|(kind, path)| format!("/v1/{path}/{}/deliveries", self.bag[kind][0]));
        for path in lists.into_iter().chain(own).chain(of) {
            let page = self.get(world, &format!("{path}?limit=1")).await;
            self.bag.entry("cursor").or_default().extend(page["next_cursor"].as_str().map(str::to_owned));
        }
        let phone = self.get(world, "/v1/device/messages").await;
        self.bag.entry("cursor").or_default().extend(phone["next_cursor"].as_str().map(str::to_owned));
        assert!(self.bag["cursor"].len() >= 6, "{:?}", self.bag["cursor"]);
    }
}

/// Leaves out what follows from the time of the look alone: when to come again, when the next minute of a quota begins.
fn forget_times(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(forget_times),
        Value::Object(members) => {
            members.retain(|name, _| !["next_poll_seconds", "resets_at"].contains(&name.as_str()));
            members.values_mut().for_each(forget_times);
        }
        _ => {}
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// Reads a stream of events for as long as it goes on.
async fn listen(world: &World, app: &App) -> Arc<Mutex<String>> {
    let mut stream =
        world.http.get(format!("{}/v1/events", world.url)).bearer_auth(&app.key).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    let heard = Arc::<Mutex<String>>::default();
    let all = Arc::clone(&heard);
    #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
    tokio::spawn(async move {
        while let Ok(Some(some)) = stream.chunk().await {
            all.lock().unwrap().push_str(&String::from_utf8_lossy(&some));
        }
    });
    heard
}

/// Makes random calls by the second app.
struct Stranger<'a> {
    random: StdRng,
    own: &'a App,
    foreign: &'a App,
}

impl Stranger<'_> {
    /// A name or an id: mostly the first app's.
    fn pick(&mut self, kind: &str) -> String {
        let bag = if self.random.random_bool(0.65) { &self.foreign.bag } else { &self.own.bag };
        let of_kind = bag.get(kind).filter(|_| self.random.random_bool(0.85));
        let all: Vec<_> =
            of_kind.map_or_else(|| bag.values().flatten().collect(), |some| some.iter().collect());
        all.choose(&mut self.random).map_or_else(String::new, |one| (*one).clone())
    }

    fn path(&mut self, template: &str) -> String {
        let mut path = template.to_owned();
        while let (Some(from), Some(to)) = (path.find('{'), path.find('}')) {
            let name = path[from + 1..to].to_owned();
            let resource = path[..from].trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            let kind = match (name.as_str(), resource) {
                ("delivery_id", _) => "delivery",
                ("channel_id", _) => "channel_id",
                ("app", _) => "app",
                (_, "categories") => "category",
                (_, resource) => resource.trim_end_matches('s'),
            };
            // Mostly its own app, or nothing but 404 would be seen.
            let value = if kind == "app" && self.random.random_bool(0.6) {
                self.own.id.clone()
            } else {
                self.pick(kind)
            };
            let value: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
            path.replace_range(from..=to, &value);
        }
        path
    }

    fn query(&mut self, operation: &Value, item: &Value) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for parameter in [operation, item].iter().filter_map(|of| of["parameters"].as_array()).flatten() {
            let parameter = match parameter["$ref"].as_str() {
                Some(reference) => FILE.pointer(reference.trim_start_matches('#')).unwrap(),
                None => parameter,
            };
            if parameter["in"] != "query" || self.random.random_bool(0.6) {
                continue;
            }
            let name = parameter["name"].as_str().unwrap();
            let value = match name {
                "wait_seconds" | "limit" => "1".to_owned(),
                "after" => self.pick("cursor"),
                "user_id" => self.pick("user"),
                "message_id" => self.pick("message"),
                "group_by" => "channel,label,reason".to_owned(),
                name => self.pick(name),
            };
            query.append_pair(name, &value);
        }
        query.finish()
    }

    /// An example of the file, with some of its words exchanged.
    fn body(&mut self, operation: &'static Value) -> Option<(&'static str, String)> {
        let content = operation["requestBody"]["content"].as_object()?;
        let (kind, of) = content.iter().next()?;
        let examples: Vec<_> =
            of["examples"].as_object().into_iter().flatten().map(|(_, one)| &one["value"]).collect();
        let mut lines = match examples.choose(&mut self.random) {
            Some(Value::String(lines)) => {
                lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
            }
            Some(one) => vec![(*one).clone()],
            None => {
                vec![json!({"id": "x", "provider": "fcm", "config": {"service_account": "x"}, "token": "x"})]
            }
        };
        for line in &mut lines {
            if !line["to"].is_null() && self.random.random_bool(0.8) {
                let (device, user) = (self.pick("device"), self.pick("user"));
                let (tag, token) = (self.pick("tag"), self.pick("token"));
                let ways = [
                    json!({"device_ids": [device]}),
                    json!({"user_ids": [user]}),
                    json!({"audience": {"or": [{"tag": tag}, {"attr": "user_id", "eq": user}, {"attr": "level", "exists": true}]}}),
                    json!({"audience": {"all": true}}),
                    json!({"tokens": [{"provider": "fcm", "token": token}]}),
                ];
                line["to"] = ways.choose(&mut self.random).unwrap().clone();
            }
            self.exchange(line, "text");
        }
        let text: Vec<_> = lines.iter().map(Value::to_string).collect();
        Some((if kind == "application/octet-stream" { "application/json" } else { kind }, text.join("\n")))
    }

    fn exchange(&mut self, value: &mut Value, name: &str) {
        match value {
            Value::String(text) if self.random.random_bool(0.2) => {
                let kind = name.trim_end_matches('s').trim_end_matches("_id");
                *text = self.pick(kind);
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.exchange(item, name)),
            Value::Object(members) => {
                for (name, inner) in members.iter_mut() {
                    self.exchange(inner, name);
                }
                if self.random.random_bool(0.05) {
                    let name =
                        ["app", "app_id", "id", "user_id", "device_id"].choose(&mut self.random).unwrap();
                    members.insert((*name).to_owned(), self.pick("app").into());
                }
            }
            _ => {}
        }
    }

    /// One call of an operation: what was asked, and the whole answer.
    async fn call(&mut self, world: &World, template: &str, verb: &str) -> (String, u16, String) {
        let item = &FILE["paths"][template];
        let operation = &item[verb];
        let query = self.query(operation, item);
        let path = self.path(template);
        let method: Method = verb.to_uppercase().parse().unwrap();
        let mut request = world.http.request(method.clone(), format!("{}{path}?{query}", world.url));
        let phones = template.starts_with("/v1/device/") || template == "/v1/device";
        request = request.bearer_auth(if phones { &self.own.secret } else { &self.own.key });
        if self.random.random_bool(0.05) {
            request = request.header("Anypush-App", self.pick("app"));
        }
        if self.random.random_bool(0.2) {
            request = request.header("Idempotency-Key", self.pick("text"));
        }
        if self.random.random_bool(0.2) {
            request = request.header("Last-Event-ID", self.pick("event"));
        }
        let mut asked = format!("{method} {path}?{query}");
        if let Some((kind, body)) = self.body(operation) {
            asked += " ";
            asked += &body;
            request = request.header(header::CONTENT_TYPE, kind).body(body);
        }
        let mut answer = request.send().await.unwrap_or_else(|error| panic!("{asked}: {error}"));
        let mut text = format!("{:?}\n", answer.headers());
        let endless =
            answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
        // A stream has no end: what it says at once is read.
        let wait = if endless { Duration::from_millis(200) } else { PATIENCE };
        while let Ok(Ok(Some(some))) = tokio::time::timeout(wait, answer.chunk()).await {
            text.push_str(&String::from_utf8_lossy(&some));
        }
        (asked, answer.status().as_u16(), text)
    }
}

/// All operations; what operators alone should reach is none of an app's (`/metrics`, docs/running.md).
fn operations() -> Vec<(String, String)> {
    let paths = FILE["paths"].as_object().unwrap().iter().filter(|(path, _)| *path != "/metrics");
    let verbs = |(path, item): (&String, &Value)| -> Vec<_> {
        let verbs = item.as_object().unwrap().keys().filter(|verb| *verb != "parameters");
        verbs.map(|verb| (path.clone(), verb.clone())).collect()
    };
    paths.flat_map(verbs).collect()
}

/// A message that ends at once, and whose event comes after all before it.
async fn last_word(world: &World, app: &App, stream: &Mutex<String>) {
    let body = json!({"to": {"device_ids": ["nobody-at-all"]}, "data": {"k": "v"}, "label": "last-word"});
    let sent = world.call(&app.key, Method::POST, "/v1/messages", Some(body)).await;
    let id = text_of(&sent.body["id"]);
    let until = Instant::now() + PATIENCE;
    while !stream.lock().unwrap().contains(&id) {
        assert!(Instant::now() < until, "{id} is not told of");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_an_app_asks_for_it_neither_sees_nor_changes_a_byte_of_another() {
    let seed =
        std::env::var("ANYPUSH_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("ANYPUSH_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (mark, own_mark) = (marker(&mut random), marker(&mut random));
    let (world, backend) = (World::start().await, Backend::start().await);
    let hour = jiff::SignedDuration::from_hours(2);
    let hours =
        format!("from={}&to={}&interval=hour", crate::world::now() - hour, crate::world::now() + hour);
    let (id, key) = world.new_app("nobody").await;
    let third = App { id, key, secret: String::new(), bag: Bag::default() };
    let own = App::make(&world, &own_mark, "b", &backend.url).await;
    let stream = listen(&world, &own).await;
    let nothing = third.all(&world, &hours).await;

    // All that the first app does is done under the second one's eyes.
    let mut first = App::make(&world, &mark, "a", &backend.url).await;
    first.cursors(&world).await;
    let mut hidden = vec![mark.clone()];
    // Of its messages the last is one that nobody else has heard of.
    hidden.extend(first.bag.get_mut("message").unwrap().pop());
    let before = first.settled(&world, &hours).await;
    assert!(
        before.iter().any(|(_, value)| value.to_string().contains(&mark)),
        "the test sees what it looks for"
    );
    let asked_of_vendor = vendor(&world, &mark).await;

    let mut stranger = Stranger { random, own: &own, foreign: &first };
    let operations = operations();
    let began = Instant::now();
    let (mut n, mut good) = (0, 0);
    while n < operations.len() * EACH || began.elapsed() < TIME {
        let (template, verb) =
            match operations.get(n % operations.len()).filter(|_| n < operations.len() * EACH) {
                Some(operation) => operation,
                None => operations.choose(&mut stranger.random).unwrap(),
            };
        let (asked, status, text) = stranger.call(&world, template, verb).await;
        n += 1;
        good += usize::from(status < 300);
        assert_ne!(status, 500, "{asked}\n{text}");
        for word in &hidden {
            assert!(!text.contains(word.as_str()), "call {n}: {asked}\n{status} {text}");
        }
    }
    eprintln!("{n} calls, {good} of them answered with success");
    assert!(good > n / 10, "{good} of {n}: the calls lead nowhere");

    last_word(&world, &own, &stream).await;
    let told = backend.got(&format!("/{own_mark}"));
    assert!(!told.is_empty(), "its webhook hears its own");
    let heard = stream.lock().unwrap().clone();
    for word in &hidden {
        assert!(!heard.contains(word.as_str()), "{heard}");
        assert!(told.iter().all(|got| !got.text.contains(word.as_str())), "{told:#?}");
        let shown = own.all(&world, &hours).await;
        assert!(shown.iter().all(|(_, value)| !value.to_string().contains(word.as_str())), "{shown:#?}");
    }
    for ((path, was), (_, is)) in before.into_iter().zip(first.all(&world, &hours).await) {
        assert_eq!(was, is, "{path} of the first app has changed");
    }
    for ((path, was), (_, is)) in nothing.into_iter().zip(third.all(&world, &hours).await) {
        assert_eq!(was, is, "{path} of an app that does nothing has changed");
    }
    assert_eq!(vendor(&world, &mark).await, asked_of_vendor, "nothing went out in the first app's name");
}

/// How many requests the vendor got under the first app's accounts.
async fn vendor(world: &World, mark: &str) -> usize {
    let page = world.sandbox(Method::GET, "/requests?limit=10000", None).await;
    let of_first = |request: &&Value| request.to_string().contains(mark);
    page["requests"].as_array().expect("requests").iter().filter(of_first).count()
}
