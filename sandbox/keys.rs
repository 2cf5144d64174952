//! RSA keys of played service accounts: made here, handed out as PEM, and asked whether they have signed.

use anyhow::Context as _;
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RsaParameters, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// An RSA key of 2048 bits.
pub(crate) struct RsaKey {
    /// PKCS#8, PEM.
    pub(crate) private_pem: String,
    /// RFC 8017 A.1.1, DER.
    public: Vec<u8>,
}

impl RsaKey {
    /// Makes one. Takes a tenth of a second: not for a thread that serves others.
    pub(crate) fn generate() -> anyhow::Result<Self> {
        let pair = KeyPair::generate(KeySize::Rsa2048).ok().context("making an RSA key")?;
        let der: Pkcs8V1Der<'_> = pair.as_der().ok().context("encoding an RSA key")?;
        Self::read(&pem(der.as_ref()))
    }

    /// Reads one that was made earlier.
    pub(crate) fn read(private_pem: &str) -> anyhow::Result<Self> {
        let body: String = private_pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = STANDARD.decode(body).context("decoding a service account's key")?;
        let pair = KeyPair::from_pkcs8(&der).context("reading a service account's key")?;
        Ok(Self { public: pair.public_key().as_ref().to_vec(), private_pem: private_pem.to_owned() })
    }

    /// Whether `signature` is this key's, made as `how` says, over `signed`.
    pub(crate) fn has_signed(&self, how: &'static RsaParameters, signed: &[u8], signature: &[u8]) -> bool {
        is_signed(how, &self.public, signed, signature)
    }
}

/// Whether `signature` is that of a public key (RFC 8017 A.1.1, DER) over `signed`.
pub(crate) fn is_signed(how: &'static RsaParameters, public: &[u8], signed: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(how, public).verify(signed, signature).is_ok()
}

/// PKCS#8 as PEM (RFC 7468).
fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}
