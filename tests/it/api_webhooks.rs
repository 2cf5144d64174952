//! Webhooks through the real binary, with a receiver that is a server of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode as Status, Uri};
use axum::response::{IntoResponse as _, Response};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::contract::FILE;
use crate::trouble::{phone, to_phone};
use crate::world::{PATIENCE, World};

/// The guide, whose few lines backends copy.
const GUIDE: &str = include_str!("../../docs/webhooks.md");

/// What came.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) text: String,
    pub(crate) body: Value,
}

impl Got {
    pub(crate) fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }
}

/// A backend that takes webhooks.
pub(crate) struct Backend {
    pub(crate) url: String,
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    got: Mutex<Vec<Got>>,
    /// By path; else 204. 0: never an answer.
    answers: Mutex<HashMap<String, u16>>,
}

async fn take(State(inner): State<Arc<Inner>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let path = uri.path().to_owned();
    let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let text = String::from_utf8(body.to_vec()).unwrap();
    let body = serde_json::from_str(&text).unwrap_or_default();
    inner.got.lock().unwrap().push(Got { path: path.clone(), headers: headers.collect(), text, body });
    let answer = inner.answers.lock().unwrap().get(&path).copied().unwrap_or(204);
    if answer == 0 {
        std::future::pending::<()>().await;
    }
    let body = if answer == 500 { "the internal host's secret words" } else { "" };
    let to = [("location", "http://169.254.169.254/latest/meta-data")];
    (Status::from_u16(answer).unwrap(), to, body).into_response()
}

impl Backend {
    pub(crate) async fn start() -> Self {
        let inner = Arc::<Inner>::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(take).with_state(Arc::clone(&inner));
        #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, inner }
    }

    pub(crate) fn answer(&self, path: &str, status: u16) {
        self.inner.answers.lock().unwrap().insert(path.to_owned(), status);
    }

    pub(crate) fn got(&self, path: &str) -> Vec<Got> {
        self.inner.got.lock().unwrap().iter().filter(|got| got.path == path).cloned().collect()
    }

