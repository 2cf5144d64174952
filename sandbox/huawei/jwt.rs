//! The bearer that a service account signs by itself: a JWT with PS256, without any exchange.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::account::{App, Apps};
use super::codes::Refusal;

/// The audience, fixed for every account.
pub(super) const AUDIENCE: &str = "https://oauth-login.cloud.huawei.com/oauth2/v3/token";
/// The longest life.
const MAX_LIFE_SECONDS: i64 = 86_400;
/// How far a signer's clock may be ahead (not documented).
const SKEW_SECONDS: i64 = 300;

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
    #[serde(default)]
    typ: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    iat: i64,
    exp: i64,
}

/// Whether a bearer is a JWT at all: an object's Base64 begins so, and an access token's does not.
pub(super) fn is_jwt(bearer: &str) -> bool {
    bearer.starts_with("eyJ") && bearer.matches('.').count() == 2
}

/// The app whose service account has signed, if all of it is right.
pub(super) fn app(apps: &Apps, bearer: &str, now: i64) -> Result<Arc<App>, Refusal> {
    let refused = || Refusal::new("80200001");
    let (header, claims, signed, signature) = parse(bearer).ok_or_else(refused)?;
    let app = apps.by_sub_account(&claims.iss).ok_or_else(refused)?;
    let fits = header.alg == "PS256"
        && header.typ == "JWT"
        && header.kid == app.key_id()
        && claims.aud == AUDIENCE
        && app.has_signed(signed.as_bytes(), &signature);
    if !fits || claims.iat > now + SKEW_SECONDS || claims.exp <= claims.iat {
        return Err(refused());
    }
    if claims.exp.saturating_sub(claims.iat) > MAX_LIFE_SECONDS {
        return Err(Refusal::new("80300036"));
    }
    if claims.exp <= now { Err(Refusal::new("80200005")) } else { Ok(app) }
}

