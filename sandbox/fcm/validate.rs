//! What FCM allows in a message that it could read. Rules: FCM v1 discovery rev 20261023 unless said otherwise.

use serde_json::{Map, Value};

use super::condition;
use super::errors::{Answer, invalid, malformed_token, too_big, unreadable};
use super::schema::duration_ms;

/// The longest time to live: four weeks.
const MAX_TTL_MS: i64 = 2_419_200_000;
/// Bytes of a payload to one device.
const MAX_PAYLOAD_BYTES: usize = 4096;
/// Bytes of a payload to a topic (a figure of third parties).
const MAX_TOPIC_PAYLOAD_BYTES: usize = 2048;
/// Longer tokens are none. Google names no limit; its tokens have about 160 characters.
const MAX_TOKEN_CHARACTERS: usize = 4096;

/// Whom a message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A registration token, or a Firebase installation id.
    Device(String),
    Topic(String),
    Condition(String),
}

impl Target {
    /// How the ledger names it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Device(token) | Self::Condition(token) => token.clone(),
            Self::Topic(topic) => format!("/topics/{topic}"),
        }
    }
}

type Message = Map<String, Value>;

/// Whom it is for, whatever else is wrong with it: the ledger wants to know first.
pub(super) fn target(message: &Message) -> Result<Target, Answer> {
    let given: Vec<_> = ["token", "fid", "topic", "condition"]
        .into_iter()
        .filter_map(|name| Some((name, message.get(name)?.as_str()?)))
        .collect();
    match given[..] {
        [] => Err(invalid("invalid_argument", "message", "Recipient of the message is not set.")),
        [(name, text)] => Ok(match name {
            "topic" => Target::Topic(text.to_owned()),
            "condition" => Target::Condition(text.to_owned()),
            _ => Target::Device(text.to_owned()),
        }),
        // A proto oneof: the reading itself fails, so there is no FcmError.
        [_, (second, _), ..] => Err(unreadable(&[(
            "message".to_owned(),
            format!(
                "Invalid value at 'message' (oneof), oneof field 'target' is already set. Cannot set '{second}'"
            ),
        )])),
    }
}

/// Everything but the target's presence.
pub(super) fn check(message: &Message, target: &Target) -> Result<(), Answer> {
    check_target(target)?;
    if message.contains_key("android") && message.contains_key("android_v2") {
        return Err(argument("message", "Only one of android and android_v2 can be set."));
    }
    check_data(message.get("data"), "message.data")?;
    check_label(message, "message.fcm_options")?;
    if let Some(android) = object(message, "android") {
        check_android(android)?;
    }
    if let Some(apns) = object(message, "apns") {
        check_label(apns, "message.apns.fcm_options")?;
        if apns.get("payload").and_then(|payload| payload.get("aps")).is_some_and(|aps| !aps.is_object()) {
            return Err(argument(
                "message.apns.payload.aps",
                "Invalid APNs payload: aps must be a dictionary.",
            ));
        }
    }
    if let Some(webpush) = object(message, "webpush") {
        check_data(webpush.get("data"), "message.webpush.data")?;
        check_label(webpush, "message.webpush.fcm_options")?;
        let link = object(webpush, "fcm_options").and_then(|options| options.get("link")?.as_str());
        if link.is_some_and(|link| !link.starts_with("https://")) {
            return Err(argument("message.webpush.fcm_options.link", "The link must be an HTTPS URL."));
        }
    }
    let limit = if matches!(target, Target::Device(_)) { MAX_PAYLOAD_BYTES } else { MAX_TOPIC_PAYLOAD_BYTES };
    if payload_bytes(message) > limit { Err(too_big()) } else { Ok(()) }
}

fn check_target(target: &Target) -> Result<(), Answer> {
    match target {
        Target::Device(token) => {
            let strange = |c: char| c.is_whitespace() || c.is_control() || !c.is_ascii();
            if token.is_empty() || token.len() > MAX_TOKEN_CHARACTERS || token.contains(strange) {
                return Err(malformed_token());
            }
        }
        Target::Topic(topic) => {
            if !is_name(topic, 900) {
                return Err(argument("message.topic", &format!("Invalid topic name: {topic}")));
            }
        }
        Target::Condition(text) => {
            condition::check(text).map_err(|problem| argument("message.condition", &problem))?;
        }
    }
    Ok(())
}

