//! TLS: the certificate that was given, or one of the sandbox's own making.
//!
//! The sandbox is then an authority of its own, which clients are told to trust (`GET /_sandbox/ca.pem`); with a data
//! directory it stays the same one over restarts. A client may show a certificate: its key is proved here, who signed it
//! is for the twin to judge.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use tokio_rustls::TlsAcceptor;

use crate::server::Tls;

/// The sandbox as an authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// The one of before, or a new one.
    pub(crate) fn open(dir: Option<&Path>) -> anyhow::Result<Self> {
        let file = dir.map(|dir| dir.join("authority.key"));
        let key = match file.as_deref() {
            Some(file) if file.exists() => {
                let text =
                    std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
                KeyPair::from_pem(&text).with_context(|| format!("reading {}", file.display()))?
            }
            file => {
                let key = KeyPair::generate().context("making the sandbox's key")?;
                if let Some(file) = file {
                    crate::state::write_whole(file, key.serialize_pem().as_bytes())?;
                }
                key
            }
        };
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "anypush sandbox");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // The same key gives the same serial number: a client that kept the certificate still knows it.
        Ok(Self(CertifiedIssuer::self_signed(params, key).context("making the sandbox's authority")?))
    }

    /// Its certificate.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server's certificate for this machine.
    fn for_this_machine(&self) -> anyhow::Result<Tls> {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let (cert_pem, key_pem) = self.sign(&CertificateParams::new(names)?)?;
        Ok(Tls { cert_pem: cert_pem.into_bytes(), key_pem: key_pem.into_bytes() })
    }

    /// A certificate and its key, PEM.
    pub(crate) fn sign(&self, params: &CertificateParams) -> anyhow::Result<(String, String)> {
        let key = KeyPair::generate().context("making a key")?;
        let cert = params.signed_by(&key, &self.0).context("signing a certificate")?;
        Ok((cert.pem(), key.serialize_pem()))
    }
}

/// What answers TLS handshakes.
pub(crate) fn acceptor(given: Option<&Tls>, authority: &Authority) -> anyhow::Result<TlsAcceptor> {
    let own = if given.is_none() { Some(authority.for_this_machine()?) } else { None };
    let tls = given.or(own.as_ref()).context("there is a certificate, given or made")?;
    let chain = CertificateDer::pem_slice_iter(&tls.cert_pem)
        .collect::<Result<Vec<_>, _>>()
        .context("reading the certificate chain")?;
    let key = PrivateKeyDer::from_pem_slice(&tls.key_pem).context("reading the private key")?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .context("choosing TLS versions")?
        .with_client_cert_verifier(Arc::new(AnyClient(provider)))
        .with_single_cert(chain, key)
        .context("using the certificate")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Takes any client that has the key of the certificate it shows, and any that shows none.
#[derive(Debug)]
struct AnyClient(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
