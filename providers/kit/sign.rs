//! Signs JSON Web Tokens: RS256 assertions (RFC 7523) and PS256 bearers of service accounts, ES256 for keys on the curve
//! P-256. And names credentials.

use std::fmt::{self, Write as _};

use aws_lc_rs::digest::{SHA256, digest};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

/// Names something by what it holds, without holding it: `name:` and 16 hex digits.
pub fn fingerprint(name: &str, text: &str) -> String {
    let hash = digest(&SHA256, text.as_bytes());
    hash.as_ref().iter().take(8).fold(format!("{name}:"), |mut id, byte| {
        // Writing into a string cannot fail.
        let _ = write!(id, "{byte:02x}");
        id
    })
}

/// An RSA key that signs. Its `Debug` shows nothing.
#[derive(Clone)]
pub struct RsaKey(EncodingKey);

impl RsaKey {
    /// Reads a private key in PEM, PKCS#8 or PKCS#1. The error never quotes the key.
    pub fn from_pem(pem: &str) -> Result<Self, String> {
        let key = EncodingKey::from_rsa_pem(pem.as_bytes())
            .map_err(|_| "is no RSA private key in PEM form".to_owned())?;
        // Parsing looks at the wrapping only; a first signature proves the numbers inside.
        let key = Self(key);
        key.sign_rs256(None, &serde_json::json!({}))
            .map_err(|_| "is a damaged RSA private key".to_owned())?;
        Ok(key)
    }

    /// A compact JWT with header `{"typ":"JWT","alg":"RS256"}` and, where given, `kid`.
    pub fn sign_rs256<C: Serialize>(&self, key_id: Option<&str>, claims: &C) -> Result<String, String> {
        self.sign(Algorithm::RS256, key_id, claims)
    }

    /// The same with `PS256`: RSASSA-PSS, SHA-256, a salt of 32 bytes.
    pub fn sign_ps256<C: Serialize>(&self, key_id: Option<&str>, claims: &C) -> Result<String, String> {
        self.sign(Algorithm::PS256, key_id, claims)
    }

    fn sign<C: Serialize>(
        &self,
        algorithm: Algorithm,
        key_id: Option<&str>,
        claims: &C,
    ) -> Result<String, String> {
        let mut header = Header::new(algorithm);
        header.kid = key_id.map(ToOwned::to_owned);
        jsonwebtoken::encode(&header, claims, &self.0).map_err(|error| format!("signing failed: {error}"))
    }
}

/// A P-256 key that signs. Its `Debug` shows nothing.
#[derive(Clone)]
pub struct Es256Key(EncodingKey);

impl Es256Key {
    /// Reads a private key in PEM, PKCS#8. The error never quotes the key.
    pub fn from_pem(pem: &str) -> Result<Self, String> {
        let key = EncodingKey::from_ec_pem(pem.as_bytes())
            .map_err(|_| "is no EC private key in PEM form (PKCS#8)".to_owned())?;
        // Parsing looks at the wrapping only; a first signature proves curve and number.
        let key = Self(key);
        key.sign("", &serde_json::json!({}))
            .map_err(|_| "is no private key on the curve P-256".to_owned())?;
        Ok(key)
    }

    /// A compact JWT with header `{"alg":"ES256","kid":…}` and nothing else in it.
    pub fn sign<C: Serialize>(&self, key_id: &str, claims: &C) -> Result<String, String> {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = None;
        header.kid = Some(key_id.to_owned());
        jsonwebtoken::encode(&header, claims, &self.0).map_err(|error| format!("signing failed: {error}"))
    }
}

impl fmt::Debug for Es256Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Es256Key(…)")
    }
}