/// Header, claims, what was signed, signature.
fn parse(bearer: &str) -> Option<(Header, Claims, &str, Vec<u8>)> {
    let (signed, signature) = bearer.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    let claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    Some((header, claims, signed, URL_SAFE_NO_PAD.decode(signature).ok()?))
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, EncodingKey, encode};
    use serde_json::{Value, json};

    use super::super::account::Change;
    use super::*;
    use crate::keys::is_signed;

    const NOW: i64 = 1_700_000_000;

    /// A key and a JWT that another implementation made (harmonyos.md §9; iat 1700000000, exp 1700003600).
    const MODULUS: &str = concat!(
        "sSrFvvTOU0u9VpmbHyshJhxXTO_Edv5T7X930t2ZZpL8WR9utPiuDznxYUWlMXWrH4pPDAPBjIGvjSRGqT7qgUuaBIIe_2qXYXa3",
        "F_JlEC_c0WOY6HfJJ5iGMbNzIUO089xufQbYL_u-YJTHBUKPRjnaccHI18codpLRql9n7v6XCpPrHMliGPbF1izY8tBwy6-sMMu0",
        "n72q6bKGEAHIgUARVA6ozFtcmIsdQ3amFhwAGXi2AlxH-H2w4qrc36WQXilNimLlFHzP5XbISpO4DZbkfi8cMsUbaI9JFA49yucQ",
        "g6DLXXZ6QcLbQ1pz_vcYg_jjwMNHemJuzmNZTHXNXw"
    );
    const TOKEN: &str = concat!(
        "eyJhbGciOiJQUzI1NiIsImtpZCI6ImtpZC10ZXN0LTAwMDEiLCJ0eXAiOiJKV1QifQ.eyJhdWQiOiJodHRwczovL29hdXRoLWxv",
        "Z2luLmNsb3VkLmh1YXdlaS5jb20vb2F1dGgyL3YzL3Rva2VuIiwiaXNzIjoiMTAwMDAwMDAxIiwiaWF0IjoxNzAwMDAwMDAwLCJl",
        "eHAiOjE3MDAwMDM2MDB9.IrjnritoFgiUDN4juf9rADV8ihe18PB1Ddx6exBkPNFq3rKNeuiH4I1Uq-m6NzJ_A4OzB7NOnSNPKbE",
        "nCSDrhp7sOGQExp7UqqH2v4V-WgOWxxO-3GnalDQ18dgtGBw4VbjMCHgmJ5r7qIaYUznV4kaRlT2YfZ2iH2doDL_wW1te0l7lfJn",
        "miNSbO7lYawJxuYPa2-rrcJ63TdfyDy2RxGjZupxqJLcfSlmhFxW3xT32JIJCpbFTCmUwUyTQu87Jwmj4t1OdrhlgvIF7l3i-fa5",
        "Fo3rO1_s_oJ8nS33sW0FdUa64JCRPxVYe8VLPsVyNJyIO8SrD8HKOwwATG9_U_A"
    );

    #[test]
    fn the_vector_is_read_and_its_signature_is_good() {
        let (header, claims, signed, signature) = parse(TOKEN).unwrap();
        assert_eq!((header.alg.as_str(), header.kid.as_str()), ("PS256", "kid-test-0001"));
        assert_eq!((claims.aud.as_str(), claims.iss.as_str()), (AUDIENCE, "100000001"));
        assert_eq!((claims.iat, claims.exp), (1_700_000_000, 1_700_003_600));
        // SEQUENCE { INTEGER n, INTEGER 65537 }; a zero byte keeps n positive.
        let mut key = vec![0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00];
        key.extend(URL_SAFE_NO_PAD.decode(MODULUS).unwrap());
        key.extend([0x02, 0x03, 0x01, 0x00, 0x01]);
        let how = &aws_lc_rs::signature::RSA_PSS_2048_8192_SHA256;
        assert!(is_signed(how, &key, signed.as_bytes(), &signature));
        assert!(!is_signed(how, &key, &signed.as_bytes()[1..], &signature));
    }

    #[test]
    fn a_bearer_is_good_only_when_all_of_it_is_right() {
        let apps = Apps::open(None).unwrap();
        let app_of = |id: &str| apps.change(id, Change::default()).unwrap();
        let account = app_of("100001").view("")["service_account"].clone();
        let key = EncodingKey::from_rsa_pem(account["private_key"].as_str().unwrap().as_bytes()).unwrap();
        let sign = |algorithm: Algorithm, kid: &Value, claims: Value| {
            let mut header = jsonwebtoken::Header::new(algorithm);
            header.kid = kid.as_str().map(str::to_owned);
            encode(&header, &claims, &key).unwrap()
        };
        let claims = json!({"iss": account["sub_account"], "aud": AUDIENCE, "iat": NOW, "exp": NOW + 3600});
        let with = |name: &str, value: Value| {
            let mut claims = claims.clone();
            claims[name] = value;
            sign(Algorithm::PS256, &account["key_id"], claims)
        };
        let good = with("iat", NOW.into());
        assert!(is_jwt(&good));
        assert_eq!(app(&apps, &good, NOW).unwrap().facts.app_id, "100001");
        let other = app_of("100002");
        let refused = |bearer: &str, code: &str| match app(&apps, bearer, NOW) {
            Ok(_) => panic!("it was taken"),
            Err(refusal) => assert_eq!(refusal, Refusal::new(code)),
        };
        refused(&with("aud", "https://example.com".into()), "80200001");
        refused(&with("iss", other.sub_account().into()), "80200001");
        refused(&with("iat", (NOW + 400).into()), "80200001");
        refused(&with("exp", (NOW + 86_401).into()), "80300036");
        refused(&sign(Algorithm::RS256, &account["key_id"], claims.clone()), "80200001");
        refused(&sign(Algorithm::PS256, &json!("another"), claims.clone()), "80200001");
        assert_eq!(app(&apps, &good, NOW + 3600).err(), Some(Refusal::new("80200005")));
    }
}
