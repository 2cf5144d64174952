//! Reads members off a JSON object and collects every mistake with its JSON pointer.
//!
//! A handler takes what it knows and calls [`Fields::finish`]; whatever is left then is an unknown field.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::problem::{Answer, FieldError, Problem};

/// Mistakes that are answered: a body of two megabytes could hold a million.
const SHOWN: usize = 50;

/// All mistakes of a request.
#[derive(Debug, Default)]
pub(crate) struct Mistakes(RefCell<Vec<FieldError>>);

impl Mistakes {
    /// Notes a value that is wrong.
    pub(crate) fn add(&self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.code("invalid_field", pointer, detail);
    }

    /// Whether all is well so far.
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// The answer, where there are mistakes.
    pub(crate) fn finish(self) -> Answer<()> {
        let errors = self.0.into_inner();
        if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
    }

    /// Notes what is wrong under a code of its own.
    pub(super) fn code(&self, code: &'static str, pointer: impl Into<String>, detail: impl Into<String>) {
        let mut all = self.0.borrow_mut();
        if all.len() < SHOWN {
            all.push(FieldError { pointer: pointer.into(), code, detail: detail.into() });
        }
    }
}

/// What a text may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    least: usize,
    most: usize,
    lines: bool,
    raw: bool,
}

impl Text {
    /// One line without control characters: 1 to `most` bytes.
    pub(super) const fn line(most: usize) -> Self {
        Self { least: 1, most, lines: false, raw: false }
    }

    /// May have line breaks and tabs, and may be empty: up to `most` bytes.
    pub(super) const fn prose(most: usize) -> Self {
        Self { least: 0, most, lines: true, raw: false }
    }

    /// Anything but NUL: up to `most` bytes.
    pub(super) const fn raw(most: usize) -> Self {
        Self { least: 0, most, lines: true, raw: true }
    }

    /// What is wrong with a text.
    pub(super) fn wrong(self, text: &str) -> Option<String> {
        let allowed = |c: char| {
            !c.is_control() || (self.raw && c != '\0') || (self.lines && matches!(c, '\n' | '\r' | '\t'))
        };
        if text.len() < self.least {
            Some("must not be empty; leave it out instead".into())
        } else if text.len() > self.most {
            Some(format!("has {} bytes, at most {} are allowed", text.len(), self.most))
        } else if !text.chars().all(allowed) {
            Some("has control characters; remove them".into())
        } else {
            None
        }
    }
}

/// The members of one object.
pub(super) struct Fields<'m> {
    members: Map<String, Value>,
    pointer: String,
    wrong: &'m Mistakes,
}

impl<'m> Fields<'m> {
    /// The members of a value that should be an object.
    pub(super) fn of(value: Value, pointer: impl Into<String>, wrong: &'m Mistakes) -> Self {
        let pointer = pointer.into();
        let members = if let Value::Object(members) = value {
            members
        } else {
            wrong.add(&pointer, "must be an object");
            Map::new()
        };
        Self { members, pointer, wrong }
    }

    /// The pointer of a member.
    pub(super) fn at(&self, name: &str) -> String {
        format!("{}/{}", self.pointer, escape(name))
    }

    /// Notes a mistake about a member.
    pub(super) fn refuse(&self, name: &str, detail: impl Into<String>) {
        self.wrong.add(self.at(name), detail);
    }

    /// Notes a mistake about the object itself.
    pub(super) fn refuse_all(&self, detail: impl Into<String>) {
        self.wrong.add(self.pointer.clone(), detail);
    }

