//! Projects and their service accounts.
//!
//! A project is made when its service account is first asked for, with a key of its own, and lives on in the data
//! directory. Access tokens carry their project and end, signed by the sandbox, so that they outlive its restart and
//! cost no memory.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::Context as _;
use aws_lc_rs::hmac;
use aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::keys::RsaKey;
use crate::state::{hex, random_bytes, write_whole};

/// Projects that a sandbox plays at most: each costs a key.
const MAX_PROJECTS: usize = 1000;

/// One Firebase project.
pub(super) struct Project {
    pub(super) id: String,
    pub(super) key_id: String,
    key: RsaKey,
    /// Access tokens of earlier generations are refused.
    generation: AtomicU64,
}

/// A project as it lies on file.
#[derive(Serialize, Deserialize)]
struct Stored {
    project_id: String,
    key_id: String,
    private_key: String,
    generation: u64,
}

impl Project {
    fn new(id: &str) -> anyhow::Result<Self> {
        Self::from(Stored {
            project_id: id.to_owned(),
            key_id: hex(&random_bytes::<20>()),
            private_key: RsaKey::generate()?.private_pem,
            generation: 0,
        })
    }

    fn from(stored: Stored) -> anyhow::Result<Self> {
        Ok(Self {
            key: RsaKey::read(&stored.private_key)?,
            id: stored.project_id,
            key_id: stored.key_id,
            generation: AtomicU64::new(stored.generation),
        })
    }

    pub(super) fn client_email(&self) -> String {
        format!("firebase-adminsdk-sandbox@{}.iam.gserviceaccount.com", self.id)
    }

    /// The file that an operator downloads in the Firebase console, but for where tokens come from.
    pub(super) fn service_account(&self, base_url: &str) -> Value {
        json!({
            "type": "service_account",
            "project_id": self.id,
            "private_key_id": self.key_id,
            "private_key": self.key.private_pem,
            "client_email": self.client_email(),
            "client_id": "100000000000000000001",
            "auth_uri": format!("{base_url}/auth"),
            "token_uri": format!("{base_url}/token"),
            "universe_domain": "googleapis.com"
        })
    }

    /// Whether `signature` is this account's RS256 over `signed`.
    pub(super) fn has_signed(&self, signed: &[u8], signature: &[u8]) -> bool {
        self.key.has_signed(&RSA_PKCS1_2048_8192_SHA256, signed, signature)
    }
}

/// All projects, and the key that signs access tokens.
pub(super) struct Projects {
    all: RwLock<HashMap<String, Arc<Project>>>,
    /// One maker at a time: a key takes a while, and two for one project would be one too many.
    making: Mutex<()>,
    token_key: hmac::Key,
    dir: Option<PathBuf>,
}

/// What an access token was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bearer {
    /// Good, and for this project.
    Of(String),
    /// Not ours, over, or withdrawn.
    Bad,
}

