//! `anypush openapi`, `anypush migrate` and `anypush rewrap`.

use super::{Config, say};
use crate::api::ops::OPENAPI;
use crate::app;
use crate::clock::Clock;
use crate::secrets;

/// Print the API's contract (OpenAPI 3.1).
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  anypush openapi > openapi.yaml")]
pub(super) struct OpenapiArgs {}

pub(super) fn openapi(_: &OpenapiArgs) {
    say(OPENAPI.trim_end());
}

/// Bring the database up to date and stop. `serve` does the same by itself when it starts.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  anypush migrate --data-dir /var/lib/anypush")]
pub(super) struct MigrateArgs {
    #[command(flatten)]
    config: Config,
}

pub(super) async fn migrate(args: MigrateArgs) -> anyhow::Result<()> {
    let settings = args.config.load(Vec::new())?;
    let (store, _) = app::open(&settings, &Clock::system()).await?;
    store.close().await;
    say(format_args!("the database in {} is up to date", settings.data_dir.display()));
    Ok(())
}

/// Encrypt all stored credentials anew under the newest master key, and forget older keys. While no gateway runs.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
How to exchange the master key:
  1. Put the new key first: ANYPUSH_MASTER_KEY=NEW,OLD, or on the first line of master.key.
  2. Restart the gateway. From now on the new key protects everything, and the old one is needed no more.
  3. Where the old key may be known to others: stop, run `anypush rewrap`, and start again without the old key.

It may be interrupted at any time and goes on when it is run again.

Example:
  anypush rewrap --data-dir /var/lib/anypush")]
pub(super) struct RewrapArgs {
    #[command(flatten)]
    config: Config,
}

pub(super) async fn rewrap(args: RewrapArgs) -> anyhow::Result<()> {
    let settings = args.config.load_existing()?;
    let (store, vault) = app::open(&settings, &Clock::system()).await?;
    let done = secrets::rewrap(&vault, &*store).await;
    store.close().await;
    let secrets::Rewrapped { sealed, damaged, dropped, waiting } = done?;
    say(format_args!("{sealed} credentials encrypted anew, {dropped} older data keys dropped"));
    if waiting > 0 {
        say(format_args!("{waiting} callbacks that wait still need an older data key: it stays"));
    }
    anyhow::ensure!(
        damaged == 0,
        "the credentials of {damaged} channels are damaged and were left as they are; put those channels anew"
    );
    Ok(())
}