fn check_android(android: &Message) -> Result<(), Answer> {
    check_data(android.get("data"), "message.android.data")?;
    check_label(android, "message.android.fcm_options")?;
    let ttl = android.get("ttl").and_then(Value::as_str).and_then(duration_ms);
    if ttl.is_some_and(|ttl| !(0..=MAX_TTL_MS).contains(&ttl)) {
        let text = "Invalid time-to-live duration: it must be between 0 and 2419200 seconds.";
        return Err(argument("message.android.ttl", text));
    }
    let Some(notification) = object(android, "notification") else { return Ok(()) };
    let color = notification.get("color").and_then(Value::as_str);
    if color.is_some_and(|color| !is_color(color)) {
        let text = "Invalid color: it must be of the form #rrggbb.";
        return Err(argument("message.android.notification.color", text));
    }
    let count = notification.get("notification_count").and_then(Value::as_i64);
    if count.is_some_and(i64::is_negative) {
        let text = "Invalid notification count: it must not be negative.";
        return Err(argument("message.android.notification.notification_count", text));
    }
    for (args, key) in [("title_loc_args", "title_loc_key"), ("body_loc_args", "body_loc_key")] {
        if notification.contains_key(args) && !notification.contains_key(key) {
            let text = format!("{key} is required when {args} is set.");
            return Err(argument(&format!("message.android.notification.{key}"), &text));
        }
    }
    Ok(())
}

/// Reserved keys: `from`, `message_type`, anything that begins with `google.` or `gcm.notification.`.
fn check_data(data: Option<&Value>, field: &str) -> Result<(), Answer> {
    let reserved = |key: &str| {
        key == "from"
            || key == "message_type"
            || key.starts_with("google.")
            || key.starts_with("gcm.notification.")
    };
    match data.and_then(Value::as_object).and_then(|data| data.keys().find(|key| reserved(key))) {
        Some(key) => Err(argument(field, &format!("Invalid data payload key: {key}"))),
        None => Ok(()),
    }
}

fn check_label(parent: &Message, field: &str) -> Result<(), Answer> {
    let label = object(parent, "fcm_options").and_then(|options| options.get("analytics_label")?.as_str());
    match label {
        Some(label) if !is_name(label, 50) => {
            let text = format!("Invalid analytics label: {label}");
            Err(argument(&format!("{field}.analytics_label"), &text))
        }
        _ => Ok(()),
    }
}

fn argument(field: &str, description: &str) -> Answer {
    invalid("invalid_argument", field, description)
}

fn object<'a>(parent: &'a Message, name: &str) -> Option<&'a Message> {
    parent.get(name)?.as_object()
}

/// `[a-zA-Z0-9-_.~%]{1,max}`, the form of topics and analytics labels.
pub(super) fn is_name(text: &str, max: usize) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~%".contains(&byte);
    (1..=max).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_color(text: &str) -> bool {
    text.strip_prefix('#')
        .is_some_and(|hex| hex.len() == 6 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The size that counts against the limit.
///
/// Google says "4096 bytes" and not of what. Here each platform is measured by what its phones would get, and the
/// largest counts: Android the keys and values of `data` (or `android.data`) and of the merged notification; iOS the
/// JSON of `apns.payload` with the keys and values of `data` and of the alert; web likewise. Options (`ttl`,
/// `collapse_key`, headers) do not count. A sender that measures its whole request stays below this.
fn payload_bytes(message: &Message) -> usize {
    let data = message.get("data").map_or(0, bytes);
    let notification = message.get("notification").map_or(0, bytes);
    let mut largest = data + notification;
    if let Some(android) = object(message, "android") {
        let own = android.get("data").map_or(data, bytes);
        largest = largest.max(own + merged(message.get("notification"), android.get("notification")));
    }
    if let Some(apns) = object(message, "apns") {
        let payload = apns.get("payload").map_or(0, |payload| payload.to_string().len());
        largest = largest.max(data + notification + payload);
    }
    if let Some(webpush) = object(message, "webpush") {
        let own = data + webpush.get("data").map_or(0, bytes);
        let shown = webpush.get("notification").map_or(0, |shown| shown.to_string().len());
        largest = largest.max(own + notification.max(shown));
    }
    largest
}

fn merged(common: Option<&Value>, own: Option<&Value>) -> usize {
    let common = common.and_then(Value::as_object);
    let own = own.and_then(Value::as_object);
    let kept = common.into_iter().flatten().filter(|(key, _)| own.is_none_or(|own| !own.contains_key(*key)));
    kept.chain(own.into_iter().flatten()).map(|(key, value)| key.len() + value_bytes(value)).sum()
}

fn bytes(object: &Value) -> usize {
    let fields = object.as_object().into_iter().flatten();
    fields.map(|(key, value)| key.len() + value_bytes(value)).sum()
}

fn value_bytes(value: &Value) -> usize {
    value.as_str().map_or_else(|| value.to_string().len(), str::len)
}
