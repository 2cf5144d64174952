//! Whom we trust: the system's authorities, and one that a channel names (a sandbox, a private gateway). With a named
//! one a machine without any system's authority does as well.

use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_platform_verifier::Verifier;

/// A client that speaks HTTP/2 only. It trusts the certificates of `ca_pem` beside the system's authorities.
pub fn http2_client(ca_pem: Option<&str>) -> Result<Arc<ClientConfig>, String> {
    let verifier = match ca_pem {
        Some(pem) => Arc::new(
            Verifier::new_with_extra_roots(certificates(pem)?, provider())
                .map_err(|error| format!("trusting the named certificates: {error}"))?,
        ),
        None => system()?,
    };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
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
        assert!(http2_client(Some(junk)).is_err());
    }

    #[test]
    fn a_named_authority_makes_a_client_that_speaks_http2_only() {
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let config = http2_client(Some(&key.cert.pem())).unwrap();
        assert_eq!(config.alpn_protocols, [b"h2".to_vec()]);
    }
}
