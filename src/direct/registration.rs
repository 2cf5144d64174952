//! Registration tokens: JSON Web Tokens by which an app's backend says whose phone this is.
//!
//! What comes in: a token. What goes out: what it claims, proved. The key that a token names says which algorithm it
//! must be signed with; the token's own word about that is believed nowhere.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, Validation};
use serde::Deserialize;
use serde_json::Value;

use crate::secrets::Vault;
use crate::secrets::token::{random_base62, random_of};
use crate::store::RegistrationKeyRecord;

/// How long a token may be good: it goes from a backend to a phone, and at once from there to here.
const LONGEST_SECONDS: u64 = 600;
/// By how much a backend's clock may be ahead of the gateway's.
const LEEWAY_SECONDS: u64 = 30;
const PREFIX: &str = "rk_";
const ID_CHANCE: usize = 16;
const ID_ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Longest token that is looked at.
const MOST_BYTES: usize = 4096;

/// How a key's tokens are signed. The numbers are stored: never change one, append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Algorithm {
    /// Ed25519: the gateway has only the public key.
    EdDsa = 0,
    /// HMAC-SHA-256: the gateway made the secret.
    Hs256 = 1,
}

impl Algorithm {
    /// Reads a stored number.
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::EdDsa, Self::Hs256].get(usize::from(code)).copied()
    }

    /// Its name in tokens.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
        }
    }
}

/// What a token claims.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Claims {
    /// The app, by id or name.
    pub app: String,
    /// Whose phone it is; absent: nobody's.
    #[serde(default)]
    pub user_id: Option<String>,
    /// The backend's id of the device.
    pub device_id: String,
    /// Good once.
    pub nonce: String,
    /// Until when it is good, in Unix seconds.
    pub exp: u64,
}

/// Why a token is refused, in words that help its maker and nobody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No token in form.
    #[error("it is no signed JSON Web Token with `kid` in its header")]
    Form,
    /// No key of this name, or revoked.
    #[error("its key (`kid`) is unknown or revoked")]
    Key,
    /// Not signed by the key, or not with the key's algorithm.
    #[error("its signature is not by the key that it names")]
    Signature,
    /// A claim is missing or malformed.
    #[error(
        "it must claim `app`, `device_id`, `nonce` (8 to 128 characters) and `exp`, and may claim `user_id`"
    )]
    Claims,
    /// Over.
    #[error("it has expired")]
    Expired,
    /// Good for too long.
    #[error("its `exp` is more than ten minutes ahead")]
    TooLong,
}

/// A token's header.
fn head(token: &str) -> Option<Value> {
    let head = URL_SAFE_NO_PAD.decode(token.split('.').next()?).ok()?;
    serde_json::from_slice(&head).ok()
}

/// The key that a token names; a name is nothing but a name.
pub fn key_id(token: &str) -> Result<String, Refused> {
    if token.len() > MOST_BYTES {
        return Err(Refused::Form);
    }
    let head = head(token).ok_or(Refused::Form)?;
    // What a header calls critical must be understood, and nothing of that kind is here.
    let id = head["kid"].as_str().filter(|_| head.get("crit").is_none()).ok_or(Refused::Form)?;
    let rest = id.strip_prefix(PREFIX).ok_or(Refused::Key)?;
    let is_name = rest.len() == ID_CHANCE && rest.bytes().all(|b| ID_ALPHABET.contains(&b));
    if is_name { Ok(id.to_owned()) } else { Err(Refused::Key) }
}

