//! Teams with their keys, topics and certificates: who may send what.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use anyhow::Context as _;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, PublicKeyData as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::state::{hex, random_bytes, write_whole};
use crate::tls::Authority;

/// Everything that outlives the process.
#[derive(Default, Serialize, Deserialize)]
struct Book {
    teams: BTreeMap<String, Team>,
    /// By fingerprint: whose certificate it is, and for which topic.
    certificates: BTreeMap<String, Certificate>,
}

#[derive(Default, Serialize, Deserialize)]
struct Team {
    /// By key id, the private key, PEM.
    keys: BTreeMap<String, String>,
    /// Bundle ids; none means any.
    bundles: BTreeSet<String>,
}

/// A push certificate that was made here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Certificate {
    pub(super) team: String,
    pub(super) bundle: String,
    cert_pem: String,
    key_pem: String,
}

/// All teams.
pub(super) struct Teams {
    book: RwLock<Book>,
    path: Option<PathBuf>,
}

/// Whether a text may be a team id: ten upper-case letters and digits.
pub(super) fn is_team_id(text: &str) -> bool {
    text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

/// Whether a text may be a bundle id.
pub(super) fn is_bundle(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

impl Teams {
    pub(super) fn open(dir: Option<PathBuf>) -> anyhow::Result<Self> {
        let path = dir.map(|dir| dir.join("teams.json"));
        let book = match path.as_deref() {
            Some(path) if path.exists() => {
                let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
                serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?
            }
            _ => Book::default(),
        };
        Ok(Self { book: RwLock::new(book), path })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Book) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let mut book = self.book.write().unwrap_or_else(PoisonError::into_inner);
        let made = change(&mut book)?;
        if let Some(path) = &self.path {
            write_whole(path, &serde_json::to_vec_pretty(&*book)?)?;
        }
        Ok(made)
    }

    /// The team's key, made where it has none; the bundle becomes one of the team's.
    pub(super) fn key(&self, team: &str, bundle: Option<&str>) -> anyhow::Result<Value> {
        self.change(|book| {
            let record = book.teams.entry(team.to_owned()).or_default();
            record.bundles.extend(bundle.map(str::to_owned));
            if record.keys.is_empty() {
                let key = KeyPair::generate().context("making a key")?;
                let id = hex(&random_bytes::<5>()).to_uppercase();
                record.keys.insert(id, key.serialize_pem());
            }
            let (id, pem) = record.keys.first_key_value().context("the team has a key")?;
            Ok(json!({"team_id": team, "key_id": id, "private_key": pem, "bundles": record.bundles}))
        })
    }

    /// Takes all keys and certificates of a team away.
    pub(super) fn revoke(&self, team: &str) -> anyhow::Result<()> {
        self.change(|book| {
            book.certificates.retain(|_, certificate| certificate.team != team);
            if let Some(team) = book.teams.get_mut(team) {
                team.keys.clear();
            }
            Ok(())
        })
    }

    /// A certificate for one bundle, the same each time.
    pub(super) fn certificate(
        &self,
        authority: &Authority,
        team: &str,
        bundle: &str,
    ) -> anyhow::Result<Value> {
        let show = |made: &Certificate| json!({"team_id": team, "bundle_id": bundle, "certificate": made.cert_pem, "private_key": made.key_pem});
        self.change(|book| {
            let of = |made: &&Certificate| made.team == team && made.bundle == bundle;
            if let Some(made) = book.certificates.values().find(of) {
                return Ok(show(made));
            }
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, format!("Apple Push Services: {bundle}"));
            params.distinguished_name.push(DnType::OrganizationalUnitName, team);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            let (cert_pem, key_pem) = authority.sign(&params)?;
            let fingerprint = fingerprint(&der(&cert_pem)?);
            let made = Certificate { team: team.to_owned(), bundle: bundle.to_owned(), cert_pem, key_pem };
            let shown = show(&made);
            book.certificates.insert(fingerprint, made);
            Ok(shown)
        })
    }

    /// The certificate that a client showed, where it was made here.
    pub(super) fn find_certificate(&self, der: &[u8]) -> Option<Certificate> {
        let book = self.book.read().unwrap_or_else(PoisonError::into_inner);
        book.certificates.get(&fingerprint(der)).cloned()
    }

    /// The public point of a team's key.
    pub(super) fn public_key(&self, team: &str, key_id: &str) -> Option<Vec<u8>> {
        let book = self.book.read().unwrap_or_else(PoisonError::into_inner);
        let pem = book.teams.get(team)?.keys.get(key_id)?;
        KeyPair::from_pem(pem).ok().map(|key| key.der_bytes().to_vec())
    }

    /// Whether a team has a key. Costs far less than the key.
    pub(super) fn has_key(&self, team: &str, key_id: &str) -> bool {
        let book = self.book.read().unwrap_or_else(PoisonError::into_inner);
        book.teams.get(team).is_some_and(|team| team.keys.contains_key(key_id))
    }

    /// Whether a team may send to an app.
    pub(super) fn allows(&self, team: &str, bundle: &str) -> bool {
        let book = self.book.read().unwrap_or_else(PoisonError::into_inner);
        let bundles = book.teams.get(team).map(|team| &team.bundles);
        bundles.is_none_or(|bundles| bundles.is_empty() || bundles.contains(bundle))
    }
}

fn fingerprint(der: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der).as_ref())
}

fn der(pem: &str) -> anyhow::Result<Vec<u8>> {
    use rustls::pki_types::pem::PemObject as _;
    let der = rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes());
    Ok(der.context("reading a certificate that was just made")?.to_vec())
}
