//! `anypush export`: what a gateway has, as a file for `anypush apply`, without secrets.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::filled;
use crate::cli::client::{Client, Refused, Remote, escape};
use crate::cli::say;

/// Write what a gateway has as a file for `anypush apply`: apps, channels, categories, rules for routes,
/// webhooks, registration keys. Secrets are left out.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anypush export > push.toml               all apps; needs an admin key
  anypush export --app shop > shop.toml    one app; a key of that app will do

An app's key needs the scopes channels:read, webhooks:write and devices:read; what it may not see is left out, and
the file says so.")]
pub(in crate::cli) struct ExportArgs {
    #[command(flatten)]
    remote: Remote,
}

pub(in crate::cli) async fn export(args: ExportArgs) -> anyhow::Result<()> {
    let client = args.remote.client()?;
    let apps = match &args.remote.app {
        Some(_) => vec![client.call(http::Method::GET, &args.remote.app_path()?, None, false).await?],
        None => client.all("/v1/apps").await?,
    };
    let mut text = String::from(
        "# For `anypush apply -f FILE`. Secrets are not in it: put { from_env = \"…\" }, { from_file = \"…\" } or\n# { from_json = \"…\" } where a line says so. A gateway that has them keeps them where the file leaves them out.\n",
    );
    for app in &apps {
        text += &one(&client, app["name"].as_str().unwrap_or_default()).await?;
    }
    say(text.trim_end());
    Ok(())
}

async fn one(client: &Client, app: &str) -> anyhow::Result<String> {
    let path = format!("/v1/apps/{}", escape(app));
    let channels = client.all(&format!("{path}/channels")).await?;
    let categories = client.all(&format!("{path}/categories")).await?;
    let rules = client.call(http::Method::GET, &format!("{path}/routes"), None, false).await?["rules"].take();
    let mut text = String::new();
    // The gateway's own channel comes with the app.
    let own = channels.iter().filter(|channel| channel["tier"] != "direct");
    for channel in own {
        text += "\n";
        let secrets = channel["secrets"].as_object().into_iter().flatten();
        for (name, _) in secrets.filter(|(_, secret)| secret["set"] == true) {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "# config.{name} is set and secret");
        }
        let body = json!({
            "provider": channel["provider"],
            "limits": filled(&channel["limits"]),
            "config": channel["config"],
        });
        text += &section(app, "channels", channel, body)?;
    }
    for category in &categories {
        text += "\n";
        let body = json!({"class": category["class"], "providers": category["providers"]});
        text += &section(app, "categories", category, body)?;
    }
    if rules.as_array().is_some_and(|rules| !rules.is_empty()) {
        text += "\n";
        text += &toml::to_string(&json!({"apps": {app: {"routes": without_nothing(rules)}}}))?;
    }
    for (kind, members) in [("registration_keys", &KEY[..]), ("webhooks", &WEBHOOK[..])] {
        text += &list(client, app, &path, kind, members).await?;
    }
    if text.is_empty() {
        text = format!("\n{}", toml::to_string(&json!({"apps": {app: {}}}))?);
    }
    Ok(text)
}

/// What of a registration key and of a webhook a file says.
const KEY: [&str; 3] = ["name", "algorithm", "public_key"];
const WEBHOOK: [&str; 4] = ["url", "events", "description", "signature"];

/// Items without a name of their own.
async fn list(
    client: &Client,
    app: &str,
    path: &str,
    kind: &str,
    members: &[&str],
) -> anyhow::Result<String> {
    let items = match client.all(&format!("{path}/{kind}")).await {
        Ok(items) => items,
        Err(error) if error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == 403) => {
            return Ok(format!("\n# apps.{app}.{kind} is left out: this key may not see it.\n"));
        }
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    for item in items.iter().filter(|item| item["revoked_at"].is_null()) {
        let says = |name: &&&str| !item[**name].is_null() && item[**name] != "";
        let mut body: Map<_, _> =
            members.iter().filter(says).map(|name| ((*name).to_owned(), item[*name].clone())).collect();
        // One that the gateway disabled is not meant to be so.
        if item["disabled_reason"] == "by_request" {
            body.insert("state".to_owned(), "disabled".into());
        }
        text += "\n";
        text += &toml::to_string(&json!({"apps": {app: {kind: [body]}}}))?;
    }
    Ok(text)
}

/// One item below its whole heading.
fn section(app: &str, kind: &str, item: &Value, body: Value) -> anyhow::Result<String> {
    let name = item["name"].as_str().unwrap_or_default();
    let whole = json!({"apps": {app: {kind: {name: without_nothing(body)}}}});
    Ok(toml::to_string(&whole)?)
}

/// TOML has no null, and an empty table says nothing.
fn without_nothing(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().map(|(name, value)| (name, without_nothing(value)));
            kept.filter(|(_, value)| !value.is_null() && *value != json!({})).collect::<Map<_, _>>().into()
        }
        Value::Array(items) => {
            items.into_iter().map(without_nothing).filter(|item| !item.is_null()).collect()
        }
        other => other,
    }
}
