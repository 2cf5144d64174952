//! `anypush demo`: the gateway, the played vendors and a handful of phones, in one process and without an account.
//!
//! What comes in: where to listen and a directory. What goes out: `demo.json` in that directory once everything is
//! ready, a `curl` line to copy, and the page `/demo`. Everything is made through the public HTTP API, as a backend
//! would; a second start on the same directory finds it and goes on. It must never be a way into a real installation:
//! it has its own directory and its own keys, and shows them only on a loopback address.

mod page;
mod peer;
mod sample;
mod state;
mod world;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::sample::Sample;
use self::state::{Directory, Kept};
use self::world::World;
use crate::app::{self, Gateway};
use crate::cli::{bind, say, terminated};
use crate::clock::Clock;
use crate::settings::Settings;
use crate::telemetry::log;

/// Show it working: gateway, played vendors and phones on this machine.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anypush demo
  anypush demo --listen 127.0.0.1:9000       gateway on 9000, played vendors on 9001
  anypush demo --listen 127.0.0.1:0          free ports; DIR/demo.json says which

Ctrl-C stops it; the same directory continues where it stopped.")]
pub struct Args {
    /// Where the gateway listens; the played vendors take the next port. Port 0 takes free ones.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8420")]
    listen: String,
    /// Directory of its data and of demo.json.
    #[arg(long, value_name = "DIR", default_value = "anypush-demo")]
    data_dir: PathBuf,
}

/// Runs the demo until Ctrl-C or SIGTERM.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let mut given = vec![
        ("listen", args.listen.clone()),
        ("data_dir", args.data_dir.join("gateway").display().to_string()),
        ("environment", "demo".to_owned()),
    ];
    if std::env::var_os("ANYPUSH_LOG__LEVEL").is_none() {
        // What the demo prints is for people; the log says only what went wrong.
        given.push(("log.level", "error".to_owned()));
    }
    let mut settings = Settings::load(None, |name| std::env::var(name).ok(), &given)?;
    // The played vendors are where the gateway is.
    settings.egress.allow.push(settings.listen.ip().to_string());
    log::init(&settings.log);
    let directory = Directory::open(&args.data_dir)?;
    let wanted = settings.listen;
    let listener = bind(wanted).await?;
    let address = listener.local_addr().context("the listener has no address")?;
    // Takes the directory's lock: from here on no other demo works on it.
    let gateway = app::start(settings, Clock::system()).await?;
    // The played vendors are on this machine.
    gateway.callback_urls.begin_with(format!("http://{address}"));
    let stop = CancellationToken::new();
    let prepared = async {
        directory.not_ready();
        let kept = directory.kept()?;
        let sandbox = start_sandbox(&directory, &kept, wanted, address, &stop).await?;
        Ok((kept, sandbox))
    };
    let (kept, sandbox) = match prepared.await {
        Ok(prepared) => prepared,
        Err(error) => {
            gateway.tasks.stop();
            gateway.store.close().await;
            return Err(error);
        }
    };
    let demo = Demo { gateway, directory, sandbox, address, stop: stop.clone() };
    let done = demo.run(kept, listener).await;
    stop.cancel();
    demo.directory.not_ready();
    demo.sandbox.wait().await;
    done
}

/// The vendors take the port that they had; the first time the one after the gateway's.
async fn start_sandbox(
    directory: &Directory,
    kept: &Kept,
    wanted: SocketAddr,
    gateway: SocketAddr,
    stop: &CancellationToken,
) -> anyhow::Result<anypush_sandbox::Running> {
    let free = wanted.port() == 0;
    let first = if free { 0 } else { gateway.port().saturating_add(1) };
    let mut listen = SocketAddr::new(wanted.ip(), kept.sandbox_port.unwrap_or(first));
    if free && TcpListener::bind(listen).await.is_err() {
        // Somebody took it meanwhile; the channels are told the new one.
        listen.set_port(0);
    }
    let options = anypush_sandbox::Options {
        listen,
        data_dir: Some(directory.path().join("sandbox")),
        ..anypush_sandbox::Options::default()
    };
    // Asked before, for the sentence: what the sandbox says does not know of --listen.
    drop(bind(listen).await.context("the played vendors need a port of their own")?);
    anypush_sandbox::start(options, stop.clone().cancelled_owned())
        .await
        .context("the played vendors did not start")
}

struct Demo {
    gateway: Arc<Gateway>,
    directory: Directory,
    sandbox: anypush_sandbox::Running,
    address: SocketAddr,
    stop: CancellationToken,
}

impl Demo {
    async fn run(&self, kept: Kept, listener: TcpListener) -> anyhow::Result<()> {
        let world = World::new(Arc::clone(&self.gateway), self.sandbox.phones(), &self.sandbox.url())?;
        let world = Arc::new(world);
        // Keys are shown to whoever can reach the page: on this machine only.
        let page =
            if self.address.ip().is_loopback() { page::router(Arc::clone(&world)) } else { Router::new() };
        let served =
            app::serve_with(Arc::clone(&self.gateway), listener, page, self.stop.clone().cancelled_owned());
        let lived = async {
            let lived = self.live(&world, kept).await;
            self.stop.cancel();
            lived
        };
        let (served, lived) = tokio::join!(served, lived);
        lived.and(served)
    }

    /// Makes everything, says so, waits for the end.
    async fn live(&self, world: &World, kept: Kept) -> anyhow::Result<()> {
        let ended = terminated()?;
        let work = async {
            let sample = Sample::make(&self.gateway, &self.sandbox, &self.directory, kept).await?;
            world.opened(sample.clone());
            self.directory.ready(&sample.demo_json())?;
            self.announce(&sample);
            std::future::pending::<anyhow::Result<()>>().await
        };
        tokio::select! {
            () = ended => {
                say("\nStopping. The same directory continues.");
                Ok(())
            }
            () = self.gateway.tasks.stopped() => Ok(()),
            done = work => done,
        }
    }

    fn announce(&self, sample: &Sample) {
        let url = &sample.url;
        let shown = if self.address.ip().is_loopback() {
            format!("{url}/demo")
        } else {
            "left out: it shows keys, and this address can be reached from elsewhere".to_owned()
        };
        let connecting = sample.devices.iter().filter(|device| device.secret.is_some()).count();
        say(format_args!(
            "\
anypush demo
  page            {shown}
  gateway         {url}
  played vendors  {sandbox}/_sandbox
  data            {dir} (demo.json has the keys)
  phones          {all}: {connecting} connected to the gateway, {others} behind played vendors

Send one message to all of them:

  curl -s {url}/v1/messages -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' -d '{body}'

and see what became of it:

  curl -s '{url}/v1/messages?limit=1' -H 'Authorization: Bearer {key}'

Ctrl-C stops; the same directory continues.",
            sandbox = sample.sandbox_url,
            dir = self.directory.path().display(),
            all = sample.devices.len(),
            others = sample.devices.len() - connecting,
            key = sample.api_key,
            body = r#"{"to": {"audience": {"tag": "demo"}}, "notification": {"title": "Hello", "body": "One call reached every phone"}, "class": "transactional"}"#,
        ));
    }
}
