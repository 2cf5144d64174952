//! Status callbacks: what is said, when, and how it is signed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::accounts::Account;
use super::messages::{Message, Step};
use super::{Algorithm, SMS_TWILIO, Twilio};
use crate::callbacks::{Manners, Report};
use crate::phones::{Push, Seen, Witness};
use crate::rules::{Behaviour, Decision};
use crate::state::now_ms;

/// An answer is awaited for 15 s (UNVERIFIED), and nothing is repeated: Twilio repeats where the callback URL's fragment
/// asks for it, which senders avoid.
const MANNERS: Manners = Manners {
    provider: SMS_TWILIO,
    timeout: Duration::from_secs(15),
    retries: &[],
    is_good: |status, _| status.is_success(),
};

/// How far the phone is while the push is still being answered.
enum Moment {
    Answering { seen: Option<Seen> },
    Answered,
}

/// Sends a message on its way: to the phone, if one is played, and with reports to the sender.
pub(super) async fn send_off(twilio: &Arc<Twilio>, account_sid: &str, sid: &Arc<str>, decision: &Decision) {
    let (step_ms, now) = (twilio.settings().step_ms, now_ms());
    let mut steps = vec![Step { at_ms: now + step_ms, status: "sent", error: None }];
    let last = final_step(twilio, account_sid, sid, decision);
    if let Some((status, error)) = last {
        if status == "failed" {
            // It never left Twilio.
            steps.clear();
        }
        steps.push(Step { at_ms: now + 2 * step_ms, status, error });
    }
    for step in &steps {
        twilio.messages.step(account_sid, sid, *step);
    }
    // What is told begins with the queue.
    steps.insert(0, Step { at_ms: now, status: "queued", error: None });
    let reports: Vec<_> = steps
        .iter()
        .enumerate()
        .filter_map(|(index, step)| {
            let after = if index == 0 { 0 } else { step_ms };
            report(twilio, account_sid, sid, *step, Duration::from_millis(after))
        })
        .collect();
    let to = twilio.messages.with(account_sid, sid, |message| message.wanted.to.clone()).unwrap_or_default();
    twilio.sandbox.callbacks.report(MANNERS, account_sid, &to, reports).await;
}

/// What the last word will be, as far as it is known by now.
fn final_step(
    twilio: &Arc<Twilio>,
    account_sid: &str,
    sid: &Arc<str>,
    decision: &Decision,
) -> Option<(&'static str, Option<u32>)> {
    let code = decision.code.as_deref().and_then(|code| code.parse().ok());
    match decision.behaviour {
        Behaviour::Dead => Some(("undelivered", Some(30005))),
        // Its own queue is Twilio's; what is later is the carrier's.
        Behaviour::Fails if code == Some(30001) => Some(("failed", code)),
        Behaviour::Fails => Some(("undelivered", code.or(Some(30008)))),
        Behaviour::Silent => None,
        _ => match hand_over(twilio, account_sid, sid) {
            Phone::None | Phone::Saw(Seen::Shown | Seen::Tapped) => Some(("delivered", None)),
            Phone::Saw(Seen::Expired | Seen::Replaced) => Some(("undelivered", Some(30003))),
            Phone::WillSee => None,
        },
    }
}

/// Whether there is a phone with the number, and what it did.
enum Phone {
    None,
    Saw(Seen),
    WillSee,
}

/// Gives it to the phone with that number.
fn hand_over(twilio: &Arc<Twilio>, account_sid: &str, sid: &Arc<str>) -> Phone {
    let message = twilio.messages.with(account_sid, sid, |message| {
        let wanted = &message.wanted;
        let until = now_ms() + u64::from(wanted.validity_seconds) * 1000;
        (wanted.to.clone(), wanted.body.clone(), message.sid.clone(), until)
    });
    let Some((to, body, key, until)) = message else { return Phone::None };
    let moment = Arc::new(Mutex::new(Moment::Answering { seen: None }));
    let witness = witness(twilio, account_sid, sid, moment.clone());
    let has_phone = twilio.sandbox.phones.push(SMS_TWILIO, &to, || Push {
        message_id: key,
        body: Some(body),
        expires_at_ms: until,
        witness: Some(witness),
        ..Push::default()
    });
    let mut moment = moment.lock().unwrap_or_else(PoisonError::into_inner);
    let seen = match std::mem::replace(&mut *moment, Moment::Answered) {
        Moment::Answering { seen } => seen,
        Moment::Answered => None,
    };
    match seen {
        _ if !has_phone => Phone::None,
        Some(seen) => Phone::Saw(seen),
        None => Phone::WillSee,
    }
}

/// Notes what the phone does while the push is answered, and reports what it does later. SMS knows no taps.
fn witness(twilio: &Arc<Twilio>, account_sid: &str, sid: &Arc<str>, moment: Arc<Mutex<Moment>>) -> Witness {
    let (twilio, account_sid, sid) = (Arc::downgrade(twilio), account_sid.to_owned(), sid.clone());
    Witness::new(move |now_seen| {
        if let Moment::Answering { seen } = &mut *moment.lock().unwrap_or_else(PoisonError::into_inner) {
            *seen = Some(now_seen);
            return;
        }
        let Some(twilio) = twilio.upgrade() else { return };
        let (status, error) = match now_seen {
            Seen::Shown => ("delivered", None),
            Seen::Expired | Seen::Replaced => ("undelivered", Some(30003)),
            Seen::Tapped => return,
        };
        let step = Step { at_ms: now_ms(), status, error };
        twilio.messages.step(&account_sid, &sid, step);
        let to = twilio.messages.with(&account_sid, &sid, |message| message.wanted.to.clone());
        if let Some(report) = report(&twilio, &account_sid, &sid, step, Duration::ZERO) {
            twilio.sandbox.callbacks.report_later(MANNERS, &account_sid, &to.unwrap_or_default(), report);
        }
    })
}

