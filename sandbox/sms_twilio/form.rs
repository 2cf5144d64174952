//! What a request to send must be.

use serde::Deserialize;
use serde_json::Value;

use super::accounts::Account;
use super::codes::Refusal;

/// Characters that a body may have.
const MAX_BODY: usize = 1600;
/// The longest time that a message may wait at Twilio, in seconds.
const MAX_VALIDITY: u32 = 36_000;

/// The fields, as the vendor's client sends them. Fields that are not played are taken and have no effect.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Form {
    to: Option<String>,
    from: Option<String>,
    messaging_service_sid: Option<String>,
    body: Option<String>,
    media_url: Option<String>,
    content_sid: Option<String>,
    content_variables: Option<String>,
    status_callback: Option<String>,
    validity_period: Option<String>,
    smart_encoded: Option<String>,
    schedule_type: Option<String>,
}

/// A message that may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) to: String,
    pub(super) from: Option<String>,
    pub(super) service: Option<String>,
    pub(super) body: String,
    pub(super) status_callback: Option<String>,
    pub(super) validity_seconds: u32,
    pub(super) is_scheduled: bool,
}

fn given(field: Option<&String>) -> Option<&str> {
    field.map(String::as_str).filter(|text| !text.is_empty())
}

fn refuse<T>(code: &str) -> Result<T, Refusal> {
    Err(Refusal::of(code))
}

impl Form {
    /// Whom it is for, for the ledger.
    pub(super) fn to(&self) -> &str {
        self.to.as_deref().unwrap_or_default()
    }

    /// What tells two messages to one number apart: the query of the callback URL, where senders put their own id.
    pub(super) fn key(&self) -> &str {
        self.status_callback.as_deref().and_then(|url| url.split_once('?')).map_or("", |(_, query)| query)
    }

    pub(super) fn check(&self, account: &Account) -> Result<Wanted, Refusal> {
        let Some(to) = given(self.to.as_ref()) else { return refuse("21604") };
        let (from, service) = (given(self.from.as_ref()), given(self.messaging_service_sid.as_ref()));
        if from.is_none() && service.is_none() {
            return refuse("21603");
        }
        if !is_e164(to) || from == Some(to) {
            return refuse("21211");
        }
        if from.is_some_and(|from| from != account.from && !is_alphanumeric_sender(from)) {
            return refuse("21606");
        }
        if service.is_some_and(|service| service != account.messaging_service_sid) {
            return refuse("20404");
        }
        let body = given(self.body.as_ref());
        if body.is_none()
            && given(self.media_url.as_ref()).is_none()
            && given(self.content_sid.as_ref()).is_none()
        {
            return refuse("21602");
        }
        let body = body.unwrap_or_default();
        if body.chars().count() > MAX_BODY {
            return refuse("21617");
        }
        let variables = given(self.content_variables.as_ref());
        if variables.is_some_and(|text| !matches!(serde_json::from_str(text), Ok(Value::Object(_)))) {
            return refuse("21656");
        }
        let status_callback = given(self.status_callback.as_ref());
        if status_callback.is_some_and(|url| !is_callback_url(url)) {
            return refuse("21609");
        }
        let validity_seconds = match given(self.validity_period.as_ref()).map(str::parse) {
            None => MAX_VALIDITY,
            Some(Ok(seconds @ 1..=MAX_VALIDITY)) => seconds,
            Some(_) => return refuse("20001"),
        };
        let is_smart = given(self.smart_encoded.as_ref()) == Some("true");
        Ok(Wanted {
            to: to.to_owned(),
            from: from.map(str::to_owned),
            service: service.map(str::to_owned),
            body: if is_smart { super::segments::smart(body) } else { body.to_owned() },
            status_callback: status_callback.map(str::to_owned),
            validity_seconds,
            is_scheduled: given(self.schedule_type.as_ref()).is_some(),
        })
    }
}

fn is_e164(number: &str) -> bool {
    number.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len())
            && !digits.starts_with('0')
            && digits.bytes().all(|b| b.is_ascii_digit())
    })
}

fn is_alphanumeric_sender(from: &str) -> bool {
    let fits = (1..=11).contains(&from.len()) && from.bytes().all(|b| b.is_ascii_alphanumeric() || b == b' ');
    fits && from.bytes().any(|b| b.is_ascii_alphabetic())
}

/// An absolute URL whose host has no underscore.
fn is_callback_url(url: &str) -> bool {
    let Ok(url) = url.parse::<http::Uri>() else { return false };
    let is_http = matches!(url.scheme_str(), Some("http" | "https"));
    is_http && url.host().is_some_and(|host| !host.is_empty() && !host.contains('_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_has_its_code() {
        let account: Account = serde_json::from_value(serde_json::json!({
            "auth_token": "t", "api_key_sid": "SK", "api_key_secret": "s", "from": "+15557654321",
            "messaging_service_sid": "MG1", "shared_key_id": "k", "shared_key_secret": "s",
        }))
        .unwrap();
        let long = "x".repeat(1601);
        let good = [("To", "+15551234567"), ("From", "+15557654321"), ("Body", "b")];
        let code = |more: &[(&str, &str)]| {
            let fields: serde_json::Map<_, _> = good
                .iter()
                .chain(more)
                .map(|(name, value)| ((*name).to_owned(), Value::from(*value)))
                .collect();
            let form: Form = serde_json::from_value(Value::Object(fields)).unwrap();
            form.check(&account).map_or_else(|refusal| refusal.code, |_| 0)
        };
        for (more, expected) in [
            (vec![], 0),
            (vec![("To", "")], 21604),
            (vec![("To", "5551234567")], 21211),
            (vec![("To", "+15557654321")], 21211),
            (vec![("From", "")], 21603),
            (vec![("From", "+15550000000")], 21606),
            (vec![("From", "Acme Shop")], 0),
            (vec![("From", ""), ("MessagingServiceSid", "MG1")], 0),
            (vec![("From", ""), ("MessagingServiceSid", "MG2")], 20404),
            (vec![("Body", "")], 21602),
            (vec![("Body", ""), ("ContentSid", "HX1"), ("ContentVariables", "{\"1\":\"x\"}")], 0),
            (vec![("ContentVariables", "1")], 21656),
            (vec![("Body", long.as_str())], 21617),
            (vec![("StatusCallback", "/relative")], 21609),
            (vec![("StatusCallback", "https://my_host.example/cb")], 21609),
            (vec![("ValidityPeriod", "0")], 20001),
            (vec![("ValidityPeriod", "36000")], 0),
            (vec![("ValidityPeriod", "36001")], 20001),
        ] {
            assert_eq!(code(&more), expected, "{more:?}");
        }
    }
}
