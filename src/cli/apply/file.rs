//! What an apply file says. Every mistake in it is told at once, before the gateway is asked for anything.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::settings::{Mistake, Mistakes};

/// A file: apps by name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// What each app is to have.
    #[serde(default)]
    pub(super) apps: BTreeMap<String, App>,
}

/// What one app is to have. What is not named here stays as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct App {
    /// Bodies of `PUT …/channels/{name}`.
    #[serde(default)]
    pub(super) channels: BTreeMap<String, Map<String, Value>>,
    /// Bodies of `PUT …/categories/{name}`.
    #[serde(default)]
    pub(super) categories: BTreeMap<String, Map<String, Value>>,
    /// The rules of `PUT …/routes`, in their order; `None` leaves them as they are.
    pub(super) routes: Option<Vec<Value>>,
    /// Bodies of `POST …/webhooks`, told apart by `url`.
    #[serde(default)]
    pub(super) webhooks: Vec<Map<String, Value>>,
    /// Bodies of `POST …/registration_keys`, told apart by `name`.
    #[serde(default)]
    pub(super) registration_keys: Vec<Map<String, Value>>,
}

/// Reads a file; values that stand elsewhere are fetched by `variable` and from the file's own directory.
pub(super) fn read(path: &Path, variable: impl Fn(&str) -> Option<String>) -> Result<File, Mistakes> {
    let shown = path.display();
    let wrong = |why: String| Mistakes(vec![Mistake::new("--file", &shown, why)]);
    let text =
        std::fs::read_to_string(path).map_err(|error| wrong(format!("the file cannot be read: {error}")))?;
    let mut file: File = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let mut elsewhere = Elsewhere { directory, variable, wrong: Vec::new() };
    for (name, app) in &mut file.apps {
        for (kind, items) in [("channels", &mut app.channels), ("categories", &mut app.categories)] {
            for (item, body) in items {
                for (member, value) in body {
                    elsewhere.fetch(&format!("apps.{name}.{kind}.{item}.{member}"), value);
                }
            }
        }
        let lists = [
            ("webhooks", "url", &mut app.webhooks),
            ("registration_keys", "name", &mut app.registration_keys),
        ];
        for (kind, known_by, items) in lists {
            for (index, body) in items.iter_mut().enumerate() {
                let place = format!("apps.{name}.{kind}[{index}]");
                for (member, value) in body.iter_mut() {
                    elsewhere.fetch(&format!("{place}.{member}"), value);
                }
                if !body.get(known_by).is_some_and(Value::is_string) {
                    let why = "is required, a text: it is known by this";
                    elsewhere.wrong.push(Mistake::new(&format!("{place}.{known_by}"), "", why));
                }
            }
        }
    }
    if elsewhere.wrong.is_empty() { Ok(file) } else { Err(Mistakes(elsewhere.wrong)) }
}

/// Values that stand elsewhere: `{ from_env = "NAME" }`, `{ from_file = "PATH" }`, `{ from_json = "PATH" }`. So the
/// file itself holds no secret.
struct Elsewhere<'f, V> {
    directory: &'f Path,
    variable: V,
    wrong: Vec<Mistake>,
}

impl<V: Fn(&str) -> Option<String>> Elsewhere<'_, V> {
    fn fetch(&mut self, key: &str, value: &mut Value) {
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.fetch(&format!("{key}[{index}]"), item);
                }
            }
            Value::Object(members) => match source(members) {
                Some((kind, place)) => match self.found(kind, place) {
                    Ok(found) => *value = found,
                    Err(why) => self.wrong.push(Mistake::new(&format!("{key}.{kind}"), place, why)),
                },
                None => {
                    for (name, member) in members.iter_mut() {
                        self.fetch(&format!("{key}.{name}"), member);
                    }
                }
            },
            _ => {}
        }
    }

    fn found(&self, kind: &str, place: &str) -> Result<Value, String> {
        if kind == "from_env" {
            let found = (self.variable)(place);
            return found.map(Value::String).ok_or_else(|| "this variable is not set".into());
        }
        let read = std::fs::read_to_string(self.directory.join(place));
        let text = read.map_err(|error| format!("the file cannot be read: {error}"))?;
        if kind == "from_file" {
            return Ok(Value::String(text));
        }
        // Not the parser's words: they may show a piece of the secret.
        serde_json::from_str(&text).map_err(|error| format!("no valid JSON in line {}", error.line()))
    }
}