    /// Waits until what came to a path is so.
    pub(crate) async fn until(&self, path: &str, is: impl Fn(&[Got]) -> bool) -> Vec<Got> {
        let until = Instant::now() + PATIENCE;
        loop {
            let got = self.got(path);
            if is(&got) {
                return got;
            }
            assert!(Instant::now() < until, "{path} got {got:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub(crate) fn all(world: &World) -> String {
    format!("/v1/apps/{}/webhooks", world.app_id)
}

/// Makes a webhook with the app's key: its answer.
pub(crate) async fn make(world: &World, url: &str, events: &[&str], more: Value) -> Value {
    let mut body = json!({"url": url, "events": events});
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    let made = world.api(Method::POST, &all(world), Some(body)).await;
    assert_eq!(made.status, StatusCode::CREATED, "{:#}", made.body);
    made.body
}

/// The schema `Event` holds what is told.
pub(crate) fn fits(event: &Value) {
    let whole = json!({"$ref": "#/components/schemas/Event", "components": FILE["components"]});
    let validator = jsonschema::validator_for(&whole).unwrap();
    let wrong: Vec<_> = validator.iter_errors(event).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}\n{event:#}");
}

/// The block of the guide in this language.
fn block(language: &str) -> &'static str {
    let (_, rest) = GUIDE.split_once(&format!("```{language}\n")).expect("the guide has such a block");
    rest.split_once("```").expect("a block ends").0
}

/// Runs the guide's own lines over a request: what they say of it.
fn judged(program: &str, language: &str, main: &str, secret: &str, got: &Got) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(format!("verify.{language}"));
    std::fs::write(&file, format!("{}\n{main}", block(language))).unwrap();
    let mut child = Command::new(program)
        .arg(&file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let given = json!({"secret": secret, "headers": got.headers, "body": got.text});
    child.stdin.take().unwrap().write_all(given.to_string().as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
}

const PYTHON: &str = "import sys\ngiven = json.load(sys.stdin)\n\
    print(verify(given['secret'], given['headers'], given['body'].encode()))";
const NODE: &str = "const given = JSON.parse(readFileSync(0, 'utf8'));\n\
    console.log(verify(given.secret, given.headers, Buffer.from(given.body)));";

fn by_the_guide(secret: &str, got: &Got, good: bool) {
    let python = judged("python3", "py", PYTHON, secret, got);
    assert_eq!(python, if good { "True" } else { "False" });
    let node =
        judged("node", "mjs", &format!("import {{ readFileSync }} from 'node:fs';\n{NODE}"), secret, got);
    assert_eq!(node, good.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_is_told_of_each_delivery_and_of_the_end_and_verifies_it_with_the_guides_few_lines() {
    let world = World::start().await;
    let backend = Backend::start().await;
    phone(&world, "ok-phone").await;
    let events = ["message.done", "delivery.accepted", "delivery.suppressed", "device.address_retired"];
    let hook = make(&world, &format!("{}/a", backend.url), &events, json!({"description": "orders"})).await;
    let secret = hook["secret"].as_str().unwrap();
    let mut message = to_phone();
    message["to"]["device_ids"] = json!(["phone", "nobody"]);
    (message["label"], message["metadata"]) = (json!("orders"), json!({"trace": "t-1"}));
    let id = world.send(message).await;
    world.done(&id).await;
    let got = backend.until("/a", |got| got.len() >= 3).await;
    let told: BTreeMap<&str, &Got> =
        got.iter().map(|got| (got.body["type"].as_str().unwrap(), got)).collect();
    assert_eq!(
        told.keys().collect::<Vec<_>>(),
        [&"delivery.accepted", &"delivery.suppressed", &"message.done"]
    );
    for got in &got {
        fits(&got.body);
        assert_eq!(got.body["id"], got.id());
        assert_eq!(got.body["app_id"], world.app_id.as_str());
        let data = &got.body["data"];
        assert_eq!((&data["message_id"], &data["metadata"]["trace"]), (&json!(id), &json!("t-1")));
    }
    let accepted = &told["delivery.accepted"].body["data"];
    assert_eq!((&accepted["device_id"], &accepted["channel"]), (&json!("phone"), &json!("fcm")));
    let suppressed = &told["delivery.suppressed"].body["data"];
    assert_eq!((&suppressed["given"], &suppressed["reason"]), (&json!("nobody"), &json!("unknown_target")));
    assert_eq!(told["message.done"].body["data"]["counts"]["now"]["suppressed"], 1);
    let first = &got[0];
    by_the_guide(secret, first, true);
    by_the_guide("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", first, false);
    let changed = Got { text: first.text.replace("phone", "tablet"), ..first.clone() };
    let mut old = first.clone();
    old.headers.insert("webhook-timestamp".into(), "1700000000".into());
    for got in [changed, old] {
        if got.text != first.text || got.headers != first.headers {
            by_the_guide(secret, &got, false);
        }
    }
    // A dead token is told of by name.
    phone(&world, "dead-phone").await;
    world.done(&world.send(to_phone()).await).await;
    let of = |got: &Got| got.body["type"] == "device.address_retired";
    let got = backend.until("/a", |got| got.iter().any(of)).await;
    let retired = &got.iter().find(|got| of(got)).unwrap().body["data"];
    assert_eq!(*retired, json!({"device_id": "phone", "provider": "fcm", "reason": "invalid_token"}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_is_made_shown_without_its_secret_changed_and_deleted() {
    let world = World::start().await;
    let url = "https://backend.example/a";
    let hook = make(&world, url, &["message.done"], json!({"signature": "ed25519"})).await;
    assert_eq!((&hook["secret"], hook["public_keys"].as_array().unwrap().len()), (&Value::Null, 1));
    let path = format!("{}/{}", all(&world), hook["id"].as_str().unwrap());
    let shown = world.api(Method::GET, &path, None).await.body;
    assert!(shown.get("secret").is_none(), "{shown:#}");
    let listed = world.api(Method::GET, &all(&world), None).await.body;
    assert_eq!(listed["data"], json!([shown]));
    let change = json!({"events": ["delivery.failed"], "state": "disabled", "description": "later"});
    let changed = world.api(Method::PATCH, &path, Some(change)).await.body;
    let state =
        |hook: &Value| (hook["state"].clone(), hook["disabled_reason"].clone(), hook["events"].clone());
    assert_eq!(state(&changed), (json!("disabled"), json!("by_request"), json!(["delivery.failed"])));
    let (at, since) = (format!("{path}/replay"), json!({"since": "2026-01-01T00:00:00Z"}));
    let replay = world.api(Method::POST, &at, Some(since)).await;
    assert_eq!((replay.status.as_u16(), &replay.body["code"]), (409, &json!("webhook_disabled")));
    let enabled = world.api(Method::PATCH, &path, Some(json!({"state": "enabled"}))).await.body;
    assert_eq!(state(&enabled), (json!("enabled"), Value::Null, json!(["delivery.failed"])));
    let rotated = world.api(Method::POST, &format!("{path}/rotate_secret"), None).await.body;
    assert_eq!(rotated["public_keys"].as_array().unwrap().len(), 2);
    assert_eq!(rotated["public_keys"][1], hook["public_keys"][0]);
    assert!(rotated["previous_secret_until"].is_string());
    // Another app sees nothing of it; the answer is that for what is not there.
    let (other, other_key) = world.new_app("other").await;
    let id = hook["id"].as_str().unwrap();
    for (method, suffix, body) in [
        (Method::GET, "", None),
        (Method::PATCH, "", Some(json!({}))),
        (Method::DELETE, "", None),
        (Method::GET, "/attempts", None),
        (Method::POST, "/test", None),
        (Method::POST, "/rotate_secret", None),
        (Method::POST, "/replay", Some(json!({"since": "2026-01-01T00:00:00Z"}))),
    ] {
        let path = format!("/v1/apps/{other}/webhooks/{id}{suffix}");
        let answer = world.call(&other_key, method, &path, body).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}: {:#}", answer.body);
    }
    assert_eq!(world.api(Method::DELETE, &path, None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(world.api(Method::GET, &path, None).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_is_refused_with_its_place() {
    let world = World::start().await;
    let good = json!({"url": "https://backend.example/", "events": ["message.done"]});
    let wrong = [
        ("url", json!("backend.example")),
        ("events", json!([])),
        ("events/0", json!(["message.lost"])),
        ("events/0", json!(["webhook.test"])),
        ("signature", json!("md5")),
        ("secret", json!("whsec_mine")),
    ];
    for (at, value) in wrong {
        let mut body = good.clone();
        body[at.split('/').next().unwrap()] = value;
        let refused = world.api(Method::POST, &all(&world), Some(body)).await;
        assert_eq!(refused.status.as_u16(), 422, "{at}");
        assert_eq!(refused.body["pointer"], format!("/{at}"), "{:#}", refused.body);
    }
    for n in 0..20 {
        make(&world, &format!("https://backend.example/{n}"), &["message.done"], json!({})).await;
    }
    let refused = world.api(Method::POST, &all(&world), Some(good)).await;
    assert_eq!((refused.status.as_u16(), &refused.body["code"]), (409, &json!("too_many_webhooks")));
}

/// A38, A43: refused when it is saved. What a name resolves to when it is called is the guard's own test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_webhook_leads_into_the_gateways_own_network() {
    let world = World::start().await;
    let refused = [
        "https://localhost/",
        "https://0.0.0.0/",
        "https://[::1]/",
        "https://169.254.169.254/latest/meta-data",
        "https://metadata.google.internal/",
        "https://100.64.0.1/",
        "https://[fc00::1]/",
        "https://[64:ff9b::a00:1]/",
        "https://10.0.0.1/",
        "https://backend.example:6379/",
        "http://backend.example/",
        "https://user@backend.example/",
        "file:///etc/passwd",
    ];
    for url in refused {
        let body = json!({"url": url, "events": ["message.done"]});
        let answer = world.api(Method::POST, &all(&world), Some(body)).await;
        assert_eq!((answer.status.as_u16(), &answer.body["pointer"]), (422, &json!("/url")), "{url}");
    }
}

/// A40, A42.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_says_what_came_of_it_and_never_what_the_endpoint_said() {
    let world = World::start().await;
    let backend = Backend::start().await;
    let hook = make(&world, &format!("{}/a", backend.url), &["message.done"], json!({})).await;
    let path = format!("{}/{}", all(&world), hook["id"].as_str().unwrap());
    let test = async || world.api(Method::POST, &format!("{path}/test"), None).await.body;
    let went = test().await;
    assert_eq!((&went["status_class"], &went["error"]), (&json!("2xx"), &Value::Null), "{went:#}");
    let got = backend.until("/a", |got| !got.is_empty()).await;
    assert_eq!(
        (&got[0].body["type"], got[0].id()),
        (&json!("webhook.test"), went["event_id"].as_str().unwrap())
    );
    fits(&got[0].body);
    for (status, class, error) in [(500, "5xx", "refused"), (302, "3xx", "redirected")] {
        backend.answer("/a", status);
        let failed = test().await;
        assert_eq!((&failed["status_class"], &failed["error"]), (&json!(class), &json!(error)));
        assert!(!failed.to_string().contains("internal host"), "{failed:#}");
    }
    let moved = json!({"url": "http://127.0.0.1:1/"});
    assert_eq!(world.api(Method::PATCH, &path, Some(moved)).await.status, StatusCode::OK);
    let failed = test().await;
    assert_eq!((&failed["status_class"], &failed["error"]), (&Value::Null, &json!("not_connected")));
    let listed = world.api(Method::GET, &format!("{path}/attempts?limit=3"), None).await.body;
    assert_eq!(listed["data"].as_array().unwrap().len(), 3);
    assert_eq!(listed["data"][0], failed, "newest first");
    let next = listed["next_cursor"].as_str().unwrap();
    let rest = world.api(Method::GET, &format!("{path}/attempts?cursor={next}"), None).await.body;
    assert_eq!(rest["data"].as_array().unwrap().len(), 1);
    assert!(!world.log().contains("secret words"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_missed_is_replayed_under_its_old_ids_and_so_is_one_event_alone() {
    let world = World::start().await;
    let backend = Backend::start().await;
    phone(&world, "ok-phone").await;
    let hook = make(&world, &format!("{}/a", backend.url), &["message.done"], json!({})).await;
    let path = format!("{}/{}", all(&world), hook["id"].as_str().unwrap());
    world.done(&world.send(to_phone()).await).await;
    let first = backend.until("/a", |got| got.len() == 1).await.remove(0);
    let disable = json!({"state": "disabled"});
    assert_eq!(world.api(Method::PATCH, &path, Some(disable)).await.status, StatusCode::OK);
    world.done(&world.send(to_phone()).await).await;
    let enable = json!({"state": "enabled"});
    assert_eq!(world.api(Method::PATCH, &path, Some(enable)).await.status, StatusCode::OK);
    world.done(&world.send(to_phone()).await).await;
    backend.until("/a", |got| got.len() == 2).await;
    let one = world.api(Method::POST, &format!("{path}/replay"), Some(json!({"event_id": first.id()}))).await;
    assert_eq!(one.status, StatusCode::ACCEPTED, "{:#}", one.body);
    let got = backend.until("/a", |got| got.len() == 3).await;
    assert_eq!((got[2].id(), &got[2].text), (first.id(), &first.text));
    let since = json!({"since": "2026-01-01T00:00:00Z"});
    assert_eq!(
        world.api(Method::POST, &format!("{path}/replay"), Some(since)).await.status,
        StatusCode::ACCEPTED
    );
    let got = backend.until("/a", |got| got.len() == 6).await;
    let ids: BTreeSet<_> = got.iter().map(Got::id).collect();
    assert_eq!(ids.len(), 3, "with the one that was missed");
    let foreign = json!({"event_id": "evt_00000000000000000000000000"});
    let refused = world.api(Method::POST, &format!("{path}/replay"), Some(foreign)).await;
    assert_eq!(refused.status.as_u16(), 422);
    for body in [json!({}), json!({"since": "2026-01-01T00:00:00Z", "event_id": first.id()})] {
        assert_eq!(world.api(Method::POST, &format!("{path}/replay"), Some(body)).await.status.as_u16(), 422);
    }
}
