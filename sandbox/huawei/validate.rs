//! What Huawei allows in a message (HMSCore "https-send-api").

use serde_json::{Map, Value};

use super::account::App;
use super::codes::Refusal;
use super::schema;

/// Tokens of one request.
const MAX_TOKENS: usize = 1000;
/// Bytes of a request without its tokens.
const MAX_BYTES: usize = 4096;
/// Fifteen days; a day where a sender names no time.
const MAX_TTL_SECONDS: u64 = 1_296_000;
const DEFAULT_TTL_SECONDS: u64 = 86_400;
const MAX_CONDITION_TOPICS: usize = 5;

const CATEGORIES: [&str; 14] = [
    "IM",
    "VOIP",
    "SUBSCRIPTION",
    "TRAVEL",
    "HEALTH",
    "WORK",
    "ACCOUNT",
    "EXPRESS",
    "FINANCE",
    "DEVICE_REMINDER",
    "SYSTEM_REMINDER",
    "MAIL",
    "PLAY_VOICE",
    "MARKETING",
];

/// A request that may be sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    pub(super) tokens: Vec<String>,
    pub(super) only_validate: bool,
    /// What a phone shows; absent for data messages.
    pub(super) shown: Option<Shown>,
    /// The app's data: the object that the text holds, or the text itself.
    pub(super) data: Map<String, Value>,
    pub(super) ttl_ms: u64,
    /// Which pushes replace each other while a phone is offline.
    pub(super) collapse_key: Option<String>,
    pub(super) bi_tag: String,
    pub(super) receipt_id: String,
}

/// A notification.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shown {
    pub(super) title: String,
    pub(super) body: String,
    pub(super) image: Option<String>,
    /// Two with the same stand on a screen as one.
    pub(super) replaces: Option<String>,
}

type Object = Map<String, Value>;

/// The tokens, whatever else is wrong with the request: the ledger wants to know first.
pub(super) fn tokens(request: &Object) -> Vec<String> {
    let tokens = request.get("message").and_then(|message| message.get("token")?.as_array());
    let texts = tokens.into_iter().flatten().filter_map(|token| Some(token.as_str()?.to_owned()));
    texts.collect()
}

/// The gateway's id of the message: it travels as a data key, wherever the payload has room for data.
pub(super) fn message_id(request: &Object) -> String {
    let message = request.get("message").unwrap_or(&Value::Null);
    let places = [&message["data"], &message["android"]["data"]];
    let found = places.into_iter().find_map(|data| {
        let data: Value = serde_json::from_str(data.as_str()?).ok()?;
        Some(data.get("anypush_id")?.as_str()?.to_owned())
    });
    found.or_else(|| id_of_intent(message)).unwrap_or_default()
}

/// Notifications have no data of their own here: an id may only travel in what a tap opens.
fn id_of_intent(message: &Value) -> Option<String> {
    let click = &message["android"]["notification"]["click_action"];
    let text = click["intent"].as_str().or_else(|| click["action"].as_str())?;
    let after = &text[text.find("anypush_id=")? + "anypush_id=".len()..];
    let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').unwrap_or(after.len());
    Some(after[..end].to_owned())
}

/// Everything that can be wrong with a request.
pub(super) fn check(request: &Object, app: &App) -> Result<Message, Refusal> {
    // Huawei's FAQ: a misspelled `message` or `token` has this code too.
    let message = request.get("message").and_then(Value::as_object).ok_or(Refusal::new("80300010"))?;
    let named = ["token", "topic", "condition"].iter().filter(|name| is_given(message, name)).count();
    if named == 0 {
        return Err(Refusal::new("80300010"));
    }
    schema::check(request, schema::REQUEST, "")?;
    if named > 1 {
        return Err(parameter("only one of token, topic and condition may be given"));
    }
    let tokens = tokens(request);
    if message.contains_key("token") && !(1..=MAX_TOKENS).contains(&tokens.len()) {
        return Err(Refusal::new("80300010"));
    }
    let topics = text(message, "condition").map_or(0, |condition| condition.matches("in topics").count());
    if topics > MAX_CONDITION_TOPICS {
        return Err(parameter("a condition has at most 5 topics"));
    }
    if bytes_without_tokens(request) > MAX_BYTES {
        return Err(Refusal::new("80300008"));
    }
    let empty = Object::new();
    let android = object(message, "android").unwrap_or(&empty);
    let shown = check_notification(message, android)?;
    let data = text(android, "data").or_else(|| text(message, "data"));
    if shown.is_none() && data.is_none() {
        return Err(structure("data or notification is required"));
    }
    let (ttl_ms, collapse_key) = check_android(android, shown.is_none(), app)?;
    let receipt_id = text(android, "receipt_id").unwrap_or_default();
    if !receipt_id.is_empty() && app.configuration(receipt_id).is_none() {
        return Err(Refusal::new("80300013"));
    }
    Ok(Message {
        tokens,
        only_validate: request.get("validate_only") == Some(&Value::Bool(true)),
        shown,
        data: data_of(data.unwrap_or_default()),
        ttl_ms,
        collapse_key,
        bi_tag: text(android, "bi_tag").unwrap_or_default().to_owned(),
        receipt_id: receipt_id.to_owned(),
    })
}

