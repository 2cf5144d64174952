//! A flat form, as a servlet reads it.
//!
//! What breaks clients here breaks them at the vendor: `+` is a blank unless it was sent as `%2B`, a JSON body has no
//! parameters at all, and a key with a dot is one key.

use std::collections::BTreeMap;

/// The content type of a form.
const FORM: &str = "application/x-www-form-urlencoded";

/// Parameters by name; of a repeated one the first counts, and an empty one is absent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Form(BTreeMap<String, String>);

/// The form cannot be read: half an escape, or bytes that are no UTF-8.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

impl Form {
    /// Reads the query and, where the content type says that it is a form, the body.
    pub(super) fn read(query: &str, content_type: &str, body: &[u8]) -> Result<Self, Unreadable> {
        let mut form = Self::default();
        form.take(query.as_bytes())?;
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case(FORM) {
            form.take(body)?;
        }
        Ok(form)
    }

    fn take(&mut self, encoded: &[u8]) -> Result<(), Unreadable> {
        for pair in encoded.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()) {
            let equals = pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len());
            let value = decode(pair.get(equals + 1..).unwrap_or_default())?;
            if !value.is_empty() {
                self.0.entry(decode(&pair[..equals])?).or_insert(value);
            }
        }
        Ok(())
    }

    /// One parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The parameters whose names begin so, without that beginning.
    pub(super) fn below(&self, prefix: &str) -> BTreeMap<String, String> {
        let all = self.0.iter();
        all.filter_map(|(name, value)| Some((name.strip_prefix(prefix)?.to_owned(), value.clone()))).collect()
    }
}

fn decode(text: &[u8]) -> Result<String, Unreadable> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let (Some(high), Some(low)) = (digit(text.get(at)), digit(text.get(at + 1))) else {
                    return Err(Unreadable);
                };
                bytes.push((high * 16 + low) as u8);
                at += 2;
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "application/x-www-form-urlencoded;charset=UTF-8";

    #[test]
    fn a_regid_survives_only_if_its_plus_was_escaped() {
        let form = Form::read("", TYPE, b"registration_id=0VcFXB%2BGdD%2Fq%3D&extra.a.b=1&title=").unwrap();
        assert_eq!(form.get("registration_id"), Some("0VcFXB+GdD/q="));
        assert_eq!(form.get("title"), None);
        assert_eq!(form.below("extra.").into_iter().collect::<Vec<_>>(), [("a.b".into(), "1".into())]);
        let form = Form::read("", TYPE, b"registration_id=0VcFXB+GdD/q=").unwrap();
        assert_eq!(form.get("registration_id"), Some("0VcFXB GdD/q="));
    }

    #[test]
    fn text_comes_through_whole_and_half_an_escape_does_not() {
        let body = "title=%E8%AE%A2%E5%8D%95%F0%9F%93%A6&title=later&x".as_bytes();
        let form = Form::read("registration_id=a&registration_id=b", TYPE, body).unwrap();
        assert_eq!((form.get("title"), form.get("registration_id")), (Some("订单📦"), Some("a")));
        for broken in ["a=%2", "a=%zz", "a=%ff"] {
            assert_eq!(Form::read("", TYPE, broken.as_bytes()), Err(Unreadable), "{broken}");
        }
    }

    #[test]
    fn json_has_no_parameters() {
        assert_eq!(Form::read("", "application/json", br#"{"title":"a"}"#), Ok(Form::default()));
    }
}
