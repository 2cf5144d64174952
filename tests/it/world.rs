//! The world of an integration test: a real gateway and a real sandbox, each its own process, on free ports and a
//! data directory that goes with the test.
//!
//! At drop both are stopped; a gateway that does not end cleanly, or whose counters are not its rows, fails its test.

use std::fs::{self, File};
use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::contract::{self, Call};
use crate::ledger::{self, Book};

/// How long anything may take before a test gives up on it: long enough for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(5);
/// Requests that set-up sends at the same time.
const ABREAST: usize = 32;

/// A gateway and a sandbox.
pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) sandbox_url: String,
    pub(crate) admin_key: String,
    pub(crate) app_id: String,
    pub(crate) api_key: String,
    pub(crate) http: Client,
    /// What callers were told, for the ledger check.
    pub(crate) book: Book,
    /// What the gateway finds in its environment when it is started again.
    pub(crate) env: Vec<(&'static str, String)>,
    /// What a shell does before it becomes the gateway, when that is started again.
    pub(crate) before: &'static str,
    /// What the gateway is told beside its address, when it is started again.
    pub(crate) more: Vec<&'static str>,
    gateway: Option<Child>,
    sandbox: Child,
    ports: (Port, Port),
    dir: tempfile::TempDir,
}

/// A port that no other test is given meanwhile: nobody listens on it yet when it is chosen, nor while a gateway is started
/// again, and whoever came second would wait for a server that cannot start.
struct Port {
    number: u16,
    /// Locked.
    _claim: File,
}

/// An answer: status and JSON body (`null` where it is none).
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
}

