//! Huawei's codes: HTTP status, code, text (HMSCore "https-send-api", Java demo `ResponceCodeProcesser`).
//!
//! `code` is a string, and in the statuses that the table leaves open 200 is answered for business errors and 400 for
//! what is wrong with the request.

use serde_json::{Value, json};

/// A refusal that is one row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) verdict: &'static str,
    code: String,
    msg: String,
}

impl Refusal {
    /// A row with its own text.
    pub(super) fn new(code: &str) -> Self {
        let (status, _, verdict, msg) = row(code).unwrap_or((200, "", "vendor_code", "unknown error"));
        Self { status, verdict, code: code.to_owned(), msg: msg.to_owned() }
    }

    /// A row with another text.
    pub(super) fn because(code: &str, msg: impl Into<String>) -> Self {
        Self { msg: msg.into(), ..Self::new(code) }
    }

    /// The answer's body.
    pub(super) fn body(&self, request_id: &str) -> Value {
        json!({"code": self.code, "msg": self.msg, "requestId": request_id})
    }
}

fn row(code: &str) -> Option<(u16, &'static str, &'static str, &'static str)> {
    TABLE.iter().find(|row| row.1 == code).copied()
}

/// Every code with its text.
pub(super) const ALL: &[(&str, &str)] = &{
    let mut all = [("", ""); TABLE.len()];
    let mut at = 0;
    while at < all.len() {
        all[at] = (TABLE[at].1, TABLE[at].3);
        at += 1;
    }
    all
};

/// HTTP status, code, name in the ledger, text.
#[rustfmt::skip]
const TABLE: &[(u16, &str, &str, &str)] = &[
    (400, "80100001", "invalid_argument", "Incorrect message parameters"),
    (400, "80100002", "invalid_argument", "The number of tokens must be 1 when a synchronization message is sent"),
    (400, "80100003", "invalid_argument", "Incorrect message structure"),
    (400, "80100004", "invalid_argument", "The message expiration time is earlier than the current time"),
    (400, "80100013", "invalid_argument", "The collapse_key message field is invalid"),
    (400, "80100016", "sensitive_content", "The message contains sensitive information"),
    (400, "80100017", "limited", "A maximum of 100 topic-based messages can be sent at the same time"),
    (400, "80100018", "invalid_argument", "Invalid message body: the review is not right"),
    (401, "80200001", "unauthenticated", "OAuth authentication error"),
    (401, "80200003", "token_expired", "OAuth token expired"),
    (401, "80200005", "token_expired", "The JWT has expired"),
    (200, "80300002", "permission_denied", "The current app does not have the permission to send messages"),
    (200, "80300007", "illegal_tokens", "All tokens are invalid"),
    (400, "80300008", "too_big", "The message body size exceeds the default value (4096 bytes)"),
    (400, "80300010", "invalid_argument", "The number of tokens in the message body exceeds the default value"),
    (200, "80300011", "no_right", "You are not authorized to send high-priority notification messages"),
    (200, "80300013", "invalid_receipt", "The receipt address or its certificate is invalid"),
    (401, "80300036", "unauthenticated", "The JWT lives longer than one day"),
    (200, "80600003", "unavailable", "Failed to request the OAuth service"),
    (200, "81000001", "internal", "System inner error"),
    (200, "82000001", "topic", "The group key or name is not right"),
    (200, "82000002", "topic", "The group key does not match the name"),
    (200, "82000003", "topic", "The token array is null"),
    (200, "82000004", "topic", "The group does not exist"),
    (200, "82000005", "topic", "The group does not belong to this app"),
    (200, "82000006", "topic", "The group has too many tokens"),
    (200, "82000007", "topic", "The topic is invalid"),
    (200, "82000008", "topic", "The tokens are null or too many"),
    (200, "82000009", "topic", "An app has at most 2000 topics"),
    (200, "82000010", "topic", "Some tokens are not right"),
    (200, "82000011", "topic", "The token is null"),
    (200, "82000012", "data_location", "The data storage location is not selected"),
    (200, "82000013", "data_location", "The data storage location does not match"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_once_and_in_order() {
        assert!(TABLE.windows(2).all(|pair| pair[0].1 < pair[1].1));
        let body = Refusal::new("80300008").body("1");
        assert_eq!((&body["code"], body["msg"].is_string()), (&"80300008".into(), true));
        assert_eq!(Refusal::new("80999999").verdict, "vendor_code");
    }
}
