//! `anypush sandbox`: the vendors, played, in a process of their own.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{say, serve};
use crate::settings::{Log, LogFormat};
use crate::telemetry::log;

/// Play the vendors until SIGTERM or Ctrl-C: no account is needed, and nothing reaches a real one.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anypush sandbox
  anypush sandbox --listen 127.0.0.1:0 --data-dir sandbox-data

A channel reaches it by its base_url. Its help is at GET /_sandbox.")]
pub(super) struct Args {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8471")]
    listen: SocketAddr,
    /// Directory in which its rules and ledger outlive it; absent, they end with it.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    log::init(&Log { level: "info".into(), format: LogFormat::Text });
    // Says in one sentence what is wrong with the address, and gives it back at once.
    drop(serve::bind(args.listen).await?);
    let options = anypush_sandbox::Options {
        listen: args.listen,
        data_dir: args.data_dir,
        ..anypush_sandbox::Options::default()
    };
    let sandbox = anypush_sandbox::start(options, serve::terminated()?).await?;
    say(format_args!("listening on {}", sandbox.url()));
    sandbox.wait().await;
    Ok(())
}
