//! `anypush apply`: makes a running gateway have what a file says. `anypush export` writes such a file.

mod export;
mod file;
mod lists;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use http::Method;
use serde_json::{Map, Value, json};

use self::file::{App, File};
use super::client::{Client, Remote, escape};
use super::say;

pub(super) use self::export::{ExportArgs, export};

/// Make a running gateway have what a file says: apps, channels, categories, rules for routes, webhooks,
/// registration keys. What the file does not name stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anypush apply -f push.toml --dry-run     what would change
  anypush apply -f push.toml               change it; again, and nothing changes
  anypush export > push.toml               what is there, without secrets

A value that is secret stands elsewhere: { from_env = \"NAME\" }, { from_file = \"key.p8\" } or, for a key file in JSON,
{ from_json = \"service-account.json\" }. The secrets of webhooks and registration keys that it makes are printed, once.
config/example.apply.toml shows a whole file. Needs an admin key.")]
pub(super) struct Args {
    #[command(flatten)]
    remote: Remote,
    /// The file (TOML).
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Show what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

/// What became of one thing that the file names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Done {
    Created,
    Changed,
    Unchanged,
    /// Only a gateway that is given the secrets can tell.
    Put,
}

impl Done {
    fn word(self, dry_run: bool) -> &'static str {
        match (self, dry_run) {
            (Self::Created, false) => "created",
            (Self::Created, true) => "would be created",
            (Self::Changed, false) => "changed",
            (Self::Changed, true) => "would be changed",
            (Self::Unchanged, _) => "unchanged",
            (Self::Put, _) => "would be put (its secrets may differ)",
        }
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let file = file::read(&args.file, |name| std::env::var(name).ok())?;
    let client = args.remote.client()?;
    let mut work = Work { client, dry_run: args.dry_run, json: args.json, told: BTreeMap::new() };
    let applied = work.apply(&file).await;
    work.sum_up();
    applied.context("what is told above is done; mend the rest and apply again")
}

struct Work {
    client: Client,
    dry_run: bool,
    json: bool,
    told: BTreeMap<Done, usize>,
}

impl Work {
    async fn apply(&mut self, file: &File) -> anyhow::Result<()> {
        let apps = self.client.all("/v1/apps").await?;
        for (name, wanted) in &file.apps {
            let is_there = apps.iter().any(|app| app["name"] == **name || app["id"] == **name);
            if is_there {
                self.tell("app", name, Done::Unchanged);
            } else {
                self.change(Method::POST, "/v1/apps", &json!({"name": name})).await?;
                self.tell("app", name, Done::Created);
            }
            self.categories(name, wanted, is_there).await?;
            self.channels(name, wanted, is_there).await?;
            // After them: rules name channels.
            self.routes(name, wanted, is_there).await?;
            self.registration_keys(name, wanted, is_there).await?;
            self.webhooks(name, wanted, is_there).await?;
        }
        Ok(())
    }

    async fn channels(&mut self, app: &str, wanted: &App, is_there: bool) -> anyhow::Result<()> {
        let path = format!("/v1/apps/{}/channels", escape(app));
        let now = self.now(&path, !wanted.channels.is_empty() && is_there).await?;
        for (name, body) in &wanted.channels {
            let shown = format!("{app}/{name}");
            let before = now.get(name);
            if before.is_some_and(|before| has(before, body)) {
                self.tell("channel", &shown, Done::Unchanged);
                continue;
            }
            let put = format!("{path}/{}", escape(name));
            let after = self.change(Method::PUT, &put, &json!(body)).await;
            let after = after.with_context(|| format!("channel {shown}"))?;
            let done = match (before, after) {
                (None, _) => Done::Created,
                (Some(before), Some(after)) if is_same(before, &after) => Done::Unchanged,
                (Some(before), None) if gives_secrets(before, body) => Done::Put,
                (Some(_), _) => Done::Changed,
            };
            self.tell("channel", &shown, done);
        }
        Ok(())
    }

    async fn categories(&mut self, app: &str, wanted: &App, is_there: bool) -> anyhow::Result<()> {
        let path = format!("/v1/apps/{}/categories", escape(app));
        let now = self.now(&path, !wanted.categories.is_empty() && is_there).await?;
        for (name, body) in &wanted.categories {
            let shown = format!("{app}/{name}");
            let none = json!({});
            let same = |before: &Value| {
                before["class"] == body.get("class").cloned().unwrap_or_default()
                    && before["providers"] == *body.get("providers").unwrap_or(&none)
            };
            let done = match now.get(name) {
                Some(before) if same(before) => Done::Unchanged,
                Some(_) => Done::Changed,
                None => Done::Created,
            };
            if done != Done::Unchanged {
                let put = format!("{path}/{}", escape(name));
                self.change(Method::PUT, &put, &json!(body))
                    .await
                    .with_context(|| format!("category {shown}"))?;
            }
            self.tell("category", &shown, done);
        }
        Ok(())
    }

    async fn routes(&mut self, app: &str, wanted: &App, is_there: bool) -> anyhow::Result<()> {
        let Some(rules) = &wanted.routes else { return Ok(()) };
        let path = format!("/v1/apps/{}/routes", escape(app));
        let before = if is_there {
            self.client.call(Method::GET, &path, None, false).await?["rules"].take()
        } else {
            json!([])
        };
        let after = self.change(Method::PUT, &path, &json!({"rules": rules})).await;
        let after = after.with_context(|| format!("routes of {app}"))?;
        let after = after.map_or_else(|| with_defaults(rules), |mut after| after["rules"].take());
        let done = if before == after { Done::Unchanged } else { Done::Changed };
        self.tell("routes", app, done);
        Ok(())
    }

    /// What the gateway has of a kind, by name.
    async fn now(&self, path: &str, is_there: bool) -> anyhow::Result<BTreeMap<String, Value>> {
        let all = if is_there { self.client.all(path).await? } else { Vec::new() };
        let named = |item: Value| Some((item["name"].as_str()?.to_owned(), item));
        Ok(all.into_iter().filter_map(named).collect())
    }

    /// Calls, unless nothing is to be changed.
    async fn change(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Option<Value>> {
        if self.dry_run {
            return Ok(None);
        }
        self.client.call(method, path, Some(body), false).await.map(Some)
    }

    fn tell(&mut self, kind: &str, name: &str, done: Done) {
        self.tell_with(kind, name, done, None);
    }

    /// Tells also the id and the secret of what was made, where it has one.
    fn tell_with(&mut self, kind: &str, name: &str, done: Done, secret: Option<(&str, &str)>) {
        *self.told.entry(done).or_default() += 1;
        let word = done.word(self.dry_run);
        let mut told = json!({"kind": kind, "name": name, "result": word});
        if let Some((id, secret)) = secret {
            (told["id"], told["secret"]) = (id.into(), secret.into());
        }
        if self.json {
            return say(told);
        }
        say(format_args!("{kind:<16} {name:<32} {word}"));
        if let Some((id, secret)) = secret {
            say(format_args!("{:<16} {id}: keep its secret, it is shown this once: {secret}", ""));
        }
    }

    fn sum_up(&self) {
        if !self.json {
            let parts = self.told.iter().map(|(done, count)| format!("{count} {}", done.word(self.dry_run)));
            let parts: Vec<_> = parts.collect();
            say(if parts.is_empty() { "the file names no app".into() } else { parts.join(", ") });
        }
    }
}

/// Whether a channel is already what the body asks for: only where the body gives no secret.
fn has(before: &Value, body: &Map<String, Value>) -> bool {
    let none = json!({});
    let limits = body.get("limits").unwrap_or(&none);
    !gives_secrets(before, body)
        && body.get("provider") == Some(&before["provider"])
        && *body.get("config").unwrap_or(&none) == before["config"]
        && filled(limits) == filled(&before["limits"])
}

fn gives_secrets(before: &Value, body: &Map<String, Value>) -> bool {
    let given = body.get("config").and_then(Value::as_object);
    let is_secret = |name: &String| before["secrets"].get(name).is_some();
    given.is_some_and(|given| given.keys().any(is_secret))
}

/// Whether two views of a channel differ in nothing that an operator sets.
fn is_same(before: &Value, after: &Value) -> bool {
    ["provider", "config", "limits", "secrets"].iter().all(|name| before[name] == after[name])
}

/// An object without members that say nothing.
fn filled(value: &Value) -> Value {
    let says = |(_, value): &(&String, &Value)| !value.is_null() && **value != json!({});
    let members = value.as_object().into_iter().flatten().filter(says);
    members.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>().into()
}

/// Rules as the gateway will show them.
fn with_defaults(rules: &[Value]) -> Value {
    let mut rules = rules.to_vec();
    for rule in rules.iter_mut().filter_map(Value::as_object_mut) {
        rule.entry("match").or_insert_with(|| json!({}));
        let steps = rule.get_mut("steps").and_then(Value::as_array_mut).into_iter().flatten();
        for step in steps.filter_map(Value::as_object_mut) {
            step.entry("until").or_insert_with(|| "accepted".into());
            step.entry("if_blind").or_insert_with(|| "go".into());
        }
    }
    rules.into()
}
