//! `anypush keys`: makes, lists and revokes API keys, at a running gateway or directly in its data directory.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use http::Method;
use serde_json::{Value, json};

use super::client::{Remote, escape};
use super::{Config, say, table};
use crate::api::auth::{Auth, NewKey, SCOPES};
use crate::api::keys::view;
use crate::app;
use crate::audit::{self, Who};
use crate::clock::Clock;

/// Make, list and revoke API keys.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anypush keys create --admin --data-dir data                    while no gateway runs on that directory
  anypush keys create --app shop --scope messages:write          at the gateway of ANYPUSH_URL, with ANYPUSH_API_KEY
  anypush keys list --app shop
  anypush keys revoke --app shop 1a2B3c4D")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a key and print it: the only time that it is seen.
    #[command(after_help = "\
Examples:
  anypush keys create --admin --data-dir data
  anypush keys create --app shop --scope messages:write --scope devices:write --name backend")]
    Create {
        /// What it is for.
        #[arg(long, default_value = "made by the command line")]
        name: String,
        /// What it may do; all scopes if none is given.
        #[arg(long = "scope", value_name = "SCOPE", value_parser = SCOPES)]
        scopes: Vec<String>,
        /// For how many seconds it is good; for ever if absent.
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(60..=315_360_000))]
        expires_in_seconds: Option<u64>,
        #[command(flatten)]
        place: Place,
    },
    /// List keys, without their secrets.
    #[command(after_help = "Example:\n  anypush keys list --app shop")]
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Revoke a key, at once.
    #[command(after_help = "Example:\n  anypush keys revoke --app shop 1a2B3c4D")]
    Revoke {
        /// The key's id: the first eight characters after the second underscore.
        id: String,
        #[command(flatten)]
        place: Place,
    },
}

/// Whose keys, and where.
#[derive(Debug, clap::Args)]
struct Place {
    /// Admin keys, which act for every app; only with --data-dir or --config.
    #[arg(long)]
    admin: bool,
    #[command(flatten)]
    config: Config,
    #[command(flatten)]
    remote: Remote,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let place = match &args.action {
        Action::Create { place, .. } | Action::List { place } | Action::Revoke { place, .. } => place,
    };
    let answer = if place.config.data_dir.is_some() || place.config.config.is_some() {
        in_directory(&args.action, place).await?
    } else if place.admin {
        bail!(
            "admin keys are made where the data is: give --data-dir or --config, while no gateway runs there"
        )
    } else {
        at_gateway(&args.action, place).await?
    };
    print(&answer, place.json);
    Ok(())
}

async fn in_directory(action: &Action, place: &Place) -> anyhow::Result<Value> {
    audit::acting(Who::CommandLine.into(), in_its_name(action, place)).await
}

async fn in_its_name(action: &Action, place: &Place) -> anyhow::Result<Value> {
    // A first key is made before there is anything.
    let is_new = matches!(action, Action::Create { .. });
    let settings = if is_new { place.config.load(Vec::new())? } else { place.config.load_existing()? };
    let clock = Clock::system();
    let (store, vault) = app::open(&settings, &clock).await?;
    let auth = Auth::new(store.clone(), vault, clock.clone(), settings.environment.clone(), Arc::default());
    let app = match (&place.remote.app, place.admin) {
        (_, true) => None,
        (Some(name), false) => {
            Some(auth.app(name).await?.context("there is no such app in this directory")?.seq)
        }
        (None, false) => bail!("say whose key: --app APP, or --admin"),
    };
    let answer = match action {
        Action::Create { name, scopes, expires_in_seconds, .. } => {
            let expires_at = expires_in_seconds.map(|seconds| clock.now_ms() + seconds * 1000);
            let scopes = if app.is_none() { Vec::new() } else { all_if_none(scopes) };
            let (record, key) =
                auth.create_key(NewKey { app, name: name.clone(), scopes, expires_at }).await?;
            let mut answer = view(&record);
            answer["key"] = key.into();
            answer
        }
        Action::List { .. } => json!({"data": store.keys(app).await?.iter().map(view).collect::<Vec<_>>()}),
        Action::Revoke { id, .. } => {
            if !auth.revoke_key(app, id).await? {
                bail!("there is no key {id} of this owner");
            }
            json!({"id": id, "revoked": true})
        }
    };
    store.close().await;
    Ok(answer)
}

async fn at_gateway(action: &Action, place: &Place) -> anyhow::Result<Value> {
    let app = place.remote.app.as_deref().context("say whose keys: --app APP")?;
    let client = place.remote.client()?;
    let path = format!("/v1/apps/{}/keys", escape(app));
    match action {
        Action::Create { name, scopes, expires_in_seconds, .. } => {
            let mut body = json!({"name": name, "scopes": all_if_none(scopes)});
            if let Some(seconds) = expires_in_seconds {
                body["expires_in_seconds"] = (*seconds).into();
            }
            client.call(Method::POST, &path, Some(&body), false).await
        }
        Action::List { .. } => client.call(Method::GET, &format!("{path}?limit=100"), None, false).await,
        Action::Revoke { id, .. } => {
            client.call(Method::DELETE, &format!("{path}/{}", escape(id)), None, false).await?;
            Ok(json!({"id": id, "revoked": true}))
        }
    }
}

fn all_if_none(scopes: &[String]) -> Vec<String> {
    if scopes.is_empty() { SCOPES.map(String::from).to_vec() } else { scopes.to_vec() }
}

fn print(answer: &Value, as_json: bool) {
    if as_json {
        say(answer);
    } else if let Some(keys) = answer["data"].as_array() {
        let mut table = table(&["id", "name", "scopes", "created", "revoked"]);
        for key in keys {
            let text = |name: &str| key[name].as_str().unwrap_or("-").to_owned();
            let scopes: Vec<_> =
                key["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            table.add_row([
                text("id"),
                text("name"),
                scopes.join(" "),
                text("created_at"),
                text("revoked_at"),
            ]);
        }
        say(table);
    } else if let Some(key) = answer["key"].as_str() {
        say(key);
    } else {
        say(format_args!("revoked {}", answer["id"].as_str().unwrap_or_default()));
    }
}
