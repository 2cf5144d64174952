//! A field of a vendor's report, taken as text or number or not at all: one odd field must cost neither the others nor the
//! other reports of the same call. Text is borrowed where the report has it without escapes.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A text, a whole number, or something that is neither.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Scalar<'a> {
    /// A text.
    Text(Cow<'a, str>),
    /// A whole number.
    Number(i64),
    /// Absent, null, or of another kind.
    #[default]
    Neither,
}

impl Scalar<'_> {
    /// A text that is not empty.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(&**text).filter(|text| !text.is_empty()),
            _ => None,
        }
    }

    /// A number, or a text that is one.
    pub fn number(&self) -> Option<i64> {
        match self {
            Self::Text(text) => text.trim().parse().ok(),
            Self::Number(number) => Some(*number),
            Self::Neither => None,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(number).map_or(Scalar::Neither, Scalar::Number))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Neither)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Neither)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Neither)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Neither)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Neither)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_odd_field_costs_no_other() {
        let text = r#"["id", "", "a\nb", 7, -7, "12 ", 18446744073709551615, 1.5, true, null, [1, [2]], {"a": {}}, "end"]"#;
        let found: Vec<Scalar<'_>> = serde_json::from_str(text).unwrap();
        assert_eq!(found[0], Scalar::Text(Cow::Borrowed("id")));
        assert!(matches!(&found[0], Scalar::Text(Cow::Borrowed(_))), "it is not copied");
        assert_eq!((found[1].text(), found[2].text()), (None, Some("a\nb")));
        let numbers: Vec<_> = found[3..6].iter().map(Scalar::number).collect();
        assert_eq!(numbers, [Some(7), Some(-7), Some(12)]);
        assert!(found[6..12].iter().all(|odd| *odd == Scalar::Neither), "{found:?}");
        assert_eq!(found[12].text(), Some("end"));
    }
}
