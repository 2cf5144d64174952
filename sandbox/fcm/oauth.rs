//! The token endpoint: a signed assertion (RFC 7523) for an access token.
//!
//! Error keys `error` and `error_description` are what google-auth reads; the texts follow what Google's endpoint is
//! known to say but no document fixes them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::json;

use super::account::{Project, Projects};
use super::errors::Answer;
use crate::switches::{Credentials, Switch};
use std::sync::Arc;

/// The only grant that a service account uses.
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// The audience that google-auth signs wherever it posts to.
const GOOGLE_AUDIENCE: &str = "https://oauth2.googleapis.com/token";
/// Scopes that allow sending; one is enough.
const SCOPES: [&str; 2] =
    ["https://www.googleapis.com/auth/firebase.messaging", "https://www.googleapis.com/auth/cloud-platform"];
/// How far a signer's clock may be off.
const SKEW_SECONDS: i64 = 300;
/// The longest life of an assertion.
const MAX_LIFE_SECONDS: i64 = 3600;

/// The form that is posted.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Form {
    #[serde(default)]
    grant_type: String,
    #[serde(default)]
    assertion: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
}

/// An assertion's claims.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    iat: i64,
    exp: i64,
    #[serde(default)]
    scope: String,
}

/// Answers a token request that was posted to `own_authority`; the account is for the ledger.
pub(super) fn answer(
    projects: &Projects,
    form: &Form,
    own_authority: &str,
    switch: &Switch,
    now_ms: u64,
) -> (Answer, Option<Arc<Project>>) {
    let project = match project(projects, form, own_authority, (now_ms / 1000) as i64) {
        Ok(project) => project,
        Err(refusal) => return (refusal.answer(), None),
    };
    if switch.credentials == Credentials::Refused {
        let refusal = Refusal("invalid_grant", "Invalid grant: account not found");
        return (refusal.answer(), Some(project));
    }
    let ends_at_ms = now_ms + switch.access_token_seconds * 1000;
    let body = json!({
        "access_token": projects.mint(&project, ends_at_ms),
        "expires_in": switch.access_token_seconds,
        "token_type": "Bearer"
    });
    (Answer::json("granted", 200, &body), Some(project))
}

/// An OAuth error with its description.
#[derive(Debug, PartialEq, Eq)]
struct Refusal(&'static str, &'static str);

impl Refusal {
    fn answer(&self) -> Answer {
        Answer::json(self.0, 400, &json!({"error": self.0, "error_description": self.1}))
    }
}

/// The project whose account has signed the assertion, if all of it is right.
fn project(projects: &Projects, form: &Form, own_authority: &str, now: i64) -> Result<Arc<Project>, Refusal> {
    if form.grant_type != JWT_BEARER {
        return Err(Refusal("unsupported_grant_type", "Invalid grant_type"));
    }
    let unreadable = Refusal("invalid_grant", "Invalid JWT: Failed to parse the assertion.");
    let Some((header, claims, signed, signature)) = parse(&form.assertion) else { return Err(unreadable) };
    let Some(project) = projects.by_email(&claims.iss) else {
        return Err(Refusal("invalid_grant", "Invalid grant: account not found"));
    };
    // A deleted key looks like this too. Google also takes assertions without a kid.
    if header.kid.is_some_and(|kid| kid != project.key_id)
        || header.alg != "RS256"
        || !project.has_signed(signed.as_bytes(), &signature)
    {
        return Err(Refusal("invalid_grant", "Invalid JWT Signature."));
    }
    let own = claims.aud.strip_prefix("http://").or_else(|| claims.aud.strip_prefix("https://"));
    if claims.aud != GOOGLE_AUDIENCE && own.and_then(|own| own.strip_suffix("/token")) != Some(own_authority)
    {
        return Err(Refusal("invalid_grant", "Invalid JWT: Audience is not the token endpoint."));
    }
    let timely = claims.iat <= now.saturating_add(SKEW_SECONDS)
        && claims.exp > now.saturating_sub(SKEW_SECONDS)
        && claims.exp > claims.iat
        && claims.exp.saturating_sub(claims.iat) <= MAX_LIFE_SECONDS;
    if !timely {
        let text = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.";
        return Err(Refusal("invalid_grant", text));
    }
    if !claims.scope.split(' ').any(|scope| SCOPES.contains(&scope)) {
        return Err(Refusal("invalid_scope", "Invalid OAuth scope or ID token audience provided."));
    }
    Ok(project)
}

/// Header, claims, what was signed, signature.
fn parse(assertion: &str) -> Option<(Header, Claims, &str, Vec<u8>)> {
    let (signed, signature) = assertion.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    let claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    Some((header, claims, signed, URL_SAFE_NO_PAD.decode(signature).ok()?))
}
