//! `anypush channels`: looks at an app's vendor accounts, checks, pauses and resumes them, at a running gateway.

use anyhow::bail;
use http::Method;
use serde_json::{Value, json};

use super::client::{Remote, escape};
use super::{say, table};

/// Look at channels, check, pause, resume and delete them. `anypush apply` makes them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anypush channels list --app shop
  anypush channels check --app shop android      are the credentials good? Nothing is sent to anybody
  anypush channels pause --app shop android      what waits goes out after the resume, inside its time to live
  anypush channels show --app shop android --json")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List an app's channels with their states.
    #[command(after_help = "Example:\n  anypush channels list --app shop")]
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Show one channel: configuration without secrets, limits, quotas, callback URL.
    #[command(after_help = "Example:\n  anypush channels show --app shop android --json")]
    Show(Named),
    /// Ask the vendor whether the credentials are good. Exit code 1 where they are not.
    #[command(after_help = "Example:\n  anypush channels check --app shop android")]
    Check(Named),
    /// Stop sending through a channel. What waits for it goes out after the resume, inside its time to live.
    #[command(after_help = "Example:\n  anypush channels pause --app shop android")]
    Pause(Named),
    /// Send through a channel again.
    #[command(after_help = "Example:\n  anypush channels resume --app shop android")]
    Resume(Named),
    /// Delete a channel; what waits for it goes on to the next step of its route.
    #[command(after_help = "Example:\n  anypush channels delete --app shop android")]
    Delete(Named),
}

#[derive(Debug, clap::Args)]
struct Named {
    /// The channel's name.
    name: String,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
struct Place {
    #[command(flatten)]
    remote: Remote,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::List { place } => list(&place).await,
        Action::Show(named) => {
            let channel = call(&named, Method::GET, "").await?;
            say(if named.place.json { channel.to_string() } else { shown(&channel) });
            Ok(())
        }
        Action::Check(named) => check(&named).await,
        Action::Pause(named) => switch(&named, "/pause").await,
        Action::Resume(named) => switch(&named, "/resume").await,
        Action::Delete(named) => {
            call(&named, Method::DELETE, "").await?;
            if named.place.json {
                say(json!({"deleted": named.name}));
            } else {
                say(format_args!("deleted {}", named.name));
            }
            Ok(())
        }
    }
}

async fn call(named: &Named, method: Method, action: &str) -> anyhow::Result<Value> {
    let remote = &named.place.remote;
    let path = format!("{}/channels/{}{action}", remote.app_path()?, escape(&named.name));
    remote.client()?.call(method, &path, None, false).await
}

async fn list(place: &Place) -> anyhow::Result<()> {
    let path = format!("{}/channels", place.remote.app_path()?);
    let channels = place.remote.client()?.all(&path).await?;
    if place.json {
        say(Value::from(channels));
        return Ok(());
    }
    let mut table = table(&["name", "provider", "tier", "state", "why", "changed"]);
    for channel in &channels {
        let names = ["name", "provider", "tier", "state", "state_info", "updated_at"];
        table.add_row(names.map(|name| text(&channel[name])));
    }
    say(table);
    Ok(())
}

async fn check(named: &Named) -> anyhow::Result<()> {
    let report = call(named, Method::POST, "/check").await?;
    let detail = text(&report["detail"]);
    let is_good = report["ok"] == true;
    if named.place.json {
        say(&report);
    } else if is_good {
        say(format_args!("{} is good: {detail}", named.name));
    }
    for warning in report["warnings"].as_array().into_iter().flatten().filter(|_| !named.place.json) {
        say(format_args!("warning: {}", text(warning)));
    }
    if !is_good {
        bail!("{} is not good: {detail}", named.name);
    }
    Ok(())
}

async fn switch(named: &Named, action: &str) -> anyhow::Result<()> {
    let channel = call(named, Method::POST, action).await?;
    if named.place.json {
        say(&channel);
    } else {
        say(format_args!("{} is {}", named.name, text(&channel["state"])));
    }
    Ok(())
}

/// A channel for people: one line for each member.
fn shown(channel: &Value) -> String {
    let mut table = table(&[]);
    for (name, value) in channel.as_object().into_iter().flatten() {
        table.add_row([name.clone(), text(value)]);
    }
    table.to_string()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Object(members) if members.is_empty() => "-".into(),
        Value::Object(_) => serde_json::to_string_pretty(value).unwrap_or_default(),
        other => other.to_string(),
    }
}
