//! A gateway and a sandbox, each its own process, on free ports and a data directory that goes with the run.
//!
//! Where the machine has two cores, the sandbox has the first and the gateway the second, so that the number is what one core
//! of gateway does, whoever plays the vendor.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use reqwest::{Body, Client, Method};
use serde_json::{Value, json};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::Bench;
use crate::machine;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(15);

/// Where the processes run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cores {
    /// The gateway on the second core, everything else on the first.
    Apart,
    /// Wherever the system puts them.
    Shared,
}

impl Cores {
    /// The core of the vendors and of those who call.
    pub(crate) fn of_others(self) -> Option<usize> {
        (self == Self::Apart && machine::cores() > 1).then_some(0)
    }

    /// The core of the gateway, and of a ceiling in its stead.
    pub(crate) fn of_gateway(self) -> Option<usize> {
        (self == Self::Apart && machine::cores() > 1).then_some(1)
    }
}

/// A gateway and a sandbox.
pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) sandbox_url: String,
    pub(crate) app: String,
    pub(crate) key: String,
    pub(crate) admin_key: String,
    pub(crate) http: Client,
    anypush: String,
    cores: Cores,
    env: Vec<(&'static str, String)>,
    gateway: Option<Child>,
    sandbox: Child,
    ports: (u16, u16),
    dir: tempfile::TempDir,
}