impl Projects {
    pub(super) fn open(dir: Option<PathBuf>) -> anyhow::Result<Self> {
        let mut all = HashMap::new();
        let mut secret = random_bytes::<32>().to_vec();
        if let Some(dir) = &dir {
            std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
            let path = dir.join("token.key");
            match std::fs::read(&path) {
                Ok(stored) => secret = stored,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => write_whole(&path, &secret)?,
                Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
            }
            for found in std::fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))? {
                let path = found.with_context(|| format!("listing {}", dir.display()))?.path();
                if path.extension().is_some_and(|extension| extension == "json") {
                    let project = load(&path).with_context(|| format!("reading {}", path.display()))?;
                    all.insert(project.id.clone(), Arc::new(project));
                }
            }
        }
        let token_key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        Ok(Self { all: RwLock::new(all), making: Mutex::default(), token_key, dir })
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Project>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// The project whose service account has this address.
    pub(super) fn by_email(&self, email: &str) -> Option<Arc<Project>> {
        let id = email.split_once('@')?.1.strip_suffix(".iam.gserviceaccount.com")?;
        self.get(id).filter(|project| project.client_email() == email)
    }

    /// The project, made if need be. Takes a while: not for a thread that serves others.
    pub(super) fn get_or_make(&self, id: &str) -> anyhow::Result<Arc<Project>> {
        let _one_maker = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(project) = self.get(id) {
            return Ok(project);
        }
        let count = self.all.read().unwrap_or_else(PoisonError::into_inner).len();
        anyhow::ensure!(count < MAX_PROJECTS, "at most {MAX_PROJECTS} projects");
        let project = Arc::new(Project::new(id)?);
        self.store(&project)?;
        self.all.write().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), project.clone());
        Ok(project)
    }

    /// Withdraws every access token of the project.
    pub(super) fn withdraw_tokens(&self, project: &Project) -> anyhow::Result<()> {
        project.generation.fetch_add(1, Ordering::Relaxed);
        self.store(project)
    }

    fn store(&self, project: &Project) -> anyhow::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let stored = Stored {
            project_id: project.id.clone(),
            key_id: project.key_id.clone(),
            private_key: project.key.private_pem.clone(),
            generation: project.generation.load(Ordering::Relaxed),
        };
        write_whole(&dir.join(format!("{}.json", project.id)), &serde_json::to_vec_pretty(&stored)?)
    }

    /// An access token: `ya29.<project>|<generation>|<end>|<random>.<HMAC of that>`.
    pub(super) fn mint(&self, project: &Project, ends_at_ms: u64) -> String {
        let generation = project.generation.load(Ordering::Relaxed);
        let claims = format!("{}|{generation}|{ends_at_ms}|{}", project.id, hex(&random_bytes::<8>()));
        let tag = hmac::sign(&self.token_key, claims.as_bytes());
        format!("ya29.{}.{}", URL_SAFE_NO_PAD.encode(claims), URL_SAFE_NO_PAD.encode(tag))
    }

    pub(super) fn check(&self, access_token: &str, now_ms: u64) -> Bearer {
        let project = self.read(access_token).and_then(|claims| {
            let mut parts = claims.split('|');
            let project = self.get(parts.next()?)?;
            let generation: u64 = parts.next()?.parse().ok()?;
            let ends_at_ms: u64 = parts.next()?.parse().ok()?;
            let good = generation == project.generation.load(Ordering::Relaxed) && now_ms < ends_at_ms;
            good.then(|| project.id.clone())
        });
        project.map_or(Bearer::Bad, Bearer::Of)
    }

    fn read(&self, access_token: &str) -> Option<String> {
        let (claims, tag) = access_token.strip_prefix("ya29.")?.split_once('.')?;
        let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
        hmac::verify(&self.token_key, &claims, &URL_SAFE_NO_PAD.decode(tag).ok()?).ok()?;
        String::from_utf8(claims).ok()
    }
}

fn load(path: &Path) -> anyhow::Result<Project> {
    Project::from(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// The form of a project id (cloud console): lower-case letters, digits, hyphens. It also names a file here.
pub(super) fn is_project_id(id: &str) -> bool {
    (1..=63).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::is_signed;

    // RFC 7515 A.2.
    const SIGNED: &str = concat!(
        "eyJhbGciOiJSUzI1NiJ9.",
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
    );
    const MODULUS: &str = concat!(
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0B",
        "m4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5",
        "z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7",
        "aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    );
    const SIGNATURE: &str = concat!(
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2F",
        "p5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQB",
        "MHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeY",
        "I2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
    );

    #[test]
    fn the_signature_of_rfc_7515_is_good_and_a_changed_text_is_not() {
        // SEQUENCE { INTEGER n, INTEGER 65537 }; a zero byte keeps n positive.
        let mut key = vec![0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00];
        key.extend(URL_SAFE_NO_PAD.decode(MODULUS).unwrap());
        key.extend([0x02, 0x03, 0x01, 0x00, 0x01]);
        let signature = URL_SAFE_NO_PAD.decode(SIGNATURE).unwrap();
        let is_rs256 =
            |signed: &[u8], signature: &[u8]| is_signed(&RSA_PKCS1_2048_8192_SHA256, &key, signed, signature);
        assert!(is_rs256(SIGNED.as_bytes(), &signature));
        assert!(!is_rs256(&SIGNED.as_bytes()[1..], &signature));
        assert!(!is_rs256(SIGNED.as_bytes(), &signature[1..]));
    }
}
