//! Reading a vendor's JSON.

use serde::Deserialize;

/// Reads what must be a JSON object; anything else is none of the vendor's. (serde also fills a struct from
/// a list, by position: `["code", 0]` would pass for an answer.)
pub fn object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    let begins = body.iter().find(|byte| !byte.is_ascii_whitespace());
    begins.filter(|byte| **byte == b'{').and_then(|_| serde_json::from_slice(body).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Answer {
        code: String,
    }

    #[test]
    fn only_an_object_is_an_answer() {
        let read = |text: &str| object::<Answer>(text.as_bytes());
        assert_eq!(read(" \n{\"code\": \"0\"}"), Some(Answer { code: "0".into() }));
        for text in
            ["", "[\"0\"]", "\"0\"", "null", "{\"code\": 0}", "{\"code\": \"0\"", "<html>{\"code\":\"0\"}"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