/// What a token claims, where this key has signed it and it is good now.
pub fn read(vault: &Vault, key: &RegistrationKeyRecord, token: &str, now_ms: u64) -> Result<Claims, Refused> {
    if key.revoked_at.is_some() {
        return Err(Refused::Key);
    }
    let own = Algorithm::from_code(key.algorithm).ok_or(Refused::Key)?;
    if head(token).is_none_or(|head| head["alg"] != own.as_str()) {
        return Err(Refused::Signature);
    }
    let (algorithm, decoding) = match own {
        Algorithm::EdDsa => {
            (jsonwebtoken::Algorithm::EdDSA, DecodingKey::from_ed_pem(&key.key).map_err(|_| Refused::Key)?)
        }
        Algorithm::Hs256 => {
            let secret = vault.open(&place(&key.id), &key.key).map_err(|error| {
                tracing::error!(key.id = %key.id, "a registration key cannot be opened: {error}");
                Refused::Key
            })?;
            (jsonwebtoken::Algorithm::HS256, DecodingKey::from_secret(&secret))
        }
    };
    let mut validation = Validation::new(algorithm);
    // By the gateway's own clock, below.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let claims =
        jsonwebtoken::decode::<Claims>(token, &decoding, &validation).map_err(|error| {
            match error.kind() {
                jsonwebtoken::errors::ErrorKind::Json(_) => Refused::Claims,
                _ => Refused::Signature,
            }
        })?;
    let claims = claims.claims;
    let now = now_ms / 1000;
    let line = |text: &str, range: std::ops::RangeInclusive<usize>| {
        range.contains(&text.len()) && !text.chars().any(char::is_control)
    };
    if !line(&claims.nonce, 8..=128)
        || !line(&claims.device_id, 1..=128)
        || claims.user_id.as_ref().is_some_and(|id| !line(id, 1..=128))
    {
        return Err(Refused::Claims);
    }
    if claims.exp <= now {
        return Err(Refused::Expired);
    }
    if claims.exp > now + LONGEST_SECONDS + LEEWAY_SECONDS {
        return Err(Refused::TooLong);
    }
    Ok(claims)
}

/// Whether this is an Ed25519 public key in PEM form.
pub fn is_public_key(pem: &str) -> bool {
    pem.contains("BEGIN PUBLIC KEY") && DecodingKey::from_ed_pem(pem.as_bytes()).is_ok()
}

/// The id of a new key.
pub fn new_id() -> String {
    format!("{PREFIX}{}", random_of(ID_ALPHABET, ID_CHANCE))
}

/// A new secret: tokens are signed with its characters as they are.
pub fn new_secret() -> String {
    format!("ars_{}", random_base62(43))
}

/// A secret as it is kept.
pub fn seal(vault: &Vault, id: &str, secret: &str) -> Vec<u8> {
    vault.seal(&place(id), secret.as_bytes())
}

