//! Xiaomi's error table: every code of D1560 and of the SDK's enum (pId=1560, read 2024-10-18; JAR 2.2.20).
//!
//! Only 20301, 200001 and 27001 have texts that somebody has seen ("exceed quota, …": D1656; "invalid channel info!":
//! third party); the others are the enum's names in words.

use serde_json::{Value, json};

/// A refusal that is one row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: i64,
    pub(super) reason: String,
}

impl Refusal {
    /// A row with its own text.
    pub(super) fn new(code: i64) -> Self {
        Self::because(code, row(code).2)
    }

    /// A row with another text.
    pub(super) fn because(code: i64, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    /// Its name in the ledger.
    pub(super) fn verdict(&self) -> &'static str {
        row(self.code).1
    }

    /// The answer's body.
    pub(super) fn body(&self, trace_id: &str) -> Value {
        json!({
            "result": "error",
            "trace_id": trace_id,
            "code": self.code,
            "reason": self.reason,
            "description": "发送消息失败",
        })
    }
}

/// The daily quota's refusal (D1656).
pub(super) fn exceed_quota(quota: u64, acked: u64) -> Refusal {
    Refusal::because(200_001, format!("exceed quota, quota: {quota}, have acked: {acked}"))
}

/// The row of a code; a code that nobody knows has a row too.
fn row(code: i64) -> (&'static str, &'static str, &'static str) {
    let code = code.to_string();
    TABLE.iter().find(|row| row.0 == code).copied().unwrap_or(("", "vendor_code", "unknown reason"))
}

/// Every code with its text.
pub(super) const ALL: &[(&str, &str)] = &{
    let mut all = [("", ""); TABLE.len()];
    let mut at = 0;
    while at < all.len() {
        all[at] = (TABLE[at].0, TABLE[at].2);
        at += 1;
    }
    all
};

