//! `anypush openapi` and `anypush migrate`.

use super::{Config, say};
use crate::api::ops::OPENAPI;
use crate::app;
use crate::clock::Clock;

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
