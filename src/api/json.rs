//! Request bodies: one strict reading of JSON for all routes.
//!
//! Stricter than the library: duplicate keys are refused (two readers must never see two messages in one body), depth
//! is bounded before anything is built, and nothing may follow the value.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::problem::{Answer, Problem};

/// Reads a body.
pub(crate) fn parse(bytes: &[u8], depth: usize) -> Answer<Value> {
    let malformed = |error: serde_json::Error| {
        Problem::bad_request("malformed_json", format!("the body is no JSON that is taken here: {error}"))
    };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict(depth).deserialize(&mut deserializer).map_err(malformed)?;
    deserializer.end().map_err(malformed)?;
    Ok(value)
}

/// A value with this many levels left.
#[derive(Clone, Copy)]
struct Strict(usize);

impl Strict {
    fn below<E: Error>(self) -> Result<Self, E> {
        self.0.checked_sub(1).map(Self).ok_or_else(|| E::custom("nested too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number without end"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(below)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(below)?;
            if map.contains_key(&name) {
                return Err(A::Error::custom("an object has the same key twice"));
            }
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_json_reads_as_the_library_reads_it() {
        let text = r#"{"a":[1,-2,0.5,"x",true,null,{"b":{}}],"é":"\u00e9"}"#;
        assert_eq!(parse(text.as_bytes(), 16).unwrap(), serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(parse(b"[[[1]]]", 3).unwrap(), json!([[[1]]]));
    }

    #[test]
    fn what_is_not_taken_is_a_problem_and_no_crash() {
        let deep = "[".repeat(100_000);
        let cases = [
            &deep,
            "[[[[1]]]]",
            r#"{"a":1,"a":2}"#,
            "{} {}",
            "NaN",
            "1e400",
            "\u{feff}{}",
            r#""\ud800""#,
            "",
            "{",
            "{'a':1}",
            "[1,]",
        ];
        for text in cases {
            let problem = parse(text.as_bytes(), 3).unwrap_err();
            assert_eq!((problem.status.as_u16(), problem.code), (400, "malformed_json"));
        }
        assert!(parse(b"\"\xff\"", 3).is_err());
    }
}
