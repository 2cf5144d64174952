//! Whom we trust: the system's authorities, and one that a channel names (a sandbox, a private gateway). With a named
//! one a machine without any system's authority does as well.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_platform_verifier::Verifier;

/// A certificate with its key, by which a peer knows us. Cloning shares it; its `Debug` shows nothing.
#[derive(Clone)]
pub struct Identity(Arc<CertifiedKey>);

/// Why there is no identity: which of the two texts is at fault, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityError {
    /// The chain.
    Certificate(String),
    /// The key, or that it is not the certificate's.
    Key(String),
}

impl Identity {
    /// Reads a chain (the certificate first) and its private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, IdentityError> {
        let chain = certificates(chain).map_err(IdentityError::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|_| IdentityError::Key("is no unencrypted private key in PEM form".to_owned()))?;
        match CertifiedKey::from_der(chain, key, &provider()) {
            Ok(both) => Ok(Self(Arc::new(both))),
            Err(rustls::Error::InconsistentKeys(_)) => {
                Err(IdentityError::Key("does not belong to the certificate".to_owned()))
            }
            Err(_) => Err(IdentityError::Key("is a damaged private key, or of an unknown kind".to_owned())),
        }
    }

    /// The certificate itself, DER.
    pub fn certificate(&self) -> &[u8] {
        self.0.cert.first().map_or(&[], AsRef::as_ref)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

/// A client that speaks HTTP/2 only. It trusts the certificates of `ca_pem` beside the system's authorities, and shows
/// `identity` where it is asked who it is.
pub fn http2_client(ca_pem: Option<&str>, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, String> {
    let verifier = match ca_pem {
        Some(pem) => Arc::new(
            Verifier::new_with_extra_roots(certificates(pem)?, provider())
                .map_err(|error| format!("trusting the named certificates: {error}"))?,
        ),
        None => system()?,
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        Some(Identity(both)) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(both))))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// The certificates of a PEM text: at least one, each of them sound.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| "is not in PEM form".to_owned())?;
    if found.is_empty() {
        return Err("holds no certificate".to_owned());
    }
    Ok(found)
}

/// The system's authorities are read once: parsing some hundred of them takes milliseconds, and every channel
/// wants them. An error is not kept, so that installing them mends it.
fn system() -> Result<Arc<Verifier>, String> {
    static SYSTEM: OnceLock<Arc<Verifier>> = OnceLock::new();
    if let Some(verifier) = SYSTEM.get() {
        return Ok(verifier.clone());
    }
    let verifier = Verifier::new(provider())
        .map_err(|error| format!("reading the system's certificate authorities: {error}"))?;
    Ok(SYSTEM.get_or_init(|| Arc::new(verifier)).clone())
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_a_certificate_is_refused() {
        assert!(certificates("").is_err());
        assert!(certificates("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----").is_err());
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
        assert!(http2_client(Some(junk), None).is_err());
    }

    #[test]
    fn a_certificate_and_a_strange_key_make_no_identity() {
        let one = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let (chain, key) = (one.cert.pem(), one.signing_key.serialize_pem());
        let identity = Identity::from_pem(&chain, &key).unwrap();
        assert_eq!(identity.certificate(), one.cert.der().as_ref());
        assert_eq!(format!("{identity:?}"), "Identity(…)");
        let why = |chain: &str, key: &str| Identity::from_pem(chain, key).unwrap_err();
        let strange = why(&chain, &other.signing_key.serialize_pem());
        assert_eq!(strange, IdentityError::Key("does not belong to the certificate".to_owned()));
        assert!(matches!(why("", &key), IdentityError::Certificate(_)));
        let no_key =
            why(&chain, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----");
        assert!(matches!(&no_key, IdentityError::Key(why) if why.contains("unencrypted")), "{no_key:?}");
    }

    #[test]
    fn a_named_authority_makes_a_client_that_speaks_http2_only() {
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let config = http2_client(Some(&key.cert.pem()), None).unwrap();
        assert_eq!(config.alpn_protocols, [b"h2".to_vec()]);
    }
}
