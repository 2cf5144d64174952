//! `anypush serve`: the gateway.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::Config;
use crate::app;
use crate::audit::{self, Who};
use crate::clock::Clock;
use crate::routing::ChannelState;
use crate::settings::Settings;
use crate::telemetry::log;

/// Run the gateway until SIGTERM or Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anypush serve
  anypush serve --config config/production.toml
  anypush serve --listen 127.0.0.1:0 --data-dir /var/lib/anypush

Every setting is explained in config/default.toml. Exit code 64: the configuration is wrong.")]
pub(super) struct Args {
    #[command(flatten)]
    config: Config,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Start with all channels paused: nothing is sent until each is resumed. For a backup that was restored, which
    /// would otherwise send again what waited when it was made.
    #[arg(long)]
    paused: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let settings = args.config.load(args.listen.into_iter().map(|listen| ("listen", listen)).collect())?;
    log::init(&settings.log);
    let address = settings.listen;
    let clock = Clock::system();
    if args.paused {
        pause(&settings, &clock).await?;
    }
    let gateway = app::start(settings, clock).await?;
    if gateway.store.keys(None).await?.iter().all(|key| key.revoked_at.is_some()) {
        let dir = gateway.settings.data_dir.display();
        tracing::warn!(
            "there is no admin key yet; stop and run `anypush keys create --admin --data-dir {dir}`"
        );
    }
    let bound = bind(address).await;
    let listener = match bound {
        Ok(listener) => listener,
        Err(error) => {
            gateway.tasks.stop();
            gateway.store.close().await;
            return Err(error);
        }
    };
    app::serve(gateway, listener, terminated()?).await
}

/// Pauses all channels, before anything is read that could be sent.
async fn pause(settings: &Settings, clock: &Clock) -> anyhow::Result<()> {
    let (store, _) = app::open(settings, clock).await?;
    for channel in store.channels().await? {
        let why = Some("started with --paused".to_owned());
        let (paused, now) = (ChannelState::Paused as u8, clock.now_ms());
        let done = store.set_channel_state(channel.seq, paused, why, Some("channel.pause"), now);
        audit::acting(Who::CommandLine.into(), done).await?;
    }
    store.close().await;
    tracing::warn!("all channels are paused; resume each when it may send");
    Ok(())
}

/// Opens the port, or says in one sentence why not.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "{address} is taken by another program; stop that one, or choose another with --listen HOST:PORT \
             (port 0 takes a free one)"
        ),
        std::io::ErrorKind::PermissionDenied => anyhow::anyhow!(
            "{address} may not be opened by this user; choose a port above 1023 with --listen HOST:PORT"
        ),
        _ => anyhow::anyhow!("{address} cannot be opened: {error}; choose another with --listen HOST:PORT"),
    })
}

/// Sent where a file may grow no further; POSIX leaves the number open, Linux and the BSDs agree on it.
const SIGXFSZ: i32 = 25;

/// Resolves at SIGTERM or SIGINT.
pub(crate) fn terminated() -> anyhow::Result<impl Future<Output = ()> + Send> {
    // Watched, it no longer kills: the write fails instead, as on a full disk, and callers are told.
    let _ = signal(SignalKind::from_raw(SIGXFSZ)).context("SIGXFSZ cannot be watched")?;
    let mut term = signal(SignalKind::terminate()).context("SIGTERM cannot be watched")?;
    let mut int = signal(SignalKind::interrupt()).context("SIGINT cannot be watched")?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}