impl World {
    /// Starts both, and an app named `it` with an FCM channel at the sandbox.
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ports = (Port::free(), Port::free());
        let (url, sandbox_url) = (local(ports.0.number), local(ports.1.number));
        let played = ["sandbox", "--listen", &address(ports.1.number)];
        let sandbox = program("", &played, &dir.path().join("sandbox"), "sandbox").spawn().unwrap();
        let made = Command::new(env!("CARGO_BIN_EXE_anypush"))
            .args(["keys", "create", "--admin", "--name", "test", "--json", "--data-dir"])
            .arg(dir.path().join("gateway"))
            .output()
            .unwrap();
        assert!(made.status.success(), "keys create: {}", String::from_utf8_lossy(&made.stderr));
        let key: Value = serde_json::from_slice(&made.stdout).expect("keys create --json answers JSON");
        let admin_key = key["key"].as_str().expect("a key").to_owned();
        let mut world = Self {
            url,
            sandbox_url,
            admin_key,
            app_id: String::new(),
            api_key: String::new(),
            http: client(),
            book: Book::default(),
            env: Vec::new(),
            before: "",
            more: Vec::new(),
            gateway: None,
            sandbox,
            ports,
            dir,
        };
        world.start_gateway().await;
        world.wait_for(&format!("{}/_sandbox", world.sandbox_url)).await;
        (world.app_id, world.api_key) = world.new_app("it").await;
        let done = world.put_fcm_channel(&world.app_id.clone(), "fcm", "demo-project").await;
        assert!(done.status.is_success(), "channel: {} {}", done.status, done.body);
        world
    }

    /// Starts the gateway (again) on the same data and port, and waits until it is ready.
    pub(crate) async fn start_gateway(&mut self) {
        self.spawn_gateway();
        self.ready().await;
    }

    /// Waits until the gateway is ready.
    pub(crate) async fn ready(&self) {
        self.wait_for(&format!("{}/readyz", self.url)).await;
    }

    /// Starts the gateway without waiting for it, unless it runs.
    pub(crate) fn spawn_gateway(&mut self) {
        if self.gateway.is_some() {
            return;
        }
        let listen = address(self.ports.0.number);
        let args: Vec<_> =
            ["serve", "--listen", &listen].into_iter().chain(self.more.iter().copied()).collect();
        let mut program = program(self.before, &args, &self.dir.path().join("gateway"), "gateway");
        self.gateway = Some(program.envs(self.env.iter().cloned()).spawn().unwrap());
    }

    /// Starts the gateway again with two threads to each of its pools, however many cores there are. The allocator keeps some
    /// of what was freed for each thread, so that memory can be held against a bound only where their number is known.
    pub(crate) async fn keep_to_two_threads(&mut self) {
        self.restart_with("TOKIO_WORKER_THREADS", "2".to_owned()).await;
    }

    /// Starts the gateway again, with one variable more.
    pub(crate) async fn restart_with(&mut self, name: &'static str, value: String) {
        self.kill_gateway();
        self.env.push((name, value));
        self.start_gateway().await;
    }

    /// What the system says of the gateway's process; nothing where it does not say.
    pub(crate) fn process_status(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/status", self.gateway_pid())).unwrap_or_default()
    }

    /// Resident memory of the gateway in kilobytes; `None` where the system does not say.
    pub(crate) fn resident_kb(&self) -> Option<u64> {
        let status = self.process_status();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// Kills the gateway as a power cut would, as far as a process can.
    pub(crate) fn kill_gateway(&mut self) {
        if let Some(mut gateway) = self.gateway.take() {
            gateway.kill().unwrap();
            gateway.wait().unwrap();
        }
    }

    /// Whether the gateway has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.gateway.as_mut().is_none_or(|gateway| gateway.try_wait().unwrap().is_some())
    }

    /// Waits until the gateway has ended by itself.
    pub(crate) async fn ended(&mut self) -> std::process::ExitStatus {
        let mut gateway = self.gateway.take().expect("a running gateway");
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = gateway.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "the gateway does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends SIGTERM to the gateway, and does not wait.
    pub(crate) fn tell_to_stop(&self) {
        terminate(self.gateway.as_ref().expect("a running gateway"));
    }

    /// Stops the gateway with SIGTERM and says how it ended.
    pub(crate) fn stop_gateway(&mut self) -> std::process::ExitStatus {
        let mut gateway = self.gateway.take().expect("a running gateway");
        terminate(&gateway);
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = gateway.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "the gateway does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the gateway logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("gateway.log")).unwrap_or_default()
    }

    /// The gateway's process.
    pub(crate) fn gateway_pid(&self) -> u32 {
        self.gateway.as_ref().expect("a running gateway").id()
    }

    /// Calls the API with these headers and any bytes as the body. Answers also the text as it came.
    pub(crate) async fn raw(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> (Answer, String) {
        // Lines are no JSON document, even where there is only one.
        let lines = headers.iter().any(|(_, value)| *value == contract::NDJSON);
        let sent = serde_json::from_slice(&body).ok().filter(|_| !lines);
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.url)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answered(request, &method, path, sent.as_ref()).await
    }

    /// The gateway's data directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("gateway")
    }

    /// Makes an app and a key with all scopes: (app id, key).
    pub(crate) async fn new_app(&self, name: &str) -> (String, String) {
        let app = self.call(&self.admin_key, Method::POST, "/v1/apps", Some(json!({"name": name}))).await;
        assert_eq!(app.status, StatusCode::CREATED, "{}", app.body);
        let id = app.body["id"].as_str().unwrap().to_owned();
        let scopes = [
            "messages:write",
            "messages:read",
            "devices:write",
            "devices:read",
            "channels:write",
            "channels:read",
            "reports:read",
            "webhooks:write",
            "audit:read",
        ];
        let path = format!("/v1/apps/{id}/keys");
        let key = self
            .call(&self.admin_key, Method::POST, &path, Some(json!({"name": "test", "scopes": scopes})))
            .await;
        assert_eq!(key.status, StatusCode::CREATED, "{}", key.body);
        (id, key.body["key"].as_str().unwrap().to_owned())
    }

    /// Makes or replaces an FCM channel that sends to the sandbox.
    pub(crate) async fn put_fcm_channel(&self, app: &str, name: &str, project: &str) -> Answer {
        self.put_fcm_channel_at(app, name, project, json!({"base_url": self.sandbox_url})).await
    }

    /// Makes or replaces an FCM channel that gets its access tokens from the sandbox, with more settings.
    pub(crate) async fn put_fcm_channel_at(
        &self,
        app: &str,
        name: &str,
        project: &str,
        more: Value,
    ) -> Answer {
        let account = self.sandbox(Method::GET, &format!("/fcm/{project}/service_account"), None).await;
        let mut config = json!({"service_account": account});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let body = json!({"provider": "fcm", "config": config});
        self.book.account(app, project);
        self.call(&self.admin_key, Method::PUT, &format!("/v1/apps/{app}/channels/{name}"), Some(body)).await
    }

    /// Calls the API with the app's key.
    pub(crate) async fn api(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.call(&self.api_key, method, path, body).await
    }

    /// Calls the API with any key. `openapi.yaml` must describe every answer, and every body that is taken.
    pub(crate) async fn call(&self, key: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.url)).bearer_auth(key);
        if let Some(body) = &body {
            request = request.json(body);
        }
        let answer = answered(request, &method, path, body.as_ref()).await.0;
        if method == Method::POST && path == "/v1/messages" {
            self.book.answered(answer.status, &answer.body);
        }
        answer
    }

    /// Calls the sandbox's control API.
    pub(crate) async fn sandbox(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let mut request = self.http.request(method.clone(), format!("{}/_sandbox{path}", self.sandbox_url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{method} {path}: {}", response.status());
        serde_json::from_str(&response.text().await.unwrap()).unwrap_or(Value::Null)
    }

    /// For each played vendor a channel's configuration, devices and more.
    pub(crate) async fn samples(&self) -> Vec<Value> {
        let samples = self.sandbox(Method::GET, "/samples", None).await;
        samples["samples"].as_array().expect("samples").clone()
    }

    /// The sample of this provider.
    pub(crate) async fn sample(&self, provider: &str) -> Value {
        let sample = self.samples().await.into_iter().find(|sample| sample["provider"] == provider);
        sample.expect("the provider has a sample")
    }

    /// Makes devices, or changes them, in the order of the list.
    pub(crate) async fn put_devices(&self, devices: Vec<(String, Value)>) {
        let mut lines = Vec::new();
        for (id, mut device) in devices {
            device["id"] = json!(id);
            lines.extend_from_slice(device.to_string().as_bytes());
            lines.push(b'\n');
        }
        let (bearer, kind) = (format!("Bearer {}", self.api_key), contract::NDJSON);
        let headers = [("authorization", bearer.as_str()), ("content-type", kind)];
        let (done, answers) = self.raw(Method::POST, "/v1/devices/import", &headers, lines).await;
        assert!(done.status.is_success(), "{} {answers}", done.status);
        let refused = answers.lines().find(|line| !line.contains(r#""status":200"#));
        assert_eq!(refused, None, "each line is taken");
    }

    /// Makes devices that connect themselves: their secrets, in order.
    pub(crate) async fn device_secrets(&self, ids: &[String]) -> Vec<String> {
        stream::iter(ids.to_vec())
            .map(|id| async move {
                let made = self.api(Method::POST, &format!("/v1/devices/{id}/secret"), None).await;
                assert!(made.status.is_success(), "{id}: {} {}", made.status, made.body);
                made.body["secret"].as_str().unwrap().to_owned()
            })
            .buffered(ABREAST)
            .collect()
            .await
    }

    /// Sends a message and gives back its id.
    pub(crate) async fn send(&self, message: Value) -> String {
        let sent = self.api(Method::POST, "/v1/messages", Some(message)).await;
        assert_eq!(sent.status, StatusCode::ACCEPTED, "{}", sent.body);
        sent.body["id"].as_str().unwrap().to_owned()
    }

    /// Waits until nothing of a message is pending; its counts add up at every look.
    pub(crate) async fn done(&self, id: &str) -> Value {
        self.until(id, |message| message["state"] == "done").await
    }

    /// Waits until a message looks so.
    pub(crate) async fn until(&self, id: &str, is: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let message = self.api(Method::GET, &format!("/v1/messages/{id}"), None).await;
            assert_eq!(message.status, StatusCode::OK, "{}", message.body);
            assert_adds_up(&message.body);
            if is(&message.body) {
                return message.body;
            }
            assert!(Instant::now() < until, "still {:#}", message.body);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// All deliveries of a message, page by page.
    pub(crate) async fn deliveries(&self, id: &str) -> Vec<Value> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/messages/{id}/deliveries?limit=100{cursor}");
            let page = self.api(Method::GET, &path, None).await;
            assert_eq!(page.status, StatusCode::OK, "{}", page.body);
            all.extend(page.body["data"].as_array().unwrap().iter().cloned());
            match page.body["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }

    async fn wait_for(&self, url: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Ok(response) = self.http.get(url).send().await
                && response.status().is_success()
            {
                return;
            }
            assert!(Instant::now() < until, "{url} does not answer; the gateway logged:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.sandbox.kill();
        let _ = self.sandbox.wait();
        if std::thread::panicking() {
            self.kill_gateway();
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(40).collect();
            eprintln!("the gateway's last lines:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        } else if self.gateway.is_some() {
            let status = self.stop_gateway();
            assert!(status.success(), "the gateway ended with {status}:\n{}", self.log());
            ledger::check_rows(&self.data_dir());
        }
    }
}

/// Sends a request and holds it and its answer against the contract. Answers also the text as it came.
async fn answered(
    request: RequestBuilder,
    method: &Method,
    path: &str,
    sent: Option<&Value>,
) -> (Answer, String) {
    let response = request.send().await.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.unwrap();
    let kind = headers.get("content-type").and_then(|value| value.to_str().ok());
    let body = if kind == Some(contract::NDJSON) {
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect()
    } else {
        serde_json::from_str(&text).unwrap_or(Value::Null)
    };
    contract::check(&Call { method, path, sent, status: status.as_u16(), headers: &headers, body: &body });
    (Answer { status, body }, text)
}

/// Σ now = targeted, at any moment.
pub(crate) fn assert_adds_up(message: &Value) {
    let counts = &message["counts"];
    let now: u64 = counts["now"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(now, counts["targeted"].as_u64().unwrap(), "{message:#}");
}

/// The time, as people see it.
pub(crate) fn now() -> jiff::Timestamp {
    #[expect(clippy::disallowed_methods, reason = "tests are users, not the gateway")]
    jiff::Timestamp::now()
}

/// A client without limits of its own.
pub(crate) fn client() -> Client {
    #[expect(clippy::disallowed_methods, reason = "tests are users, not the gateway")]
    Client::builder().timeout(PATIENCE).no_proxy().build().unwrap()
}

fn program(before: &str, args: &[&str], data_dir: &Path, name: &str) -> Command {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(data_dir.parent().unwrap().join(format!("{name}.log")))
        .unwrap();
    let mut command = if before.is_empty() {
        Command::new(env!("CARGO_BIN_EXE_anypush"))
    } else {
        let mut shell = Command::new("bash");
        shell.args(["-c", &format!("{before}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_anypush")]);
        shell
    };
    command.args(args).arg("--data-dir").arg(data_dir);
    // Where the sandbox is.
    command.env("ANYPUSH_EGRESS_ALLOW", "127.0.0.1");
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command
}

fn terminate(child: &Child) {
    let done = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(done.success());
}

impl Port {
    /// One that nobody listens on, and that the system gives to no outgoing connection: the gateway takes it only later,
    /// and on a busy machine a port of that range is somebody's by then.
    fn free() -> Self {
        let claims = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ports");
        fs::create_dir_all(&claims).unwrap();
        loop {
            // Each `RandomState` has keys of its own.
            let number = 10_000 + (RandomState::new().hash_one(0) % 22_000) as u16;
            let claim = File::create(claims.join(number.to_string())).unwrap();
            if claim.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self { number, _claim: claim };
            }
        }
    }
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn local(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}