/// What a key's secret is bound to.
pub(crate) fn place(id: &str) -> String {
    format!("registration_keys|key|{id}")
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000_000;
    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";
    const ID: &str = "rk_abcdefghijklmnop";

    fn vault() -> Vault {
        Vault::from_base64(&STANDARD.encode([1; 32])).unwrap()
    }

    fn key(algorithm: Algorithm, key: Vec<u8>) -> RegistrationKeyRecord {
        RegistrationKeyRecord {
            id: ID.into(),
            app: 1,
            name: String::new(),
            algorithm: algorithm as u8,
            key,
            created_at: NOW,
            revoked_at: None,
        }
    }

    fn claims(exp: u64) -> Value {
        json!({"app": "shop", "user_id": "u-1", "device_id": "d-1", "nonce": "12345678", "exp": exp})
    }

    fn signed(algorithm: jsonwebtoken::Algorithm, key: &EncodingKey, claims: &Value) -> String {
        let header = Header { kid: Some(ID.into()), ..Header::new(algorithm) };
        jsonwebtoken::encode(&header, claims, key).unwrap()
    }

    fn by_secret(secret: &str, claims: &Value) -> String {
        signed(jsonwebtoken::Algorithm::HS256, &EncodingKey::from_secret(secret.as_bytes()), claims)
    }

    fn by_private_key(claims: &Value) -> String {
        let key = EncodingKey::from_ed_pem(PRIVATE.as_bytes()).unwrap();
        signed(jsonwebtoken::Algorithm::EdDSA, &key, claims)
    }

    #[test]
    fn a_token_is_read_by_either_kind_of_key() {
        let exp = NOW / 1000 + 60;
        let hmac = key(Algorithm::Hs256, seal(&vault(), ID, "ars_secret"));
        let read_back = read(&vault(), &hmac, &by_secret("ars_secret", &claims(exp)), NOW).unwrap();
        assert_eq!((read_back.user_id.as_deref(), read_back.exp), (Some("u-1"), exp));
        let public = key(Algorithm::EdDsa, PUBLIC.into());
        let token = by_private_key(&claims(exp));
        assert_eq!(key_id(&token).unwrap(), ID);
        assert_eq!(read(&vault(), &public, &token, NOW).unwrap().device_id, "d-1");
        assert!(is_public_key(PUBLIC) && !is_public_key(PRIVATE) && !is_public_key("x"));
    }

    /// A18, as far as one token goes.
    #[test]
    fn tokens_that_are_forged_confused_or_over_are_refused() {
        let exp = NOW / 1000 + 60;
        let public = key(Algorithm::EdDsa, PUBLIC.into());
        let hmac = key(Algorithm::Hs256, seal(&vault(), ID, "ars_secret"));
        let refused = |key: &RegistrationKeyRecord, token: &str| read(&vault(), key, token, NOW).unwrap_err();
        // The public key taken for an HMAC secret, and the other way round.
        assert_eq!(refused(&public, &by_secret(PUBLIC, &claims(exp))), Refused::Signature);
        assert_eq!(refused(&hmac, &by_private_key(&claims(exp))), Refused::Signature);
        assert_eq!(refused(&hmac, &by_secret("other", &claims(exp))), Refused::Signature);
        let token = by_private_key(&claims(exp));
        let none = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"none","kid":"{ID}"}}"#));
        let body = token.split('.').nth(1).unwrap();
        for forged in
            [format!("{none}.{body}."), format!("{none}.{body}"), format!("{token}x"), String::new()]
        {
            assert_eq!(refused(&public, &forged), Refused::Signature, "{forged}");
        }
        assert_eq!(refused(&public, &by_private_key(&claims(NOW / 1000))), Refused::Expired);
        assert_eq!(refused(&public, &by_private_key(&claims(NOW / 1000 + 700))), Refused::TooLong);
        let mut short = claims(exp);
        short["nonce"] = json!("1");
        assert_eq!(refused(&public, &by_private_key(&short)), Refused::Claims);
        assert_eq!(refused(&public, &by_private_key(&json!({"exp": exp}))), Refused::Claims);
        let revoked = RegistrationKeyRecord { revoked_at: Some(NOW), ..public };
        assert_eq!(refused(&revoked, &by_private_key(&claims(exp))), Refused::Key);
        let elsewhere = RegistrationKeyRecord { id: "rk_other".into(), ..hmac };
        assert_eq!(refused(&elsewhere, &by_secret("ars_secret", &claims(exp))), Refused::Key);
    }

    /// A18: a `kid` leads nowhere but to a key.
    #[test]
    fn a_key_is_named_and_never_a_path_a_query_or_an_address() {
        let token = |head: Value| format!("{}.e30.x", URL_SAFE_NO_PAD.encode(head.to_string()));
        for kid in [
            "../../etc/passwd",
            "rk_' OR 1=1 --xxx",
            "https://evil.example/k",
            "rk_",
            "rk_ABCDEFGHIJKLMNOP",
            "",
        ] {
            assert_eq!(key_id(&token(json!({"alg": "EdDSA", "kid": kid}))), Err(Refused::Key), "{kid}");
        }
        for head in [json!({}), json!({"kid": 7}), json!([]), json!({"kid": ID, "crit": ["exp"]})] {
            assert_eq!(key_id(&token(head)), Err(Refused::Form));
        }
        for text in ["", ".", "a.b.c", "é.é.é", &"x".repeat(5000)] {
            assert_eq!(key_id(text), Err(Refused::Form), "{text}");
        }
    }
}
