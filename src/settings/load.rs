//! Lays file and environment over the defaults, and collects every mistake on the way.

use std::fmt;
use std::path::Path;

use toml::{Table, Value};

use super::Settings;

/// `config/default.toml`: every key with its explanation.
pub const DEFAULT: &str = include_str!("../../config/default.toml");

/// One mistake in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Which key.
    pub key: String,
    /// What it was set to.
    pub value: String,
    /// How to mend it.
    pub remedy: String,
}

impl Mistake {
    /// A mistake: key, value, remedy.
    pub fn new(key: &str, value: impl fmt::Display, remedy: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.to_string(), remedy: remedy.into() }
    }
}

/// All mistakes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is wrong:")?;
        for Mistake { key, value, remedy } in &self.0 {
            // Escaped: a value may hold line breaks and terminal codes.
            write!(f, "\n  {key} = {value:?}: {remedy}")?;
        }
        Ok(())
    }
}

impl Settings {
    /// The defaults alone.
    pub fn defaults() -> Self {
        Self::load(None, |_| None, &[]).expect("config/default.toml is tested")
    }

    /// Defaults, then a file, then `ANYPUSH_…` variables (`variable` answers by name), then `given` (key, value).
    pub fn load(
        file: Option<&Path>,
        variable: impl Fn(&str) -> Option<String>,
        given: &[(&str, String)],
    ) -> Result<Self, Mistakes> {
        let mut wrong = Vec::new();
        let mut table: Table = toml::from_str(DEFAULT).expect("config/default.toml is tested");
        if let Some(path) = file {
            match read(path) {
                Ok(own) => lay_over(&mut table, own, "", &mut wrong),
                Err(mistake) => wrong.push(mistake),
            }
        }
        for key in keys(&table) {
            let name = variable_of(&key);
            if let Some(text) = variable(&name) {
                set_text(&mut table, &key, &text, &name, &mut wrong);
            }
        }
        for (key, text) in given {
            set_text(&mut table, key, text, key, &mut wrong);
        }
        // Keys that are wrong fall back to their defaults here, so that the rest is checked too.
        let settings = settle(&table, &mut wrong);
        wrong.extend(settings.check());
        if wrong.is_empty() { Ok(settings) } else { Err(Mistakes(wrong)) }
    }
}

/// The environment variable of a key.
pub(super) fn variable_of(key: &str) -> String {
    format!("ANYPUSH_{}", key.replace('.', "_").to_uppercase())
}

/// All keys of a table, sections joined by a dot.
pub(super) fn keys(table: &Table) -> Vec<String> {
    let mut all = Vec::new();
    for (name, value) in table {
        match value {
            Value::Table(section) => all.extend(keys(section).iter().map(|key| format!("{name}.{key}"))),
            _ => all.push(name.clone()),
        }
    }
    all
}

fn read(path: &Path) -> Result<Table, Mistake> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Mistake::new("--config", &shown, format!("the file cannot be read: {error}")))?;
    toml::from_str(&text).map_err(|error| Mistake::new("--config", &shown, format!("no valid TOML: {error}")))
}

fn lay_over(base: &mut Table, own: Table, section: &str, wrong: &mut Vec<Mistake>) {
    for (name, value) in own {
        let key = if section.is_empty() { name.clone() } else { format!("{section}.{name}") };
        match (base.get_mut(&name), value) {
            (Some(Value::Table(inner)), Value::Table(own)) => lay_over(inner, own, &key, wrong),
            (Some(old), value) if old.same_type(&value) => *old = value,
            (Some(old), value) => {
                wrong.push(Mistake::new(&key, value, format!("give a value of type {}", old.type_str())));
            }
            (None, value) => {
                let shown = if value.is_table() { "[…]".into() } else { value.to_string() };
                wrong.push(Mistake::new(&key, shown, "there is no such key; config/default.toml lists them"));
            }
        }
    }
}

fn set_text(table: &mut Table, key: &str, text: &str, shown: &str, wrong: &mut Vec<Mistake>) {
    match place(table, key) {
        Some(Value::String(old)) => text.clone_into(old),
        Some(Value::Integer(old)) => match text.parse() {
            Ok(number) => *old = number,
            Err(_) => wrong.push(Mistake::new(shown, text, "give a whole number")),
        },
        Some(Value::Boolean(old)) => match text.parse() {
            Ok(flag) => *old = flag,
            Err(_) => wrong.push(Mistake::new(shown, text, "give true or false")),
        },
        // As a variable, a list is separated by commas. What is no number among numbers is found when it is settled.
        Some(Value::Array(old)) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            let numbers = old.first().is_some_and(Value::is_integer);
            let read = |item: &str| match item.parse() {
                Ok(number) if numbers => Value::Integer(number),
                _ => Value::String(item.to_owned()),
            };
            *old = items.map(read).collect();
        }
        _ => wrong.push(Mistake::new(shown, text, "there is no such key; config/default.toml lists them")),
    }
}

/// Reads the settled table one key after the other: serde alone would stop at the first mistake.
fn settle(table: &Table, wrong: &mut Vec<Mistake>) -> Settings {
    let read = |table: &Table| Value::Table(table.clone()).try_into::<Settings>();
    let mut good: Table = toml::from_str(DEFAULT).expect("config/default.toml is tested");
    for key in keys(table) {
        let (Some(value), Some(slot)) = (place(&mut table.clone(), &key).cloned(), place(&mut good, &key))
        else {
            continue;
        };
        let before = std::mem::replace(slot, value.clone());
        if let Err(error) = read(&good) {
            wrong.push(Mistake::new(&key, value, error.message()));
            if let Some(slot) = place(&mut good, &key) {
                *slot = before;
            }
        }
    }
    read(&good).expect("each key was read alone")
}

/// Where the value of a key stands.
fn place<'t>(table: &'t mut Table, key: &str) -> Option<&'t mut Value> {
    match key.split_once('.') {
        Some((section, name)) => table.get_mut(section)?.as_table_mut()?.get_mut(name),
        None => table.get_mut(key),
    }
}