    /// Whether a member is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// A member as it is.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name)
    }

    /// Whether a member is `null`, which clears it; it is taken then.
    pub(super) fn cleared(&mut self, name: &str) -> bool {
        let null = self.members.get(name) == Some(&Value::Null);
        if null {
            self.members.remove(name);
        }
        null
    }

    /// A text.
    pub(super) fn text(&mut self, name: &str, form: Text) -> Option<String> {
        let value = self.take(name)?;
        self.wrong.text(value, self.at(name), form)
    }

    /// A text that must be there.
    pub(super) fn needed(&mut self, name: &str, form: Text) -> String {
        if !self.has(name) {
            self.refuse(name, "is required");
        }
        self.text(name, form).unwrap_or_default()
    }

    /// A whole number.
    pub(super) fn number(&mut self, name: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.take(name)?;
        // JSON Schema counts 1.0 among the whole numbers.
        let whole = value.as_f64().filter(|n| n.fract() == 0.0 && *n >= 0.0 && *n < 9e15).map(|n| n as u64);
        let number = value.as_u64().or(whole).filter(|n| range.contains(n));
        if number.is_none() {
            self.refuse(name, format!("must be a whole number from {} to {}", range.start(), range.end()));
        }
        number
    }

    /// A time in RFC 3339, as Unix milliseconds.
    pub(super) fn time(&mut self, name: &str) -> Option<u64> {
        let value = self.take(name)?;
        let found: Option<jiff::Timestamp> = value.as_str().and_then(|text| text.parse().ok());
        if found.is_none() {
            self.refuse(name, "must be a time such as 2026-12-01T09:00:00Z");
        }
        // Nothing is older than Unix time.
        found.map(|time| u64::try_from(time.as_millisecond()).unwrap_or(0))
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        let flag = self.take(name)?.as_bool();
        if flag.is_none() {
            self.refuse(name, "must be true or false");
        }
        flag
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(&mut self, name: &str, choices: &[(&str, T)]) -> Option<T> {
        let value = self.take(name)?;
        let found = choices.iter().find(|(word, _)| value.as_str() == Some(word)).map(|(_, chosen)| *chosen);
        if found.is_none() {
            let words: Vec<_> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
            self.refuse(name, format!("must be one of {}", words.join(", ")));
        }
        found
    }

    /// An object.
    pub(super) fn object(&mut self, name: &str) -> Option<Fields<'m>> {
        let value = self.take(name)?;
        Some(Fields::of(value, self.at(name), self.wrong))
    }

    /// A list: each item with its pointer.
    pub(super) fn list(&mut self, name: &str, most: usize) -> Option<Vec<(String, Value)>> {
        let at = self.at(name);
        let Value::Array(items) = self.take(name)? else {
            self.refuse(name, "must be a list");
            return None;
        };
        if items.len() > most {
            self.refuse(name, format!("has {} items, at most {most} are allowed", items.len()));
            return None;
        }
        Some(items.into_iter().enumerate().map(|(i, item)| (format!("{at}/{i}"), item)).collect())
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, name: &str, most: usize, form: Text) -> Option<Vec<String>> {
        let items = self.list(name, most)?;
        Some(items.into_iter().filter_map(|(at, item)| self.wrong.text(item, at, form)).collect())
    }

    /// An object of texts.
    pub(super) fn map(
        &mut self,
        name: &str,
        most: usize,
        keys: Text,
        values: Text,
    ) -> Option<BTreeMap<String, String>> {
        let inner = self.object(name)?;
        if inner.members.len() > most {
            self.refuse(name, format!("has {} members, at most {most} are allowed", inner.members.len()));
            return None;
        }
        let pair = |(key, value): (String, Value)| {
            let at = format!("{}/{}", inner.pointer, escape(&key));
            if let Some(why) = keys.wrong(&key) {
                self.wrong.add(at.clone(), format!("the key {why}"));
            }
            self.wrong.text(value, at, values).map(|value| (key, value))
        };
        Some(inner.members.into_iter().filter_map(pair).collect())
    }

    /// What is left, whatever its names: for members that somebody else checks.
    pub(super) fn rest(&mut self) -> Map<String, Value> {
        std::mem::take(&mut self.members)
    }

    /// Whatever nobody took is unknown.
    pub(super) fn finish(self) {
        for name in self.members.keys() {
            let at = format!("{}/{}", self.pointer, escape(name));
            self.wrong.code("unknown_field", at, "there is no such field here; check its spelling and place");
        }
    }
}

impl Mistakes {
    fn text(&self, value: Value, pointer: String, form: Text) -> Option<String> {
        let Value::String(text) = value else {
            self.add(pointer, "must be a string");
            return None;
        };
        match form.wrong(&text) {
            Some(why) => {
                self.add(pointer, why);
                None
            }
            None => Some(text),
        }
    }
}

/// A member's name inside a JSON pointer.
pub(super) fn escape(name: &str) -> String {
    let name: String = name.chars().take(64).collect();
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_mistakes_are_told_with_their_pointers() {
        let wrong = Mistakes::default();
        let value =
            json!({"a": "x\u{0}", "n": 9, "list": ["ok", 1], "map": {"k/1": 2}, "odd": 1, "flag": "yes"});
        let mut body = Fields::of(value, "", &wrong);
        assert_eq!(body.text("a", Text::line(10)), None);
        assert_eq!(body.number("n", 0..=5), None);
        assert_eq!(body.texts("list", 5, Text::line(10)).unwrap(), ["ok"]);
        assert!(body.map("map", 5, Text::line(10), Text::prose(10)).unwrap().is_empty());
        assert_eq!(body.flag("flag"), None);
        assert_eq!(body.needed("absent", Text::line(1)), "");
        body.finish();
        let problem = wrong.finish().unwrap_err();
        let found: Vec<_> = problem.errors.iter().map(|e| (e.pointer.as_str(), e.code)).collect();
        let invalid = "invalid_field";
        let expected = [
            ("/a", invalid),
            ("/n", invalid),
            ("/list/1", invalid),
            ("/map/k~11", invalid),
            ("/flag", invalid),
            ("/absent", invalid),
            ("/odd", "unknown_field"),
        ];
        assert_eq!(found, expected);
    }
}
