//! The token endpoint: an app's id and secret for an access token of an hour.
//!
//! Known are the form, the answer and `error` 1101 for what is wrong with a request; other sub-errors than 20002 and
//! 20042 are not used here. Beyond 1000 tokens in five minutes an app is blocked for five minutes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::json;

use super::account::{App, Apps};
use crate::switches::{Credentials, Switch};

/// Access tokens that an app may ask for in one window.
const MAX_TOKENS: u32 = 1000;
const WINDOW_MS: u64 = 300_000;

/// An answer with its name in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) verdict: &'static str,
    pub(super) status: u16,
    pub(super) body: String,
}

/// How many tokens each app has asked for.
#[derive(Default)]
pub(super) struct Mint(Mutex<HashMap<String, Window>>);

#[derive(Default)]
struct Window {
    began_at_ms: u64,
    minted: u32,
    blocked_until_ms: u64,
}

impl Mint {
    /// Counts a token of an app; says whether it may have it.
    fn may(&self, app_id: &str, now_ms: u64) -> bool {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.entry(app_id.to_owned()).or_default();
        if now_ms < window.blocked_until_ms {
            return false;
        }
        if now_ms >= window.began_at_ms + WINDOW_MS {
            *window = Window { began_at_ms: now_ms, ..Window::default() };
        }
        window.minted += 1;
        if window.minted > MAX_TOKENS {
            *window = Window { blocked_until_ms: now_ms + WINDOW_MS, ..Window::default() };
            return false;
        }
        true
    }
}

fn refused(sub_error: u32, description: &str) -> Answer {
    let body = json!({"error": 1101, "sub_error": sub_error, "error_description": description});
    Answer { verdict: "invalid_client", status: 400, body: body.to_string() }
}

/// Answers a form; the second is the app, for the ledger.
pub(super) fn answer(
    apps: &Apps,
    mint: &Mint,
    form: &HashMap<String, String>,
    switch: &Switch,
    now_ms: u64,
) -> (Answer, String) {
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    let app_id = field("client_id").to_owned();
    if field("grant_type") != "client_credentials" {
        return (refused(20_002, "the grant_type is not supported"), app_id);
    }
    let app = apps.get(&app_id);
    let known = |app: &App| app.facts.app_secret == field("client_secret");
    let Some(app) = app.filter(|app| known(app) && switch.credentials == Credentials::Ok) else {
        return (refused(20_042, "the client_id or client_secret is not right"), app_id);
    };
    if !mint.may(&app_id, now_ms) {
        let body = json!({"error": 1303, "error_description": "flow control"}).to_string();
        return (Answer { verdict: "flow_control", status: 503, body }, app_id);
    }
    let seconds = switch.access_token_seconds;
    let token = apps.mint(&app, now_ms + seconds * 1000);
    // Huawei escapes slashes: a client that cuts the token out of the text gets it wrong.
    let body = json!({"access_token": token, "expires_in": seconds, "token_type": "Bearer"});
    (Answer { verdict: "granted", status: 200, body: body.to_string().replace('/', "\\/") }, app_id)
}

#[cfg(test)]
mod tests {
    use super::super::account::{Bearer, Change};
    use super::*;

    fn form(fields: &[(&str, &str)]) -> HashMap<String, String> {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_secret_gets_a_token_whose_slashes_are_escaped() {
        let apps = Apps::open(None).unwrap();
        let app = apps.change("100001", Change::default()).unwrap();
        let secret = app.facts.app_secret.as_str();
        let ask = |grant: &str, secret: &str| {
            let form = form(&[("grant_type", grant), ("client_id", "100001"), ("client_secret", secret)]);
            answer(&apps, &Mint::default(), &form, &Switch::default(), 0).0
        };
        let granted = ask("client_credentials", secret);
        assert!(granted.body.contains("\\/"), "{}", granted.body);
        let body: serde_json::Value = serde_json::from_str(&granted.body).unwrap();
        assert_eq!(body["expires_in"], 3600);
        assert_eq!(apps.check(body["access_token"].as_str().unwrap(), 1), Bearer::Of("100001".to_owned()));
        for refusal in [ask("client_credentials", "another"), ask("password", secret)] {
            assert_eq!((refusal.status, refusal.verdict), (400, "invalid_client"));
            assert!(refusal.body.contains(r#""error":1101"#), "{}", refusal.body);
        }
    }

    #[test]
    fn the_thousand_and_first_token_blocks_the_app_for_five_minutes() {
        let mint = Mint::default();
        assert!((0..MAX_TOKENS).all(|_| mint.may("a", 1)));
        assert!(!mint.may("a", 2));
        assert!(mint.may("b", 2));
        assert!(!mint.may("a", 1 + WINDOW_MS));
        assert!(mint.may("a", 2 + WINDOW_MS));
        assert!(mint.may("a", 3 + WINDOW_MS));
    }
}
