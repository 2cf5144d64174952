//! Messages as callers give them. Every mistake is told at once; nothing is stored before all is well.

use std::collections::BTreeMap;
use std::sync::Arc;

use anypush_providers::contract::{
    Badge, Class, Click, ClickAction, Content, DeliveryMode, Notification, Priority,
};
use axum::http::StatusCode;
use serde_json::Value;

use crate::api::apps::is_name;
use crate::api::fields::{Fields, Mistakes, Text};
use crate::api::problem::{Answer, Problem};
use crate::api::steps;
use crate::app::Gateway;
use crate::delivery::spec::{Audience, Spec, SpecCategory};
use crate::routing::{Rule, StepSpec, concerning};
use crate::store::CategoryRecord;

/// Four weeks: the longest that any vendor keeps a message.
const MAX_TTL: u64 = 2_419_200;
const DEFAULT_TTL: u64 = 86_400;
/// How far ahead a message may be scheduled: 90 days.
const HORIZON_MS: u64 = 90 * 86_400 * 1000;
/// A time that has passed by no more than this is now: clocks differ.
const PASSED_MS: u64 = 60_000;
/// Above so many targets the class must be said: a campaign must not travel as a login code by accident.
const CLASS_FREE: usize = 100;
const MODES: [(&str, DeliveryMode); 2] =
    [("at_least_once", DeliveryMode::AtLeastOnce), ("at_most_once", DeliveryMode::AtMostOnce)];

/// A message, validated.
pub(super) struct Message {
    pub(super) spec: Spec,
    pub(super) audience: Audience,
    pub(super) label: Option<String>,
}

/// Reads a message of this app.
pub(super) async fn message(gateway: &Gateway, app: i64, body: Value) -> Answer<Message> {
    let named = body["category"].as_str().filter(|name| is_name(name));
    let category = match named {
        Some(name) => gateway.store.category(app, name).await?,
        None => None,
    };
    parse(gateway, app, body, category)
}

fn parse(
    gateway: &Gateway,
    app: i64,
    body: Value,
    known_category: Option<CategoryRecord>,
) -> Answer<Message> {
    let most = gateway.settings.limits.targets;
    too_many(&body, most)?;
    let wrong = Mistakes::default();
    let mut fields = Fields::of(body, "", &wrong);
    let audience = super::audience::read(&mut fields, &wrong, most);
    let category = category(&mut fields, known_category);
    let given =
        fields.choice("class", &[("transactional", Class::Transactional), ("marketing", Class::Marketing)]);
    let class = given.or(category.as_ref().and_then(|category| category.class));
    if class.is_none() && !fields.has("class") && !audience.as_ref().is_none_or(is_small) {
        let why = "is required for an audience or for more than 100 targets: `transactional` or `marketing`";
        fields.refuse("class", why);
    }
    let priority = fields.choice("priority", &[("high", Priority::High), ("normal", Priority::Normal)]);
    let content = Content {
        notification: notification(&mut fields),
        data: data(&mut fields),
        collapse_key: fields.text("collapse_key", Text::line(64)),
        priority: priority.unwrap_or_default(),
        class: class.unwrap_or_default(),
        overrides: overrides(&mut fields),
    };
    if content.notification.is_none() && content.data.is_empty() && wrong.is_empty() {
        wrong.add("", "has nothing to send: give `notification`, `data` or both");
    }
    let send_at = send_at(gateway.clock.now_ms(), &mut fields);
    let ttl = fields.number("ttl_seconds", 0..=MAX_TTL).unwrap_or(DEFAULT_TTL);
    let own_route = fields.has("route");
    let spec = Spec {
        rules: if own_route { Vec::new() } else { rules(gateway, app, content.class, category.as_ref()) },
        content: Arc::new(content),
        steps: route(gateway, app, &mut fields, &wrong),
        delivery: fields.choice("delivery", &MODES),
        send_at,
        ttl_seconds: ttl as u32,
        category,
        test: false,
        to_users: false,
        metadata: fields.map("metadata", 32, Text::line(64), Text::prose(512)).unwrap_or_default(),
    };
    let label = fields.text("label", Text::line(128));
    fields.finish();
    wrong.finish()?;
    let audience = audience.ok_or_else(Problem::internal)?;
    Ok(Message { spec, audience, label })
}

/// The app's rules that may concern the message, as they are now.
fn rules(gateway: &Gateway, app: i64, class: Class, category: Option<&SpecCategory>) -> Vec<Rule> {
    let Some(record) = gateway.rules.of_app(app) else { return Vec::new() };
    concerning(&record.rules, class, category.map(|category| category.name.as_str()))
}

/// When it is to be sent, in Unix milliseconds.
fn send_at(now: u64, fields: &mut Fields<'_>) -> Option<u64> {
    let text = fields.text("send_at", Text::line(64))?;
    let at = text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
    match at.and_then(|ms| u64::try_from(ms).ok()) {
        Some(at) if at + PASSED_MS < now => {
            fields.refuse("send_at", "has passed; leave it out to send at once");
        }
        Some(at) if at > now + HORIZON_MS => {
            fields.refuse("send_at", "is more than 90 days ahead; schedule it later");
        }
        Some(at) => return Some(at),
        None => fields.refuse("send_at", "must be a time such as 2026-12-01T09:00:00Z"),
    }
    None
}

