//! `anypush audit`: reads the audit log at a gateway, and proves in its data directory that nothing of it was changed.

use anyhow::{Context as _, bail};
use comfy_table::Table;
use http::Method;
use serde_json::{Value, json};

use super::client::{Remote, escape};
use super::{Config, say, table};
use crate::store::sqlite;

/// See who changed what, and prove that the log of it is whole.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anypush audit list --app shop --action channel.put
  anypush audit verify --data-dir /var/lib/anypush       also while the gateway runs
  anypush audit verify --data-dir /var/lib/anypush --head 4711:9f86d081…

verify ends with 1 where a row was changed or is missing. Who can write the database can also rewrite the whole log;
keep the last line of verify somewhere else and give it with --head: then that shows too.")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List what was done, newest first.
    #[command(after_help = "Example:\n  anypush audit list --app shop --action channel.put")]
    List {
        /// Only this action, such as channel.put.
        #[arg(long)]
        action: Option<String>,
        /// Only this object, such as channels/main.
        #[arg(long)]
        object: Option<String>,
        /// How many.
        #[arg(long, default_value = "50", value_parser = clap::value_parser!(u8).range(1..=100))]
        limit: u8,
        #[command(flatten)]
        remote: Remote,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check each row against the one before it. Exit code 1 where one was changed or is missing.
    #[command(
        after_help = "Example:\n  anypush audit verify --data-dir /var/lib/anypush --head 4711:9f86d081…"
    )]
    Verify {
        /// What an earlier run said: a number, a colon, a hash. That row must still be the same.
        #[arg(long, value_name = "NUMBER:HASH")]
        head: Option<String>,
        #[command(flatten)]
        config: Config,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::List { action, object, limit, remote, json } => {
            // An empty parameter counts as left out.
            let [action, object] = [action, object].map(|given| escape(&given.unwrap_or_default()));
            let path = format!("/v1/audit?limit={limit}&action={action}&object={object}");
            let answer = remote.client()?.call(Method::GET, &path, None, true).await?;
            if json {
                say(answer);
            } else {
                say(rows(&answer));
            }
            Ok(())
        }
        Action::Verify { head, config, json } => verify(head.as_deref(), &config, json).await,
    }
}

async fn verify(head: Option<&str>, config: &Config, as_json: bool) -> anyhow::Result<()> {
    let dir = config.load_existing()?.data_dir;
    let noted = head.map(noted).transpose()?;
    let (log, mut findings) = sqlite::verify_audit(&dir, noted.as_ref().map(|(number, _)| *number))
        .await
        .with_context(|| format!("the audit log in {} cannot be read", dir.display()))?;
    if let Some((number, hash)) = &noted
        && log.noted.as_deref().map(sqlite::hex).as_ref() != Some(hash)
    {
        findings.push(match log.forgotten {
            last if *number < last => {
                format!("row {number} cannot be compared: rows up to {last} were removed for their age. Note a newer one")
            }
            _ => format!("row {number} is not the one that was noted"),
        });
    }
    let head = format!("{}:{}", log.end.seq, sqlite::hex(&log.end.hash));
    if as_json {
        say(json!({"rows": log.end.seq, "forgotten": log.forgotten, "head": head, "findings": findings}));
    } else {
        for finding in &findings {
            say(finding);
        }
        if findings.is_empty() {
            if log.forgotten > 0 {
                say(format_args!("rows 1 to {} were removed for their age", log.forgotten));
            }
            say(format_args!("{} rows, nothing was changed\n{head}", log.end.seq - log.forgotten));
        }
    }
    match findings.len() {
        0 => Ok(()),
        n => bail!("the audit log is not what was written: {n} findings"),
    }
}

fn noted(head: &str) -> anyhow::Result<(u64, String)> {
    let parts = head.split_once(':').and_then(|(number, hash)| Some((number.parse().ok()?, hash.to_owned())));
    parts.context("--head takes what `anypush audit verify` printed last: NUMBER:HASH")
}

fn rows(answer: &Value) -> Table {
    let mut table = table(&["at", "app", "who", "action", "object", "from"]);
    for row in answer["data"].as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let who = format!("{} {}", text(&row["actor"]["kind"]), text(&row["actor"]["id"]));
        table.add_row([
            text(&row["at"]),
            text(&row["app"]),
            who,
            text(&row["action"]),
            text(&row["object"]),
            text(&row["ip"]),
        ]);
    }
    table
}