fn data_of(text: &str) -> Object {
    match serde_json::from_str(text) {
        Ok(Value::Object(data)) => data,
        _ if text.is_empty() => Object::new(),
        _ => Object::from_iter([("data".to_owned(), text.into())]),
    }
}

/// The request as compact JSON, without the tokens and their quotes and commas.
fn bytes_without_tokens(request: &Object) -> usize {
    let mut request = request.clone();
    if let Some(message) = request.get_mut("message").and_then(Value::as_object_mut)
        && let Some(tokens) = message.get_mut("token")
    {
        *tokens = Value::Array(Vec::new());
    }
    Value::Object(request).to_string().len()
}

/// TTL and collapse key.
fn check_android(android: &Object, is_data: bool, app: &App) -> Result<(u64, Option<String>), Refusal> {
    if let Some(category) = text(android, "category") {
        if !CATEGORIES.contains(&category) {
            return Err(parameter("category is illegal"));
        }
        if category == "PLAY_VOICE" && !is_data {
            return Err(parameter("category PLAY_VOICE is for data messages"));
        }
    }
    match text(android, "urgency") {
        None | Some("NORMAL") => {}
        Some("HIGH") if !is_data => {}
        Some("HIGH") if app.facts.high_priority => {}
        Some("HIGH") => return Err(Refusal::new("80300011")),
        Some(_) => return Err(parameter("urgency is illegal")),
    }
    for (name, range) in [("target_user_type", 0..=1), ("fast_app_target", 1..=2)] {
        if number(android, name).is_some_and(|number| !range.contains(&number)) {
            return Err(parameter(&format!("{name} is illegal")));
        }
    }
    let seconds = match text(android, "ttl") {
        None => DEFAULT_TTL_SECONDS,
        Some(ttl) => ttl
            .strip_suffix('s')
            .filter(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .filter(|seconds| *seconds <= MAX_TTL_SECONDS)
            .ok_or(Refusal::new("80100004"))?,
    };
    let collapse_key = match number(android, "collapse_key").unwrap_or(-1) {
        -1 => None,
        key if (0..=100).contains(&key) => Some(key.to_string()),
        _ => return Err(Refusal::new("80100013")),
    };
    Ok((seconds * 1000, collapse_key))
}

fn check_notification(message: &Object, android: &Object) -> Result<Option<Shown>, Refusal> {
    let empty = Object::new();
    let (common, own) = (object(message, "notification"), object(android, "notification"));
    if common.is_none() && own.is_none() {
        return Ok(None);
    }
    let (common, own) = (common.unwrap_or(&empty), own.unwrap_or(&empty));
    let of = |name: &str| text(own, name).or_else(|| text(common, name)).filter(|text| !text.is_empty());
    let has_text = |name: &str, key: &str| of(name).is_some() || text(own, key).is_some();
    if !has_text("title", "title_loc_key") || !has_text("body", "body_loc_key") {
        return Err(structure("title and body are required"));
    }
    check_click(object(own, "click_action"))?;
    check_looks(own)?;
    check_style(own)?;
    if of("image").is_some_and(|image| !image.starts_with("https://")) {
        return Err(parameter("image must be an https URL"));
    }
    let id = number(own, "notify_id").filter(|id| *id >= 0).map(|id| format!("id {id}"));
    let tag = text(own, "tag").map(|tag| format!("tag {tag}"));
    Ok(Some(Shown {
        title: of("title").unwrap_or_default().to_owned(),
        body: of("body").unwrap_or_default().to_owned(),
        image: of("image").map(str::to_owned),
        replaces: id.or(tag),
    }))
}

fn check_click(click: Option<&Object>) -> Result<(), Refusal> {
    let click = click.ok_or_else(|| structure("click_action is required"))?;
    let has = |name: &str| text(click, name).is_some_and(|text| !text.is_empty());
    match number(click, "type") {
        Some(1) if has("intent") || has("action") => Ok(()),
        Some(2) if text(click, "url").is_some_and(|url| url.starts_with("https://")) => Ok(()),
        Some(3) => Ok(()),
        _ => Err(structure("click_action is illegal")),
    }
}

fn check_looks(own: &Object) -> Result<(), Refusal> {
    let one_of = |name: &str, allowed: &[&str]| text(own, name).is_none_or(|text| allowed.contains(&text));
    if text(own, "color").is_some_and(|color| !is_color(color)) {
        return Err(parameter("color must be #RRGGBB"));
    }
    // The Python demo sends HIGH, which the reference does not list.
    if !one_of("importance", &["LOW", "NORMAL", "HIGH"]) {
        return Err(parameter("importance is illegal"));
    }
    if !one_of("visibility", &["VISIBILITY_UNSPECIFIED", "PRIVATE", "PUBLIC", "SECRET"]) {
        return Err(parameter("visibility is illegal"));
    }
    let starts = |name: &str| text(own, name).is_none_or(|text| text.starts_with("/raw/"));
    if !starts("icon") || !starts("sound") {
        return Err(parameter("icon and sound begin with /raw/"));
    }
    let empty = Object::new();
    let badge = object(own, "badge").unwrap_or(&empty);
    for (name, range) in [("add_num", 1..=99), ("set_num", 0..=99)] {
        if number(badge, name).is_some_and(|number| !range.contains(&number)) {
            return Err(parameter(&format!("badge {name} is out of its range")));
        }
    }
    if text(own, "profile_id").is_some_and(|id| id.chars().count() > 64) {
        return Err(parameter("profile_id is too long"));
    }
    Ok(())
}

fn check_style(own: &Object) -> Result<(), Refusal> {
    let entries = |name: &str| own.get(name).and_then(Value::as_array).map_or(0, Vec::len);
    let fits = match number(own, "style").unwrap_or(0) {
        0 => true,
        1 => text(own, "big_title").is_some() && text(own, "big_body").is_some(),
        3 => (1..=5).contains(&entries("inbox_content")),
        _ => false,
    };
    if !fits {
        return Err(parameter("style lacks its fields"));
    }
    if entries("buttons") > 3 {
        return Err(parameter("at most 3 buttons"));
    }
    if entries("vibrate_config") > 10 {
        return Err(parameter("vibrate_config has at most 10 entries"));
    }
    for button in own.get("buttons").and_then(Value::as_array).into_iter().flatten() {
        let named = button["name"].as_str().is_some_and(|name| !name.is_empty());
        if !named || !button["action_type"].as_i64().is_some_and(|kind| (0..=4).contains(&kind)) {
            return Err(parameter("a button needs a name and an action_type of 0 to 4"));
        }
    }
    Ok(())
}

fn is_given(message: &Object, name: &str) -> bool {
    message.get(name).is_some_and(|value| !value.is_null())
}

fn object<'a>(parent: &'a Object, name: &str) -> Option<&'a Object> {
    parent.get(name)?.as_object()
}

fn text<'a>(parent: &'a Object, name: &str) -> Option<&'a str> {
    parent.get(name)?.as_str()
}

fn number(parent: &Object, name: &str) -> Option<i64> {
    parent.get(name)?.as_i64()
}

fn is_color(text: &str) -> bool {
    let hex = text.strip_prefix('#');
    hex.is_some_and(|hex| hex.len() == 6 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn structure(what: &str) -> Refusal {
    Refusal::because("80100003", format!("Illegal payload, {what}"))
}

fn parameter(what: &str) -> Refusal {
    Refusal::because("80100001", format!("Illegal parameter, {what}"))
}
