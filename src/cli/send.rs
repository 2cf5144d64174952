//! `anypush send`: one message from the command line.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use http::Method;
use serde_json::{Value, json};

use super::client::{Client, Remote};
use super::{dry_run, say};

/// Send a message.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("to").required(true),
    after_help = "\
Examples:
  anypush send --to-tag vip --title Sale --body 'Only today' --class marketing
  anypush send --to-device phone-1 --title Hello --follow
  anypush send --to-tag vip --title Sale --class marketing --dry-run
  anypush send --to-all --data kind=refresh --class marketing --json"
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
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
    /// Show what would become of it; nothing is stored or sent.
    #[arg(long, conflicts_with = "follow")]
    dry_run: bool,
    /// A category of the app.
    #[arg(long, value_name = "NAME")]
    category: Option<String>,
    /// Wait until nothing is pending, and show the counts as they change.
    #[arg(long)]
    follow: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let client = args.remote.client()?;
    if args.dry_run {
        let path = "/v1/messages?dry_run=true";
        let answer = client.call(Method::POST, path, Some(&message(&args)?), true).await?;
        say(if args.json { answer.to_string() } else { dry_run::text(&answer) });
        return Ok(());
    }
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
    if let Some(category) = &args.category {
        message["category"] = category.as_str().into();
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
    let mut pace = Pace::default();
    loop {
        let now = client.call(Method::GET, &format!("/v1/messages/{id}"), None, true).await?;
        if now["counts"] != last {
            last = now["counts"].clone();
            let rate = pace.rate(Instant::now(), done(&now));
            if as_json { say(&now) } else { say(line(&now, rate)) }
        }
        match now["state"].as_str() {
            Some("done" | "cancelled") => return Ok(()),
            Some(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            None => bail!("the gateway answered without a state"),
        }
    }
}

/// How fast targets come to an outcome, over the last few looks.
#[derive(Debug, Default)]
struct Pace(VecDeque<(Instant, u64)>);

impl Pace {
    /// Targets a second; `None` at the first look.
    fn rate(&mut self, at: Instant, done: u64) -> Option<u64> {
        self.0.push_back((at, done));
        if self.0.len() > 10 {
            self.0.pop_front();
        }
        let (began, before) = *self.0.front()?;
        let millis = at.duration_since(began).as_millis() as u64;
        (millis > 0).then(|| done.saturating_sub(before) * 1000 / millis)
    }
}

/// Targets that have an outcome.
fn done(message: &Value) -> u64 {
    let count = |pointer| message.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    count("/counts/targeted").saturating_sub(count("/counts/now/pending"))
}

fn line(message: &Value, rate: Option<u64>) -> String {
    let counts = &message["counts"];
    let (done, targeted) = (done(message), &counts["targeted"]);
    let left = counts["now"]["pending"].as_u64().unwrap_or(0);
    let mut text =
        format!("{}: {done} of {targeted} done, {left} left", message["state"].as_str().unwrap_or("?"));
    // Writing into a String cannot fail.
    if let Some(rate) = rate {
        let _ = write!(text, ", {rate}/s");
    }
    for (state, n) in counts["now"].as_object().into_iter().flatten() {
        if n.as_u64() != Some(0) && state != "pending" {
            let _ = write!(text, "; {state} {n}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_done_left_and_rate() {
        let counts = json!({"targeted": 10, "now": {"pending": 4, "accepted": 5, "failed": 1, "unknown": 0}});
        let message = json!({"state": "sending", "counts": counts});
        assert_eq!(line(&message, Some(12)), "sending: 6 of 10 done, 4 left, 12/s; accepted 5; failed 1");
    }

    #[test]
    fn the_rate_is_that_of_the_last_few_looks() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(pace.rate(start, 0), None);
        for look in 1..=20 {
            let rate = pace.rate(start + Duration::from_millis(500 * look), 100 * look);
            assert_eq!(rate, Some(200));
        }
    }
}
