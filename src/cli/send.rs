//! `anypush send`: one message from the command line.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http::Method;
use serde_json::{Value, json};

use super::client::{Client, Remote};
use super::say;

/// Send a message.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("to").required(true),
    after_help = "\
Examples:
  anypush send --to-tag vip --title Sale --body 'Only today' --class marketing
  anypush send --to-device phone-1 --title Hello --follow
  anypush send --to-all --data kind=refresh --class marketing --json"
)]
pub(super) struct Args {
    #[command(flatten)]
    remote: Remote,
    /// To this device; may be repeated.
    #[arg(long, value_name = "ID", group = "to")]
    to_device: Vec<String>,
    /// To all devices of this user; may be repeated.
    #[arg(long, value_name = "ID", group = "to")]
    to_user: Vec<String>,
    /// To all devices with this tag.
    #[arg(long, value_name = "TAG", group = "to")]
    to_tag: Option<String>,
    /// To all devices of the app.
    #[arg(long, group = "to")]
    to_all: bool,
    /// First line of the notification.
    #[arg(long)]
    title: Option<String>,
    /// Text of the notification.
    #[arg(long)]
    body: Option<String>,
    /// A value for the app; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    data: Vec<String>,
    /// Whether a person waits for it.
    #[arg(long, value_parser = ["transactional", "marketing"], default_value = "transactional")]
    class: String,
    /// How many seconds it may be delivered.
    #[arg(long, value_name = "SECONDS")]
    ttl_seconds: Option<u32>,
    /// A word for reports.
    #[arg(long)]
    label: Option<String>,
    /// Wait until nothing is pending, and show the counts as they change.
    #[arg(long)]
    follow: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let client = args.remote.client()?;
    let answer = client.call(Method::POST, "/v1/messages", Some(&message(&args)?), true).await?;
    let id = answer["id"].as_str().context("the gateway answered without a message id")?.to_owned();
    if args.json {
        say(&answer);
    } else {
        say(format_args!("accepted {id}"));
    }
    if args.follow { follow(&client, &id, args.json).await } else { Ok(()) }
}

fn message(args: &Args) -> anyhow::Result<Value> {
    let to = if !args.to_device.is_empty() {
        json!({"device_ids": args.to_device})
    } else if !args.to_user.is_empty() {
        json!({"user_ids": args.to_user})
    } else if let Some(tag) = &args.to_tag {
        json!({"audience": {"tag": tag}})
    } else {
        json!({"audience": {"all": true}})
    };
    let mut message = json!({"to": to, "class": args.class});
    for (name, text) in [("title", &args.title), ("body", &args.body)] {
        if let Some(text) = text {
            message["notification"][name] = text.as_str().into();
        }
    }
    if !args.data.is_empty() {
        let pairs = args.data.iter().map(|pair| pair.split_once('=').context("--data takes KEY=VALUE"));
        message["data"] = json!(pairs.collect::<Result<BTreeMap<_, _>, _>>()?);
    }
    if let Some(label) = &args.label {
        message["label"] = label.as_str().into();
    }
    if let Some(seconds) = args.ttl_seconds {
        message["ttl_seconds"] = seconds.into();
    }
    Ok(message)
}

async fn follow(client: &Client, id: &str, as_json: bool) -> anyhow::Result<()> {
    let mut last = Value::Null;
    loop {
        let now = client.call(Method::GET, &format!("/v1/messages/{id}"), None, true).await?;
        if now["counts"] != last {
            last = now["counts"].clone();
            if as_json { say(&now) } else { say(line(&now)) }
        }
        match now["state"].as_str() {
            Some("done" | "cancelled") => return Ok(()),
            Some(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            None => bail!("the gateway answered without a state"),
        }
    }
}

fn line(message: &Value) -> String {
    let mut text =
        format!("{} of {}:", message["state"].as_str().unwrap_or("?"), message["counts"]["targeted"]);
    for (state, n) in message["counts"]["now"].as_object().into_iter().flatten() {
        if n.as_u64() != Some(0) {
            // Writing into a String cannot fail.
            let _ = write!(text, " {state} {n}");
        }
    }
    text
}