impl World {
    /// Starts both, and makes an app. The gateway finds this in its environment.
    pub(crate) async fn start(
        bench: &Bench,
        cores: Cores,
        env: Vec<(&'static str, String)>,
    ) -> anyhow::Result<Self> {
        let anypush = bench.gateway.clone();
        let dir = tempfile::tempdir()?;
        let ports = (free_port()?, free_port()?);
        let sandbox = program(
            &anypush,
            cores.of_others(),
            &["sandbox", "--listen", &address(ports.1)],
            dir.path(),
            "sandbox",
        )?
        .spawn()?;
        let made = Command::new(&anypush)
            .args(["keys", "create", "--admin", "--name", "bench", "--json", "--data-dir"])
            .arg(dir.path().join("gateway"))
            .output()?;
        ensure!(made.status.success(), "keys create: {}", String::from_utf8_lossy(&made.stderr));
        let key: Value = serde_json::from_slice(&made.stdout)?;
        let mut world = Self {
            url: local(ports.0),
            sandbox_url: local(ports.1),
            app: String::new(),
            key: String::new(),
            admin_key: key["key"].as_str().context("keys create printed no key")?.to_owned(),
            http: client()?,
            anypush,
            cores,
            env,
            gateway: None,
            sandbox,
            ports,
            dir,
        };
        world.wait_for(&format!("{}/_sandbox", world.sandbox_url)).await?;
        world.start_gateway().await?;
        (world.app, world.key) = world.new_app("bench").await?;
        Ok(world)
    }

    /// Starts the gateway (again) on the same data and port, and waits until it is ready.
    pub(crate) async fn start_gateway(&mut self) -> anyhow::Result<()> {
        self.spawn_gateway()?;
        self.wait_for(&format!("{}/readyz", self.url)).await
    }

    /// The same without waiting.
    pub(crate) fn spawn_gateway(&mut self) -> anyhow::Result<()> {
        let args = ["serve", "--listen", &address(self.ports.0)];
        let mut program = program(&self.anypush, self.cores.of_gateway(), &args, self.dir.path(), "gateway")?;
        self.gateway = Some(program.envs(self.env.iter().cloned()).spawn()?);
        Ok(())
    }

    /// kill -9.
    pub(crate) fn kill_gateway(&mut self) -> anyhow::Result<()> {
        if let Some(mut gateway) = self.gateway.take() {
            gateway.kill()?;
            gateway.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, and until it has ended: it leaves its database whole.
    pub(crate) fn stop_gateway(&mut self) -> anyhow::Result<()> {
        if let Some(mut gateway) = self.gateway.take() {
            let told = Command::new("kill").args(["-TERM", &gateway.id().to_string()]).status()?;
            let ended = gateway.wait()?;
            ensure!(told.success() && ended.success(), "the gateway ended with {ended}");
        }
        Ok(())
    }

    pub(crate) fn gateway_pid(&self) -> anyhow::Result<u32> {
        Ok(self.gateway.as_ref().context("the gateway does not run")?.id())
    }

    /// Both processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.gateway.iter().map(Child::id).chain([self.sandbox.id()]).collect()
    }

    pub(crate) fn sandbox_pid(&self) -> u32 {
        self.sandbox.id()
    }

    /// The database file.
    pub(crate) fn database(&self) -> PathBuf {
        self.dir.path().join("gateway").join("anypush.db")
    }

    /// Where it writes: for a look at how fast the disk is.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A reader of the database.
    pub(crate) async fn reader(&self) -> anyhow::Result<SqliteConnection> {
        Ok(SqliteConnectOptions::new().filename(self.database()).read_only(true).connect().await?)
    }

    /// How large the database is in bytes, what stands in its log counted in.
    pub(crate) async fn database_bytes(&self) -> anyhow::Result<u64> {
        let mut reader = self.reader().await?;
        let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut reader).await?;
        let size: i64 = sqlx::query_scalar("PRAGMA page_size").fetch_one(&mut reader).await?;
        Ok((pages * size) as u64)
    }

    /// Makes an app and a key with all scopes.
    pub(crate) async fn new_app(&self, name: &str) -> anyhow::Result<(String, String)> {
        let app = self.call(&self.admin_key, Method::POST, "/v1/apps", Some(json!({"name": name}))).await?;
        let id = app["id"].as_str().context("an app has an id")?.to_owned();
        let scopes = [
            "messages:write",
            "messages:read",
            "devices:write",
            "devices:read",
            "channels:write",
            "channels:read",
            "reports:read",
        ];
        let body = json!({"name": "bench", "scopes": scopes});
        let key =
            self.call(&self.admin_key, Method::POST, &format!("/v1/apps/{id}/keys"), Some(body)).await?;
        Ok((id, key["key"].as_str().context("a key is told once")?.to_owned()))
    }

    /// A channel named like its provider, at the sandbox, of the app that everything here is done with.
    pub(crate) async fn channel(&self, provider: &str) -> anyhow::Result<Value> {
        self.channel_of(&self.app, provider, provider, json!({})).await
    }

    /// A channel of any app; what more it is configured with.
    pub(crate) async fn channel_of(
        &self,
        app: &str,
        name: &str,
        provider: &str,
        limits: Value,
    ) -> anyhow::Result<Value> {
        let samples = self.sandbox(Method::GET, "/samples", None).await?;
        let all = samples["samples"].as_array().context("samples")?;
        let sample = all.iter().find(|sample| sample["provider"] == provider);
        let config = sample.with_context(|| format!("{provider} is not played"))?["channel_config"].clone();
        let body = json!({"provider": provider, "config": config, "limits": limits});
        let path = format!("/v1/apps/{app}/channels/{name}");
        self.call(&self.admin_key, Method::PUT, &path, Some(body)).await?;
        Ok(config)
    }

    /// So many tokens that a played vendor takes.
    pub(crate) async fn tokens(&self, provider: &str, count: usize) -> anyhow::Result<Vec<String>> {
        let mut all = Vec::with_capacity(count);
        while all.len() < count {
            let path =
                format!("/tokens/{provider}?from={}&count={}", all.len(), (count - all.len()).min(100_000));
            let mut some = self.sandbox(Method::GET, &path, None).await?;
            let some: Vec<String> = serde_json::from_value(some["tokens"].take())?;
            ensure!(!some.is_empty(), "{provider} gives no more tokens");
            all.extend(some);
        }
        Ok(all)
    }

    /// Registers devices in one call.
    pub(crate) async fn import<I>(&self, key: &str, devices: I) -> anyhow::Result<()>
    where
        I: Iterator<Item = Value> + Send + Sync + 'static,
    {
        let mut devices = devices;
        let pieces = std::iter::from_fn(move || {
            let piece: Vec<u8> =
                devices.by_ref().take(500).flat_map(|device| format!("{device}\n").into_bytes()).collect();
            (!piece.is_empty()).then(|| Ok::<_, std::io::Error>(Frame::data(Bytes::from(piece))))
        });
        let response = self
            .http
            .post(format!("{}/v1/devices/import", self.url))
            .bearer_auth(key)
            .header("content-type", "application/x-ndjson")
            .body(Body::wrap(StreamBody::new(stream::iter(pieces))))
            .send()
            .await?;
        let (status, text) = (response.status(), response.text().await?);
        let refused = text.lines().find(|line| !line.contains(r#""status":200"#));
        ensure!(status.is_success() && refused.is_none(), "import: {status} {}", refused.unwrap_or(&text));
        Ok(())
    }

    /// Sends a message and gives back its id.
    pub(crate) async fn send(&self, key: &str, message: Value) -> anyhow::Result<String> {
        let sent = self.call(key, Method::POST, "/v1/messages", Some(message)).await?;
        Ok(sent["id"].as_str().context("a message has an id")?.to_owned())
    }

    /// Waits until nothing of a message is pending.
    pub(crate) async fn done(&self, key: &str, id: &str) -> anyhow::Result<Value> {
        let until = Instant::now() + PATIENCE;
        loop {
            let message = self.call(key, Method::GET, &format!("/v1/messages/{id}"), None).await?;
            if message["state"] == "done" {
                return Ok(message);
            }
            ensure!(Instant::now() < until, "still {message:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Calls the gateway; anything but success is an error.
    pub(crate) async fn call(
        &self,
        key: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.url)).bearer_auth(key);
        if let Some(body) = &body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let (status, text) = (response.status(), response.text().await?);
        ensure!(status.is_success(), "{method} {path}: {status} {text}");
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Calls the sandbox's control.
    pub(crate) async fn sandbox(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        let url = format!("{}/_sandbox{path}", self.sandbox_url);
        let mut request = self.http.request(method.clone(), url);
        if let Some(body) = &body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let (status, text) = (response.status(), response.text().await?);
        ensure!(status.is_success(), "sandbox: {method} {path}: {status} {text}");
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn wait_for(&self, url: &str) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Ok(response) = self.http.get(url).send().await
                && response.status().is_success()
            {
                return Ok(());
            }
            if Instant::now() > until {
                let log = std::fs::read_to_string(self.dir.path().join("gateway.log")).unwrap_or_default();
                bail!("{url} does not answer; the gateway logged:\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in self.gateway.iter_mut().chain([&mut self.sandbox]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A command that runs on this core alone.
pub(crate) fn on_core(core: Option<usize>, program: &str) -> Command {
    match core {
        None => Command::new(program),
        Some(core) => {
            let mut command = Command::new("taskset");
            command.args(["--cpu-list", &core.to_string(), program]);
            command
        }
    }
}

fn program(
    anypush: &str,
    core: Option<usize>,
    args: &[&str],
    dir: &Path,
    name: &str,
) -> anyhow::Result<Command> {
    let log = std::fs::File::options().create(true).append(true).open(dir.join(format!("{name}.log")))?;
    let mut command = on_core(core, anypush);
    command.args(args);
    if name == "gateway" {
        command.arg("--data-dir").arg(dir.join(name));
        // Where the sandbox is. What is said of each request is nobody's number.
        command.env("ANYPUSH_EGRESS_ALLOW", "127.0.0.1").env("ANYPUSH_LOG_LEVEL", "warn");
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(command)
}

fn client() -> anyhow::Result<Client> {
    Ok(Client::builder().timeout(PATIENCE).no_proxy().build()?)
}

/// A port that was free a moment ago, below those that the system gives to outgoing connections.
fn free_port() -> anyhow::Result<u16> {
    let tries = (10_000..32_000_u16).map(|_| rand::random_range(10_000..32_000));
    let free = tries.into_iter().find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    free.context("no port is free")
}

fn address(port: u16) -> String {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string()
}

fn local(port: u16) -> String {
    format!("http://{}", address(port))
}