/// The callback of one step; `None` where the message asked for none.
fn report(twilio: &Twilio, account_sid: &str, sid: &str, step: Step, after: Duration) -> Option<Report> {
    let settings = twilio.settings();
    let account = twilio.accounts.get(account_sid)?;
    let is_forged = twilio.sandbox.switches.of(SMS_TWILIO).receipts.forged;
    let (url, mut fields) = twilio.messages.with(account_sid, sid, |message| {
        Some((message.wanted.status_callback.clone()?, fields(message, step)))
    })??;
    fields.extend(settings.extra.clone());
    let headers = sign(&url, &fields, &account, settings.signature, is_forged);
    let body = fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value)));
    Some(Report { after, url, headers, body: body.collect::<Vec<_>>().join("&").into_bytes() })
}

fn fields(message: &Message, step: Step) -> BTreeMap<String, String> {
    let from = message.sender();
    let mut fields: BTreeMap<String, String> = [
        ("AccountSid", message.account.as_str()),
        ("ApiVersion", "2010-04-01"),
        ("From", from.as_str()),
        ("MessageSid", message.sid.as_str()),
        ("MessageStatus", step.status),
        ("SmsSid", message.sid.as_str()),
        ("SmsStatus", step.status),
        ("To", message.wanted.to.as_str()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    if let Some(error) = step.error {
        fields.insert("ErrorCode".into(), error.to_string());
    }
    if let Some(service) = &message.wanted.service {
        fields.insert("MessagingServiceSid".into(), service.clone());
    }
    fields
}

/// `application/x-www-form-urlencoded`, with `%20` as `+`.
fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b' ' => out.push('+'),
            b'-' | b'.' | b'_' | b'*' => out.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
        out
    })
}

/// The headers of a callback: over the URL as it was given and the parameters in their order.
fn sign(
    url: &str,
    fields: &BTreeMap<String, String>,
    account: &Account,
    algorithm: Algorithm,
    is_forged: bool,
) -> HeaderMap {
    let mut text = url.to_owned();
    for (name, value) in fields {
        text.push_str(name);
        text.push_str(value);
    }
    let (kind, secret) = match algorithm {
        Algorithm::HmacSha1 => (hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &account.auth_token),
        Algorithm::HmacSha256 => (hmac::HMAC_SHA256, &account.shared_key_secret),
    };
    let secret = if is_forged { "not the vendor's" } else { secret };
    let signature = hmac::sign(&hmac::Key::new(kind, secret.as_bytes()), text.as_bytes());
    let mut headers = HeaderMap::new();
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    headers.insert(CONTENT_TYPE, form);
    let mut insert = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    insert("x-twilio-signature", STANDARD.encode(signature.as_ref()));
    insert("user-agent", "TwilioProxy/1.1".into());
    if algorithm == Algorithm::HmacSha256 {
        let settings = format!("key={},algorithm=HMAC_SHA256", account.shared_key_id);
        insert("x-twilio-webhooks-signature-settings", settings);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The contract sheet's vectors V1 and V7, the first from the tests of Twilio's own client.
    #[test]
    fn signatures_are_those_of_twilios_own_vectors() {
        let account = |auth_token: &str| -> Account {
            serde_json::from_value(serde_json::json!({
                "auth_token": auth_token, "api_key_sid": "", "api_key_secret": "", "from": "",
                "messaging_service_sid": "", "shared_key_id": "k", "shared_key_secret": auth_token,
            }))
            .unwrap()
        };
        let signature = |url: &str, fields: &[(&str, &str)], algorithm| {
            let fields = fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            let headers = sign(url, &fields, &account("12345"), algorithm, false);
            headers["x-twilio-signature"].to_str().unwrap().to_owned()
        };
        let call = [
            ("CallSid", "CA1234567890ABCDE"),
            ("Digits", "1234"),
            ("From", "+14158675309"),
            ("To", "+18005551212"),
            ("Caller", "+14158675309"),
        ];
        let url = "https://mycompany.com/myapp.php?foo=1&bar=2";
        assert_eq!(signature(url, &call, Algorithm::HmacSha1), "RSOYDt4T1cUTdK1PDd93/VVr8B8=");
        let (account_sid, sid) = (format!("AC{}", "a".repeat(32)), format!("SM{}", "b".repeat(32)));
        let status = [
            ("AccountSid", account_sid.as_str()),
            ("ApiVersion", "2010-04-01"),
            ("From", "+15557654321"),
            ("MessageSid", sid.as_str()),
            ("MessageStatus", "delivered"),
            ("SmsSid", sid.as_str()),
            ("SmsStatus", "delivered"),
            ("To", "+15551234567"),
        ];
        let url = "https://push.example.com/v1/callbacks/twilio?tenant=t1";
        assert_eq!(signature(url, &status, Algorithm::HmacSha1), "KjJtAQwMogPVe3eYJlCnLon+DyI=");
        let sha256 = "zxNmZmqnD0r8axVcel5jADvsjhb6fU5l0zOxF+iS8Zc=";
        assert_eq!(signature(url, &status, Algorithm::HmacSha256), sha256);
    }
}