/// The one member that says where a value stands.
fn source(members: &Map<String, Value>) -> Option<(&'static str, &str)> {
    let (name, value) = members.iter().next().filter(|_| members.len() == 1)?;
    let kind = ["from_env", "from_file", "from_json"].into_iter().find(|kind| kind == name)?;
    Some((kind, value.as_str()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(text: &str) -> (tempfile::TempDir, Result<File, Mistakes>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("key.json"), r#"{"private_key": "of the file"}"#).unwrap();
        std::fs::write(dir.path().join("broken.json"), r#"{"private_key": of the file"#).unwrap();
        std::fs::write(dir.path().join("apply.toml"), text).unwrap();
        let variable = |name: &str| (name == "AUTH_TOKEN").then(|| "of the environment".to_owned());
        let read = read(&dir.path().join("apply.toml"), variable);
        (dir, read)
    }

    #[test]
    fn secrets_come_from_the_environment_and_from_files_beside_the_file() {
        let (_dir, file) = written(
            r#"
            [apps.shop.channels.fcm]
            provider = "fcm"
            config.service_account = { from_json = "key.json" }
            [apps.shop.channels.sms]
            provider = "sms"
            config = { auth_token = { from_env = "AUTH_TOKEN" }, senders = ["a", { from_file = "key.json" }] }
            "#,
        );
        let shop = &file.unwrap().apps["shop"];
        assert_eq!(
            shop.channels["fcm"]["config"],
            json!({"service_account": {"private_key": "of the file"}})
        );
        let senders = json!(["a", r#"{"private_key": "of the file"}"#]);
        let expected = json!({"auth_token": "of the environment", "senders": senders});
        assert_eq!(shop.channels["sms"]["config"], expected);
    }

    #[test]
    fn all_that_is_missing_is_told_at_once_and_no_secret_with_it() {
        let (_dir, file) = written(
            r#"
            [apps.shop.channels.fcm.config]
            a = { from_env = "NOT_SET" }
            b = { from_json = "broken.json" }
            c = { from_file = "absent.p8" }
            "#,
        );
        let told = file.unwrap_err().to_string();
        for part in ["config.a.from_env = \"NOT_SET\"", "config.b.from_json", "line 1", "config.c.from_file"]
        {
            assert!(told.contains(part), "{part} in {told}");
        }
        assert!(!told.contains("of the file"), "{told}");
    }

    #[test]
    fn an_item_of_a_list_must_say_what_it_is_known_by() {
        let (_dir, file) = written(
            r#"
            [[apps.shop.webhooks]]
            url = { from_env = "AUTH_TOKEN" }
            [[apps.shop.webhooks]]
            events = ["message.done"]
            [[apps.shop.registration_keys]]
            name = 7
            "#,
        );
        let told = file.unwrap_err().to_string();
        for part in ["apps.shop.webhooks[1].url", "apps.shop.registration_keys[0].name"] {
            assert!(told.contains(part), "{part} in {told}");
        }
        assert!(!told.contains("webhooks[0]"), "{told}");
    }

    #[test]
    fn a_word_that_is_none_is_told_with_its_line() {
        let (_dir, file) = written("[apps.shop.chanels.fcm]\nprovider = \"fcm\"\n");
        let told = file.unwrap_err().to_string();
        assert!(told.contains("chanels") && told.contains("line 1"), "{told}");
    }
}
