//! What a push certificate says about itself: whom it is for, and when it ends.

use std::time::{Duration, SystemTime};

use x509_parser::prelude::{FromDer, X509Certificate};

use super::config::Stage;

const DAY: Duration = Duration::from_hours(24);

/// What is read of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) begins: SystemTime,
    pub(super) ends: SystemTime,
    /// Its main topic: the subject's user id.
    topic: Option<String>,
    /// Made for the sandbox alone, by its name.
    development: bool,
}

impl Facts {
    pub(super) fn read(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| "is damaged".to_owned())?;
        let point = |timestamp: i64| {
            let since = Duration::from_secs(u64::try_from(timestamp).unwrap_or_default());
            SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
        };
        let validity = certificate.validity();
        let subject = certificate.subject();
        let name = subject.iter_common_name().find_map(|name| name.as_str().ok()).unwrap_or_default();
        let user_id = x509_parser::oid_registry::asn1_rs::oid!(0.9.2342.19200300.100.1.1);
        let topic = subject.iter_by_oid(&user_id).find_map(|id| id.as_str().ok()).map(ToOwned::to_owned);
        Ok(Self {
            begins: point(validity.not_before.timestamp()),
            ends: point(validity.not_after.timestamp()),
            topic,
            development: name.starts_with("Apple Development"),
        })
    }

    /// Why it cannot be used now.
    pub(super) fn unusable(&self, now: SystemTime) -> Option<String> {
        if now >= self.ends {
            return Some(format!("the certificate ended on {}; make a new one", date(self.ends)));
        }
        (now < self.begins).then(|| format!("the certificate begins on {}", date(self.begins)))
    }

    /// What works today and should be mended. The end is told of from 30 days on, more urgently at 7 and at 1.
    pub(super) fn warnings(&self, now: SystemTime, bundle_id: &str, stage: Stage) -> Vec<String> {
        let mut warnings = Vec::new();
        let left = self.ends.duration_since(now).unwrap_or_default();
        let urgency = match left {
            left if left <= DAY => Some("within a day: renew it now"),
            left if left <= 7 * DAY => Some("within a week: renew it"),
            left if left <= 30 * DAY => Some("within 30 days: plan its renewal"),
            _ => None,
        };
        if let Some(urgency) = urgency.filter(|_| !left.is_zero()) {
            warnings.push(format!("the certificate ends on {}, {urgency}", date(self.ends)));
        }
        if let Some(topic) = self.topic.as_deref().filter(|topic| *topic != bundle_id) {
            warnings.push(format!("the certificate is for {topic}, bundle_id says {bundle_id}"));
        }
        if self.development && stage != Stage::Sandbox {
            warnings.push("the certificate is for development, which works in the sandbox only".to_owned());
        }
        warnings
    }
}

fn date(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at)
        .map_or_else(|_| "a far day".to_owned(), |at| at.strftime("%Y-%m-%d").to_string())
}