impl fmt::Debug for RsaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RsaKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::Value;

    use super::*;
    use crate::kit::testing::RSA_PEM;

    /// RFC 7515 A.2: the signing input and the signature that its key gives.
    const INPUT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    const SIGNATURE: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

    #[test]
    fn the_rfc_vector_is_signed_to_the_last_bit() {
        let key = RsaKey::from_pem(RSA_PEM).unwrap();
        let signature = jsonwebtoken::crypto::sign(INPUT.as_bytes(), &key.0, Algorithm::RS256).unwrap();
        assert_eq!(signature, SIGNATURE);
    }

    #[test]
    fn a_token_names_its_key_and_verifies() {
        let key = RsaKey::from_pem(RSA_PEM).unwrap();
        let token = key.sign_rs256(Some("k1"), &serde_json::json!({"iss": "a"})).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[0]).unwrap()).unwrap();
        assert_eq!(header, serde_json::json!({"typ": "JWT", "alg": "RS256", "kid": "k1"}));
        let input = format!("{}.{}", parts[0], parts[1]);
        let again = jsonwebtoken::crypto::sign(input.as_bytes(), &key.0, Algorithm::RS256).unwrap();
        assert_eq!(again, parts[2]);
    }

    #[test]
    fn a_bad_key_is_refused_without_being_quoted() {
        let broken = RSA_PEM.replace("MII", "AAA");
        for pem in ["", "secret", broken.as_str()] {
            let error = RsaKey::from_pem(pem).unwrap_err();
            assert!(error.contains("RSA private key") && !error.contains("secret"), "{error}");
        }
        assert_eq!(format!("{:?}", RsaKey::from_pem(RSA_PEM).unwrap()), "RsaKey(…)");
    }

    /// RFC 7515 A.3.
    const EC_PEM: &str = include_str!("testdata/rfc7515_a3.pem");
    const EC_X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    const EC_Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

    fn is_signed(signature: &str, input: &str) -> bool {
        let key = jsonwebtoken::DecodingKey::from_ec_components(EC_X, EC_Y).unwrap();
        jsonwebtoken::crypto::verify(signature, input.as_bytes(), &key, Algorithm::ES256).unwrap()
    }

    #[test]
    fn the_published_signatures_of_the_curve_are_good_and_so_are_ours() {
        let rfc = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let rfc_signature =
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        assert!(is_signed(rfc_signature, rfc));
        assert!(!is_signed(rfc_signature, &rfc.replace("joe", "eve").replace("eyJpc3", "eyJpc4")));
        let key = Es256Key::from_pem(EC_PEM).unwrap();
        let ours = jsonwebtoken::crypto::sign(rfc.as_bytes(), &key.0, Algorithm::ES256).unwrap();
        assert!(is_signed(&ours, rfc));
    }

    #[test]
    fn a_token_of_the_curve_says_what_was_asked_for_and_nothing_else() {
        #[derive(Serialize)]
        struct Claims {
            iss: &'static str,
            iat: u64,
        }
        // The input and an RFC 6979 signature of it, computed elsewhere; ours has a random part.
        let input = "eyJhbGciOiJFUzI1NiIsImtpZCI6IkFCQzEyM0RFRkcifQ.eyJpc3MiOiJERUYxMjNHSElKIiwiaWF0IjoxNzAwMDAwMDAwfQ";
        let theirs = "9eqgVsaVpJcjng-z9xvwbFH5RQ4bIRjaUdI0UT5WUNjDlcVbRVsgHTYZ2TWGP-HMFIbg6jaaLZG9RVlfBpOdlg";
        assert!(is_signed(theirs, input));
        let key = Es256Key::from_pem(EC_PEM).unwrap();
        let token = key.sign("ABC123DEFG", &Claims { iss: "DEF123GHIJ", iat: 1_700_000_000 }).unwrap();
        let (said, signature) = token.rsplit_once('.').unwrap();
        assert_eq!(said, input);
        assert!(is_signed(signature, said));
    }

    #[test]
    fn a_key_of_another_kind_is_refused_without_being_quoted() {
        for pem in ["", "secret", RSA_PEM] {
            let error = Es256Key::from_pem(pem).unwrap_err();
            assert!(error.contains("EC private key") && !error.contains("secret"), "{error}");
        }
        assert_eq!(format!("{:?}", Es256Key::from_pem(EC_PEM).unwrap()), "Es256Key(…)");
    }
}
