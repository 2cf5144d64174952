//! Signatures as the Standard Webhooks specification has them: `v1` is HMAC-SHA256 with a shared secret, `v1a` ed25519.
//!
//! What is signed is `id.timestamp.body`. For a day after its secret was made anew an endpoint gets both signatures.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::secrets::Vault;
use crate::store::{Signature, WebhookRecord};

/// How long the secret before is used beside a new one.
pub const OVERLAP_MS: u64 = 24 * 3600 * 1000;
/// Bytes of a secret; the specification allows 24 to 64.
const BYTES: usize = 32;

/// The secrets of an endpoint.
#[derive(Debug, Clone)]
pub struct Secrets {
    signature: Signature,
    current: SecretString,
    previous: Option<(SecretString, u64)>,
}

/// As sealed.
#[derive(Serialize, Deserialize)]
struct Stored<'t> {
    current: std::borrow::Cow<'t, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<(std::borrow::Cow<'t, str>, u64)>,
}

impl Secrets {
    /// New ones.
    pub fn make(signature: Signature) -> Self {
        Self { signature, current: fresh(signature), previous: None }
    }

    /// A new secret beside the one that there is.
    #[must_use]
    pub fn rotated(&self, now_ms: u64) -> Self {
        let previous = Some((self.current.clone(), now_ms + OVERLAP_MS));
        Self { signature: self.signature, current: fresh(self.signature), previous }
    }

    /// Opens an endpoint's; `None` where they are damaged or sealed under another master key.
    pub fn open(vault: &Vault, webhook: &WebhookRecord) -> Option<Self> {
        let plain = vault.open(&place(webhook.app, &webhook.public_id), &webhook.secrets);
        let plain = plain
            .inspect_err(|error| {
                tracing::error!(webhook.id = %webhook.public_id, "the webhook's secrets cannot be read: {error}");
            })
            .ok()?;
        let stored: Stored<'_> = serde_json::from_slice(&plain).ok()?;
        let previous = stored.previous.map(|(text, until)| (text.into_owned().into(), until));
        Some(Self { signature: webhook.signature, current: stored.current.into_owned().into(), previous })
    }

    /// Seals them for their endpoint.
    pub fn seal(&self, vault: &Vault, app: i64, public_id: &str) -> Vec<u8> {
        let previous = self.previous.as_ref().map(|(text, until)| (text.expose_secret().into(), *until));
        let stored = Stored { current: self.current.expose_secret().into(), previous };
        let plain = serde_json::to_vec(&stored).expect("text always serialises");
        vault.seal(&place(app, public_id), &plain)
    }

    /// The shared secret, to be shown once; `None` where there is none to share.
    pub fn shown(&self) -> Option<&str> {
        (self.signature == Signature::Hmac).then(|| self.current.expose_secret())
    }

    /// The public keys, newest first; none where the secret is shared.
    pub fn public_keys(&self, now_ms: u64) -> Vec<String> {
        self.valid(now_ms).filter_map(|secret| public_key(secret.expose_secret())).collect()
    }

    /// Until when the secret before is used too.
    pub fn previous_until(&self, now_ms: u64) -> Option<u64> {
        self.previous.as_ref().map(|(_, until)| *until).filter(|until| *until > now_ms)
    }

    /// The value of `webhook-signature`.
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8], now_ms: u64) -> String {
        let all: Vec<_> = self
            .valid(now_ms)
            .filter_map(|secret| sign(self.signature, secret.expose_secret(), id, timestamp, body))
            .collect();
        all.join(" ")
    }

    fn valid(&self, now_ms: u64) -> impl Iterator<Item = &SecretString> {
        let before = self.previous.as_ref().filter(move |(_, until)| *until > now_ms);
        std::iter::once(&self.current).chain(before.map(|(secret, _)| secret))
    }
}

pub(crate) fn place(app: i64, public_id: &str) -> String {
    format!("webhooks|secrets|{app}|{public_id}")
}

