//! Who sends: a provider token on each request, or a certificate on the connection.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde::Deserialize;

use super::reasons::{Reason, reason};
use super::teams::Teams;
use crate::connection::Connection;

/// How far a token's time may lie in the future. (That it may not at all is UNVERIFIED; clocks differ.)
const FUTURE_SECONDS: i64 = 60;

/// Who was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sender {
    pub(super) team: String,
    /// The one bundle that a certificate is for.
    pub(super) bundle: Option<String>,
}

/// What a connection remembers of the token that it began with.
#[derive(Clone)]
struct Bound {
    sender: Sender,
    key_id: String,
    token: String,
    issued_at: i64,
    since_ms: u64,
    blocked_until_ms: u64,
}

/// How tokens are judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How old a token may be.
    pub(super) token_seconds: u64,
    /// How long a connection must keep a token.
    pub(super) update_seconds: u64,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    iat: i64,
}

/// Recognises the sender of a request.
pub(super) fn sender(
    teams: &Teams,
    connection: &Connection,
    headers: &HeaderMap,
    limits: Limits,
    now_ms: u64,
) -> Result<Sender, Reason> {
    // With a certificate a token is ignored.
    if let Some(shown) = &connection.client_certificate {
        let known = teams.find_certificate(shown).ok_or(reason::BadCertificate)?;
        return Ok(Sender { team: known.team, bundle: Some(known.bundle) });
    }
    let value = headers.get(AUTHORIZATION).ok_or(reason::MissingProviderToken)?;
    let (scheme, token) =
        value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(reason::InvalidProviderToken)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(reason::MissingProviderToken);
    }
    by_token(teams, connection, token.trim(), limits, now_ms)
}

fn by_token(
    teams: &Teams,
    connection: &Connection,
    token: &str,
    limits: Limits,
    now_ms: u64,
) -> Result<Sender, Reason> {
    let bound = connection.notes().get::<Bound>().cloned();
    if bound.as_ref().is_some_and(|bound| now_ms < bound.blocked_until_ms) {
        return Err(reason::TooManyProviderTokenUpdates);
    }
    let now = (now_ms / 1000) as i64;
    let fresh = |issued_at: i64| {
        if now - issued_at > limits.token_seconds as i64 {
            return Err(reason::ExpiredProviderToken);
        }
        if issued_at - now > FUTURE_SECONDS { Err(reason::InvalidProviderToken) } else { Ok(()) }
    };
    if let Some(bound) = &bound
        && bound.token == token
    {
        fresh(bound.issued_at)?;
        // Its key may have been revoked since.
        if !teams.has_key(&bound.sender.team, &bound.key_id) {
            return Err(reason::InvalidProviderToken);
        }
        return Ok(bound.sender.clone());
    }
    let (header, claims) = verify(teams, token).ok_or(reason::InvalidProviderToken)?;
    fresh(claims.iat)?;
    if let Some(mut bound) = bound {
        if bound.sender.team != claims.iss {
            return Err(reason::InvalidProviderToken);
        }
        if bound.key_id != header.kid {
            return Err(reason::UnrelatedKeyIdInToken);
        }
        let next_ms = bound.since_ms + limits.update_seconds * 1000;
        if now_ms < next_ms {
            bound.blocked_until_ms = next_ms;
            connection.notes().insert(bound);
            return Err(reason::TooManyProviderTokenUpdates);
        }
    }
    let sender = Sender { team: claims.iss, bundle: None };
    connection.notes().insert(Bound {
        sender: sender.clone(),
        key_id: header.kid,
        token: token.to_owned(),
        issued_at: claims.iat,
        since_ms: now_ms,
        blocked_until_ms: 0,
    });
    Ok(sender)
}

/// A token whose signature holds.
fn verify(teams: &Teams, token: &str) -> Option<(Header, Claims)> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
    let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
    let claims: Claims = serde_json::from_slice(&decode(claims)?).ok()?;
    if header.alg != "ES256" {
        return None;
    }
    let key = teams.public_key(&claims.iss, &header.kid)?;
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key);
    key.verify(signed.as_bytes(), &decode(signature)?).ok()?;
    Some((header, claims))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_form_is_the_one_of_rfc_7515() {
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
        let x = decode("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU");
        let y = decode("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
        let point = [&[4][..], &x, &y].concat();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        // The provider token of the contract sheet, signed with that RFC's key.
        let signed = "eyJhbGciOiJFUzI1NiIsImtpZCI6IkFCQzEyM0RFRkcifQ.eyJpc3MiOiJERUYxMjNHSElKIiwiaWF0IjoxNzAwMDAwMDAwfQ";
        let signature =
            decode("9eqgVsaVpJcjng-z9xvwbFH5RQ4bIRjaUdI0UT5WUNjDlcVbRVsgHTYZ2TWGP-HMFIbg6jaaLZG9RVlfBpOdlg");
        assert!(key.verify(signed.as_bytes(), &signature).is_ok());
        assert!(key.verify(b"another", &signature).is_err());
    }
}
