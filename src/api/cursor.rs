//! Cursors of lists: opaque, and good only for the app and the list that they came from.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::problem::{Answer, Problem};
use crate::secrets::Vault;

const PURPOSE: &str = "cursor";
const MAC: usize = 16;

/// The cursor of a place in a list. `list` names the app, the route and its filters.
pub(super) fn seal(vault: &Vault, list: &str, place: &str) -> String {
    let mac = vault.mac(PURPOSE, &format!("{list}\0{place}"));
    URL_SAFE_NO_PAD.encode([&mac[..MAC], place.as_bytes()].concat())
}

/// The place that a cursor names; refused where it was changed, or made for another list.
pub(super) fn open(vault: &Vault, list: &str, cursor: &str) -> Answer<String> {
    let refused = || {
        let why = "this cursor is not from this list with these filters; begin again without one";
        Problem::bad_request("invalid_cursor", why)
    };
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| refused())?;
    let place = bytes.get(MAC..).and_then(|b| std::str::from_utf8(b).ok()).ok_or_else(refused)?;
    // What a cursor names is no secret, so the time of this comparison is none either.
    (seal(vault, list, place) == cursor).then(|| place.to_owned()).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_opens_only_where_it_was_made() {
        let vault = Vault::from_base64("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
        let cursor = seal(&vault, "1 /v1/devices", "42");
        assert_eq!(open(&vault, "1 /v1/devices", &cursor).unwrap(), "42");
        for list in ["2 /v1/devices", "1 /v1/messages"] {
            assert_eq!(open(&vault, list, &cursor).unwrap_err().code, "invalid_cursor");
        }
        for at in 0..cursor.len() {
            let mut changed = cursor.clone();
            let other = if &cursor[at..=at] == "A" { "B" } else { "A" };
            changed.replace_range(at..=at, other);
            assert!(open(&vault, "1 /v1/devices", &changed).is_err(), "{at}");
        }
        for text in ["", "x", "%00", "-1", "99999999999999999999"] {
            assert!(open(&vault, "1 /v1/devices", text).is_err());
        }
    }
}