/// The category that the message names, as it is now.
fn category(fields: &mut Fields<'_>, known: Option<CategoryRecord>) -> Option<SpecCategory> {
    let name = fields.text("category", Text::line(64))?;
    let Some(known) = known else {
        let why =
            format!("this app has no category `{name}`; make it with PUT /v1/apps/{{app}}/categories/{name}");
        fields.refuse("category", why);
        return None;
    };
    Some(SpecCategory { name, class: known.class, providers: known.providers })
}

/// Before anything else: a list of a million items is not worth reading.
fn too_many(body: &Value, most: usize) -> Answer<()> {
    for name in ["device_ids", "user_ids", "tokens", "phones"] {
        let n = body["to"][name].as_array().map_or(0, Vec::len);
        if n > most {
            let why = format!("{n} targets are more than {most}; send several messages, or use an audience");
            let problem = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_targets", why);
            return Err(problem.at(format!("/to/{name}")));
        }
    }
    Ok(())
}

fn is_small(audience: &Audience) -> bool {
    match audience {
        Audience::Devices(ids) | Audience::Users(ids) => ids.len() <= CLASS_FREE,
        Audience::Addresses(all) => all.len() <= CLASS_FREE,
        Audience::Matching { .. } => false,
    }
}

fn notification(fields: &mut Fields<'_>) -> Option<Notification> {
    let mut inner = fields.object("notification")?;
    let shown = Notification {
        title: inner.text("title", Text::prose(1024)),
        body: inner.text("body", Text::prose(8192)),
        image: inner.text("image", Text::line(2048)),
        sound: inner.text("sound", Text::line(128)),
        badge: badge(&mut inner),
        actions_category: inner.text("actions_category", Text::line(128)),
        click: click(&mut inner),
    };
    if let Some(image) = &shown.image
        && !url::Url::parse(image).is_ok_and(|url| url.scheme() == "https" && url.host().is_some())
    {
        inner.refuse("image", "must be an https:// address");
    }
    inner.finish();
    Some(shown)
}

fn badge(fields: &mut Fields<'_>) -> Option<Badge> {
    let mut inner = fields.object("badge")?;
    let (set, add) = (inner.number("set", 0..=99_999), inner.number("add", 1..=99_999));
    inner.finish();
    match (set, add) {
        (Some(n), None) => Some(Badge::Set(n as u32)),
        (None, Some(n)) => Some(Badge::Add(n as u32)),
        _ => {
            fields.refuse("badge", "must be {\"set\": n} or {\"add\": n}");
            None
        }
    }
}

fn click(fields: &mut Fields<'_>) -> Option<Click> {
    let mut inner = fields.object("click")?;
    if !inner.has("open") {
        inner.refuse("open", "is required");
    }
    let kinds = [("app", ClickAction::App), ("deep_link", ClickAction::DeepLink), ("url", ClickAction::Url)];
    let open = inner.choice("open", &kinds);
    let value = inner.text("value", Text::line(2048));
    match (open, &value) {
        (Some(ClickAction::App), Some(_)) => inner.refuse("value", "has no meaning with `app`; leave it out"),
        (Some(ClickAction::Url), Some(text)) => {
            let web = |url: url::Url| matches!(url.scheme(), "http" | "https") && url.host().is_some();
            if !url::Url::parse(text).is_ok_and(web) {
                inner.refuse("value", "must be an http:// or https:// address");
            }
        }
        (Some(ClickAction::DeepLink | ClickAction::Url), None) => inner.refuse("value", "is required"),
        _ => {}
    }
    inner.finish();
    Some(Click { open: open?, value })
}

fn data(fields: &mut Fields<'_>) -> BTreeMap<String, String> {
    // Values are the app's own: everything but NUL, which some phones end a string at.
    let data = fields.map("data", 100, Text::line(128), Text::raw(32_768)).unwrap_or_default();
    for key in data.keys().filter(|key| key.starts_with("anypush_")) {
        fields.refuse("data", format!("the key `{key}` is reserved; keys must not begin with `anypush_`"));
    }
    let bytes: usize = data.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > 65_536 {
        fields.refuse("data", format!("has {bytes} bytes, at most 65536 are allowed"));
    }
    data
}

fn overrides(fields: &mut Fields<'_>) -> BTreeMap<String, Value> {
    let Some(mut inner) = fields.object("overrides") else { return BTreeMap::new() };
    let members = inner.rest();
    for (provider, value) in &members {
        let checked = match anypush_providers::find(provider) {
            Some(registration) => (registration.check_overrides)(value),
            None => Err("there is no such provider; GET /v1/providers lists them".into()),
        };
        if let Err(why) = checked {
            inner.refuse(provider, why);
        }
    }
    members.into_iter().collect()
}

fn route(gateway: &Gateway, app: i64, fields: &mut Fields<'_>, wrong: &Mistakes) -> Vec<StepSpec> {
    let Some(mut route) = fields.object("route") else { return Vec::new() };
    if !route.has("steps") {
        route.refuse("steps", "is required");
    }
    let items = route.list("steps", steps::MOST).unwrap_or_default();
    route.finish();
    steps::read(gateway, app, items, wrong).into_iter().map(|(_, step, _)| step).collect()
}
