//! Reads a channel's configuration field by field and keeps every mistake, so that a person mends all of them at
//! once. Texts of values are never repeated in a mistake: they may be secrets.

use serde_json::{Map, Value};
use url::Url;

use crate::contract::ConfigError;

/// The fields of one JSON object, being read.
#[derive(Debug)]
pub struct Fields<'a> {
    /// JSON pointer of the object.
    at: String,
    object: Option<&'a Map<String, Value>>,
    asked: Vec<&'static str>,
    mistakes: Vec<(String, String)>,
}

impl<'a> Fields<'a> {
    /// Reads `value`, which stands at `pointer` (empty for the whole configuration).
    pub fn new(value: &'a Value, pointer: &str) -> Self {
        let object = value.as_object();
        let mistakes = match object {
            Some(_) => Vec::new(),
            None => vec![(pointer.to_owned(), "must be an object".to_owned())],
        };
        Self { at: pointer.to_owned(), object, asked: Vec::new(), mistakes }
    }

    /// The value of a field; `None` if it is absent or null.
    pub fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.asked.push(name);
        self.object?.get(name).filter(|value| !value.is_null())
    }

    /// A text that may be absent. Empty counts as a mistake: leave the field out instead.
    pub fn optional_text(&mut self, name: &'static str) -> Option<&'a str> {
        match self.value(name)? {
            Value::String(text) if !text.trim().is_empty() => Some(text.trim()),
            Value::String(_) => self.mistake(name, "must not be empty"),
            _ => self.mistake(name, "must be a string"),
        }
    }

    /// One of these texts, or absent.
    pub fn one_of(&mut self, name: &'static str, known: &[&str]) -> Option<&'a str> {
        let text = self.optional_text(name)?;
        if known.contains(&text) {
            return Some(text);
        }
        self.mistake(name, format!("must be one of {}", known.join(", ")))
    }

    /// A text that must be there.
    pub fn text(&mut self, name: &'static str) -> Option<&'a str> {
        if self.value(name).is_none() {
            // An object that is none has been reported as a whole.
            return if self.object.is_some() { self.mistake(name, "is required") } else { None };
        }
        self.optional_text(name)
    }

    /// An `https` or `http` address without query, fragment or user, or `default` if it is absent.
    pub fn url(&mut self, name: &'static str, default: &str) -> Option<Url> {
        let text = match self.value(name) {
            Some(_) => self.optional_text(name)?,
            None => default,
        };
        match read_url(text) {
            Ok(url) => Some(url),
            Err(why) => self.mistake(name, why),
        }
    }

    /// Keeps a mistake in a field and returns `None`, for the end of an arm.
    pub fn mistake<T>(&mut self, name: &str, why: impl Into<String>) -> Option<T> {
        self.mistakes.push((format!("{}/{name}", self.at), why.into()));
        None
    }

    /// Keeps the mistakes of an object within this one.
    pub fn absorb(&mut self, mistakes: Vec<(String, String)>) {
        self.mistakes.extend(mistakes);
    }

    /// All mistakes; fields that nobody asked for are among them.
    pub fn finish(mut self) -> Result<(), ConfigError> {
        for name in self.object.into_iter().flat_map(Map::keys) {
            if !self.asked.contains(&name.as_str()) {
                self.mistakes
                    .push((format!("{}/{name}", self.at), "is no field of this provider".to_owned()));
            }
        }
        if self.mistakes.is_empty() { Ok(()) } else { Err(ConfigError(self.mistakes)) }
    }

    /// All mistakes; fields that nobody asked for are the business of whoever wrote the object.
    pub fn finish_tolerant(self) -> Vec<(String, String)> {
        self.mistakes
    }
}

/// An address that a channel may name. A path is kept, without its last slash.
pub fn read_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "must be an absolute URL")?;
    if !matches!(url.scheme(), "https" | "http") || url.host().is_none() {
        return Err("must begin with https:// or http:// and a host");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must have no query and no fragment");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must have no user and no password");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_mistakes_are_reported_at_once_and_no_value_is_repeated() {
        let config = json!({"a": 1, "b": "", "u": "ftp://secret", "extra": "secret"});
        let mut fields = Fields::new(&config, "/x");
        assert_eq!((fields.text("a"), fields.text("b"), fields.text("c")), (None, None, None));
        assert_eq!(fields.url("u", "https://a.example"), None);
        let error = fields.finish().unwrap_err();
        let at: Vec<&str> = error.0.iter().map(|(at, _)| at.as_str()).collect();
        assert_eq!(at, ["/x/a", "/x/b", "/x/c", "/x/u", "/x/extra"]);
        assert!(!error.to_string().contains("secret"));
    }

    #[test]
    fn a_configuration_that_is_no_object_is_one_mistake() {
        let list = json!([]);
        let mut fields = Fields::new(&list, "");
        fields.text("a");
        assert_eq!(fields.finish().unwrap_err().0, [(String::new(), "must be an object".to_owned())]);
    }

    #[test]
    fn an_address_carries_no_credential_and_no_query() {
        for bad in ["x", "/a", "ftp://a", "https://u:p@a", "https://a?x", "https://a#x", "https:"] {
            assert!(read_url(bad).is_err(), "{bad}");
        }
        assert!(read_url("http://[::1]:8080/base").is_ok());
    }
}