/// Code, name in the ledger, text.
#[rustfmt::skip]
const TABLE: &[(&str, &str, &str)] = &[
    ("-1", "unknown", "unknown error"),
    ("1", "internal", "system error"),
    ("100", "invalid_argument", "bad parameter"),
    ("10001", "internal", "system error"),
    ("10002", "unavailable", "service unavailable"),
    ("10003", "internal", "remote service error"),
    ("10004", "limited", "ip limit"),
    ("10005", "permission_denied", "permission denied"),
    ("10006", "unauthenticated", "missing app key"),
    ("10007", "invalid_argument", "unsupported media type"),
    ("10008", "invalid_argument", "parameter error"),
    ("10009", "unavailable", "system is busy"),
    ("10010", "expired", "job expired"),
    ("10011", "internal", "rpc error"),
    ("10012", "invalid_argument", "illegal request"),
    ("10013", "invalid_user", "invalid user"),
    ("10014", "permission_denied", "insufficient app permission"),
    ("10016", "invalid_argument", "missing required parameter"),
    ("10017", "invalid_argument", "invalid parameter"),
    ("10018", "too_big", "request body over length"),
    ("10020", "invalid_argument", "api not found"),
    ("10021", "invalid_argument", "unsupported http method"),
    ("10022", "limited", "ip requests out of rate limit"),
    ("10023", "limited", "user requests out of rate limit"),
    ("10024", "limited", "special user requests out of rate limit"),
    ("10025", "invalid_argument", "invalid callback"),
    ("10026", "permission_denied", "app is in blacklist"),
    ("10027", "limited", "app requests out of rate limit"),
    ("10028", "limited", "app requests out of rate limit"),
    ("10029", "invalid_user", "device is not registered"),
    ("10030", "limited", "requests out of rate limit"),
    ("10031", "permission_denied", "app is restricted"),
    ("10032", "limited", "requests out of rate limit"),
    ("10033", "permission_denied", "app is in blacklist"),
    ("10034", "quota_exceeded", "app has sent too many messages today"),
    ("10035", "vendor_code", "no more invalid aliases"),
    ("10036", "permission_denied", "app is forbidden"),
    ("10037", "expired", "request expired"),
    ("10038", "permission_denied", "app is forbidden"),
    ("10039", "limited", "stats requests out of rate limit"),
    ("20209", "invalid_argument", "illegal topic"),
    ("20215", "vendor_code", "subscribe failed"),
    ("20216", "vendor_code", "unsubscribe failed"),
    ("20301", "no_valid_targets", "No valid targets!"),
    ("20315", "vendor_code", "delete failed"),
    ("20607", "internal", "database error"),
    ("21301", "unauthenticated", "auth failed"),
    ("21302", "unauthenticated", "token auth failed"),
    ("21303", "permission_denied", "access restricted"),
    ("21305", "invalid_argument", "missing parameter"),
    ("22000", "not_found", "application does not exist"),
    ("22001", "not_found", "application is revoked"),
    ("22002", "not_found", "application is revoked"),
    ("22003", "unauthenticated", "invalid application id"),
    ("22004", "unauthenticated", "invalid application key"),
    ("22005", "unauthenticated", "invalid application key"),
    ("22006", "unauthenticated", "invalid application id"),
    ("22007", "unauthenticated", "invalid application key"),
    ("22008", "unauthenticated", "invalid application secret"),
    ("22020", "unauthenticated", "invalid application"),
    ("22021", "unauthenticated", "invalid application"),
    ("22022", "wrong_package", "invalid package name"),
    ("22100", "internal", "notification failed"),
    ("22101", "limited", "notifications out of rate limit"),
    ("22102", "internal", "notification failed"),
    ("22103", "invalid_argument", "invalid notify id"),
    ("26003", "internal", "internal push failed"),
    ("26004", "limited", "broadcasts out of rate limit"),
    ("26005", "limited", "alias is set too often"),
    ("26006", "content_review", "message needs review"),
    ("27001", "invalid_channel", "invalid channel info!"),
    ("65003", "unreachable", "device not found"),
    ("65006", "limited", "alias is set too often"),
    ("65007", "invalid_argument", "alias is in blacklist"),
    ("65008", "invalid_argument", "alias is empty"),
    ("65009", "too_big", "content is too long"),
    ("65010", "invalid_argument", "topic is too long"),
    ("65011", "invalid_argument", "illegal parameter"),
    ("65012", "invalid_argument", "alias is too long"),
    ("65013", "invalid_argument", "topic is empty"),
    ("65014", "too_big", "too many key-values"),
    ("65015", "too_big", "key-values are too long"),
    ("65016", "invalid_argument", "account is empty"),
    ("65017", "invalid_argument", "account is too long"),
    ("65028", "not_found", "message not found"),
    ("65029", "internal", "system error"),
    ("65030", "invalid_argument", "illegal api"),
    ("65035", "invalid_argument", "too many topics"),
    ("65036", "invalid_argument", "callback url is too long"),
    ("65037", "invalid_argument", "callback param is too long"),
    ("65038", "invalid_argument", "illegal callback url"),
    ("65040", "vendor_code", "unregister failed"),
    ("65041", "invalid_argument", "imei md5 is empty"),
    ("66108", "wrong_app", "package name does not match the regid"),
    ("200001", "quota_exceeded", "exceed quota"),
    ("200002", "limited", "qps exceeded"),
];

#[cfg(test)]
mod tests {
    use super::{Refusal, TABLE, exceed_quota};

    #[test]
    fn every_code_stands_once_and_in_order() {
        let number = |row: &(&str, &str, &str)| row.0.parse::<i64>().unwrap();
        assert!(TABLE.windows(2).all(|pair| number(&pair[0]) < number(&pair[1])));
        assert_eq!(Refusal::new(99_999).verdict(), "vendor_code");
    }

    #[test]
    fn the_quota_names_both_numbers_as_the_vendor_does() {
        let body = exceed_quota(100_000, 99_999).body("Xcm1");
        assert_eq!(body["code"], 200_001);
        assert_eq!(body["reason"], "exceed quota, quota: 100000, have acked: 99999");
        assert_eq!((&body["result"], &body["trace_id"]), (&"error".into(), &"Xcm1".into()));
    }
}
