//! The access token: an assertion signed with the service account's key, exchanged at the token endpoint.

use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::config::{Config, DEFAULT_TOKEN_URL};
use super::wire::{AccessToken, Claims, TokenRefused};
use crate::contract::{Failure, Hint, Reason, VendorEcho};
use crate::kit::bearer::{AuthError, Bearer};
use crate::kit::failure::TransportErrorKind;
use crate::kit::retry_after::retry_after;
use crate::kit::token::Minted;
use crate::kit::{echo, http as kit_http, json};

/// The smallest scope that sends. Python's SDK asks for cloud-platform and more; we want no more than we use.
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";

/// google-auth signs this audience whatever the token URL is (2.62, seen on the wire); so do we.
const AUDIENCE: &str = DEFAULT_TOKEN_URL;

/// google-auth renews a token that has less than this left.
pub(super) const RENEW_EARLY: Duration = Duration::from_secs(225);

/// The signed assertion.
pub(super) fn assertion(config: &Config, now: SystemTime) -> Result<String, String> {
    let iat = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let account = &config.account;
    let claims = Claims { iss: &account.client_email, aud: AUDIENCE, iat, exp: iat + 3600, scope: SCOPE };
    account.key.sign_rs256(account.key_id.as_deref(), &claims)
}

/// Exchanges an assertion for an access token. Whatever fails here, no message has been sent: it is definite.
pub(super) async fn mint(
    client: &reqwest::Client,
    config: &Config,
    now: fn() -> SystemTime,
) -> Result<Minted<Bearer>, AuthError> {
    let assertion = assertion(config, now()).map_err(|why| AuthError {
        failure: Failure::channel(Reason::AuthFailed),
        vendor: VendorEcho { words: echo::words(&why, &[]), ..VendorEcho::default() },
    })?;
    let form = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", &assertion)];
    let request = client.post(config.token_url.clone()).form(&form);
    let answer = kit_http::send(request).await.map_err(|error| AuthError {
        failure: Failure::channel(match error.kind {
            TransportErrorKind::BadAnswer => Reason::ProtocolError,
            _ => Reason::VendorUnavailable,
        }),
        vendor: VendorEcho {
            words: echo::words(&format!("no access token: {error}"), &[&assertion]),
            ..VendorEcho::default()
        },
    })?;
    if answer.status() == StatusCode::OK {
        return accepted(answer.body()).ok_or_else(|| AuthError {
            failure: Failure::channel(Reason::ProtocolError),
            // The body is not quoted: it may hold a token in a form that we do not know.
            vendor: VendorEcho {
                status: Some(200),
                words: Some("the token endpoint's answer holds no access token".to_owned()),
                ..VendorEcho::default()
            },
        });
    }
    Err(refused(&answer, &assertion, now()))
}

fn accepted(body: &[u8]) -> Option<Minted<Bearer>> {
    let token: AccessToken = json::object(body)?;
    if token.access_token.is_empty() {
        return None;
    }
    // A day at most: whatever a vendor says, a token is asked for again some time.
    let lives = Duration::from_secs(token.expires_in).min(Duration::from_hours(24));
    Some(Minted { token: Bearer::new(token.access_token)?, lives })
}

fn refused(answer: &http::Response<bytes::Bytes>, assertion: &str, now: SystemTime) -> AuthError {
    let status = answer.status();
    let said: Option<TokenRefused> = json::object(answer.body());
    let wait = retry_after(answer.headers(), now).map_or(Hint::None, Hint::RetryAfter);
    let failure = match status.as_u16() {
        429 => Failure::channel(Reason::RateLimited).hint(wait),
        408 | 500..=599 => Failure::channel(Reason::VendorUnavailable).hint(wait),
        // 400 invalid_grant: bad signature, a clock that is minutes off, a deleted key; 401 invalid_client.
        400..=499 => Failure::channel(Reason::AuthFailed),
        _ => Failure::channel(Reason::ProtocolError),
    };
    let (code, words) = match said {
        Some(said) => (Some(said.error), said.error_description.unwrap_or_default()),
        None => (None, String::new()),
    };
    let words = if words.is_empty() { "the token endpoint refused" } else { &words };
    AuthError {
        failure,
        vendor: VendorEcho {
            id: None,
            status: Some(status.as_u16()),
            code: code.and_then(|code| echo::words(&code, &[assertion])),
            words: echo::words(words, &[assertion]),
        },
    }
}