fn fresh(signature: Signature) -> SecretString {
    let mut bytes = [0u8; BYTES];
    // Fails only where the system has no random source, and then nothing else would have started either.
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
    let prefix = match signature {
        Signature::Hmac => "whsec_",
        Signature::Ed25519 => "whsk_",
    };
    format!("{prefix}{}", STANDARD.encode(bytes)).into()
}

fn key_pair(secret: &str) -> Option<Ed25519KeyPair> {
    let seed = STANDARD.decode(secret.strip_prefix("whsk_")?).ok()?;
    Ed25519KeyPair::from_seed_unchecked(&seed).ok()
}

fn public_key(secret: &str) -> Option<String> {
    Some(format!("whpk_{}", STANDARD.encode(key_pair(secret)?.public_key())))
}

fn sign(signature: Signature, secret: &str, id: &str, timestamp: u64, body: &[u8]) -> Option<String> {
    let signed = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
    Some(match signature {
        Signature::Hmac => {
            let bytes = STANDARD.decode(secret.strip_prefix("whsec_")?).ok()?;
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), &signed);
            format!("v1,{}", STANDARD.encode(tag))
        }
        Signature::Ed25519 => format!("v1a,{}", STANDARD.encode(key_pair(secret)?.sign(&signed))),
    })
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    /// The example of the specification's own libraries.
    #[test]
    fn the_specifications_vector_comes_out() {
        let made = sign(
            Signature::Hmac,
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(made.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn an_ed25519_signature_is_verified_by_the_public_key_that_is_shown() {
        let secrets = Secrets::make(Signature::Ed25519);
        assert_eq!(secrets.shown(), None);
        let value = secrets.sign("evt_1", 5, b"{}", 0);
        let key = &secrets.public_keys(0)[0];
        let key = STANDARD.decode(key.strip_prefix("whpk_").unwrap()).unwrap();
        let signature = STANDARD.decode(value.strip_prefix("v1a,").unwrap()).unwrap();
        let key = UnparsedPublicKey::new(&ED25519, key);
        assert!(key.verify(b"evt_1.5.{}", &signature).is_ok());
        assert!(key.verify(b"evt_1.6.{}", &signature).is_err());
    }

    #[test]
    fn for_a_day_after_a_rotation_both_secrets_sign_and_then_the_new_one_alone() {
        for kind in [Signature::Hmac, Signature::Ed25519] {
            let before = Secrets::make(kind);
            let after = before.rotated(1000);
            let alone = |secrets: &Secrets| secrets.sign("e", 1, b"x", u64::MAX);
            let both = format!("{} {}", alone(&after), alone(&before));
            assert_eq!(after.sign("e", 1, b"x", 1000 + OVERLAP_MS - 1), both);
            assert_eq!(after.sign("e", 1, b"x", 1000 + OVERLAP_MS), alone(&after));
            assert_eq!(after.previous_until(1001), Some(1000 + OVERLAP_MS));
            assert_eq!(after.public_keys(1001).len(), if kind == Signature::Hmac { 0 } else { 2 });
        }
    }

    #[test]
    fn secrets_open_only_for_their_endpoint_and_hide_in_debug() {
        let vault = Vault::from_base64(&STANDARD.encode([7; 32])).unwrap();
        let secrets = Secrets::make(Signature::Hmac).rotated(5);
        let record = |public_id: &str| WebhookRecord {
            seq: 1,
            public_id: public_id.into(),
            app: 1,
            url: String::new(),
            description: String::new(),
            kinds: 0,
            signature: Signature::Hmac,
            secrets: secrets.seal(&vault, 1, "whk_a"),
            disabled: None,
            disabled_at: None,
            failing_since: None,
            created_at: 0,
            updated_at: 0,
        };
        let opened = Secrets::open(&vault, &record("whk_a")).unwrap();
        assert_eq!(opened.sign("e", 1, b"x", 6), secrets.sign("e", 1, b"x", 6));
        assert!(Secrets::open(&vault, &record("whk_b")).is_none());
        assert!(!format!("{opened:?}").contains("whsec_"));
    }
}
