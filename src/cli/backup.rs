//! `anypush backup`.

use std::path::PathBuf;

use super::{Config, say};
use crate::store::sqlite;

/// Copy the database into a file while the gateway works on it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  anypush backup --data-dir /var/lib/anypush --to /backup/anypush-$(date +%F).db

The copy is whole as of one moment. The master key is not in it: keep that apart, for without it the credentials in the copy
cannot be read. docs/running.md tells how to restore.")]
pub(super) struct Args {
    #[command(flatten)]
    config: Config,
    /// The file to make; it must not exist yet.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let settings = args.config.load(Vec::new())?;
    let bytes = sqlite::back_up(&settings.data_dir, &args.to).await?;
    say(format_args!("{}: {bytes} bytes, checked", args.to.display()));
    Ok(())
}
