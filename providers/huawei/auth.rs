//! The bearer: an access token for the app's secret, or a token that the service account's key signs itself.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::config::{Account, Config, Proof};
use super::wire::{AccessToken, Claims};
use crate::contract::{Failure, Hint, Reason, VendorEcho};
use crate::kit::bearer::{AuthError, Bearer};
use crate::kit::failure::TransportErrorKind;
use crate::kit::retry_after::retry_after;
use crate::kit::token::Minted;
use crate::kit::{echo, http as kit_http, json};

/// The vendor's demos renew five minutes early.
pub(super) const RENEW_EARLY: Duration = Duration::from_mins(5);

/// How long a token of ours lives: what the vendor recommends. More than a day is refused (80300036).
const LIVES: Duration = Duration::from_hours(1);

/// Fixed, wherever tokens are asked for.
const AUDIENCE: &str = "https://oauth-login.cloud.huawei.com/oauth2/v3/token";

/// Makes or buys a bearer. Whatever fails here, no message has been sent: it is definite.
pub(super) async fn mint(
    client: &reqwest::Client,
    config: &Config,
    now: fn() -> SystemTime,
) -> Result<Minted<Bearer>, AuthError> {
    match &config.proof {
        Proof::Account(account) => {
            let refuse = |why: &str| AuthError::channel(Reason::AuthFailed, why, &[]);
            let token = sign(account, now()).map_err(|why| refuse(&why))?;
            let token = Bearer::new(token).ok_or_else(|| refuse("the signed token fits into no header"))?;
            Ok(Minted { token, lives: LIVES })
        }
        Proof::Secret { client_id, secret } => buy(client, config, client_id, secret.expose(), now).await,
    }
}

/// The bearer is the signed token itself; nothing is exchanged.
pub(super) fn sign(account: &Account, now: SystemTime) -> Result<String, String> {
    let iat = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let claims = Claims { aud: AUDIENCE, iss: &account.sub_account, iat, exp: iat + LIVES.as_secs() };
    account.key.sign_ps256(Some(&account.key_id), &claims)
}

async fn buy(
    client: &reqwest::Client,
    config: &Config,
    client_id: &str,
    secret: &str,
    now: fn() -> SystemTime,
) -> Result<Minted<Bearer>, AuthError> {
    let form = [("grant_type", "client_credentials"), ("client_secret", secret), ("client_id", client_id)];
    let request = client.post(config.token_url.clone()).form(&form);
    let answer = kit_http::send(request).await.map_err(|error| {
        let reason = match error.kind {
            TransportErrorKind::BadAnswer => Reason::ProtocolError,
            _ => Reason::VendorUnavailable,
        };
        AuthError::channel(reason, &format!("no access token: {error}"), &[secret])
    })?;
    if answer.status() != http::StatusCode::OK {
        return Err(refused(&answer, secret, now()));
    }
    bought(answer.body()).ok_or_else(|| {
        // The body is not quoted: it may hold a token in a form that we do not know.
        let why = "the token endpoint's answer holds no access token";
        AuthError::channel(Reason::ProtocolError, why, &[])
    })
}

fn bought(body: &[u8]) -> Option<Minted<Bearer>> {
    let token: AccessToken = json::object(body)?;
    if token.access_token.is_empty() || token.expires_in == 0 {
        return None;
    }
    // A day at most: whatever a vendor says, a token is asked for again some time.
    let lives = Duration::from_secs(token.expires_in).min(Duration::from_hours(24));
    Some(Minted { token: Bearer::new(token.access_token)?, lives })
}

/// `{"error":1101,"sub_error":20002,"error_description":"…"}`; 503 is flow control.
fn refused(answer: &http::Response<bytes::Bytes>, secret: &str, now: SystemTime) -> AuthError {
    let status = answer.status().as_u16();
    let said: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let wait = retry_after(answer.headers(), now).map_or(Hint::None, Hint::RetryAfter);
    let failure = match status {
        429 => Failure::channel(Reason::RateLimited).hint(wait),
        408 | 500..=599 => Failure::channel(Reason::VendorUnavailable).hint(wait),
        400..=499 => Failure::channel(Reason::AuthFailed),
        _ => Failure::channel(Reason::ProtocolError),
    };
    let number = |name: &str| said[name].as_i64().map(|number| number.to_string());
    let code = match (number("error"), number("sub_error")) {
        (Some(error), Some(sub)) => Some(format!("{error}/{sub}")),
        (error, _) => error,
    };
    let words = said["error_description"].as_str().unwrap_or("the token endpoint refused");
    AuthError {
        failure,
        vendor: VendorEcho { id: None, status: Some(status), code, words: echo::words(words, &[secret]) },
    }
}
