//! `/v1/apps/{app}/channels`: vendor accounts of an app. Secrets go in and never come out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anypush_providers::contract::{CheckReport, Reason, SendContext};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::apps::{NAME_FORM, is_name};
use super::auth::Caller;
use super::extract::{Body, Names, Query};
use super::fields::{Fields, Mistakes, Text};
use super::problem::{Answer, FieldError, Problem};
use super::rules;
use crate::app::Gateway;
use crate::channels::{Channel, ChannelError, Limits, PutChannel};
use crate::clock::rfc3339;
use crate::delivery::QuotaSeen;
use crate::direct;
use crate::egress;
use crate::ids::Kind;
use crate::quotas::can_be_counted;
use crate::receipts;
use crate::routing::ChannelState;

/// Longest time for a check: below the request's own deadline.
const CHECK_TIME: Duration = Duration::from_secs(20);

async fn view(gateway: &Gateway, caller: &Caller, channel: &Channel) -> Answer<Value> {
    let record = &channel.record;
    let quotas: Vec<_> = gateway.pipeline.quotas(channel).await?.iter().map(quota).collect();
    // A capability: who may read the channel may not therefore speak as its vendor.
    let callback = Some(channel).filter(|_| caller.may("channels:write"));
    let callback = callback.and_then(|channel| receipts::path(&gateway.vault, channel));
    let secrets: Map<String, Value> = gateway
        .channels
        .fingerprints(channel)
        .into_iter()
        .map(|(name, print)| (name, json!({"set": print.is_some(), "fingerprint": print})))
        .collect();
    Ok(json!({
        "id": record.public_id,
        "name": record.name,
        "provider": record.provider,
        "tier": channel.descriptor.tier,
        "config": record.config,
        "secrets": secrets,
        "limits": record.limits,
        "quotas": quotas,
        "state": channel.route.state,
        "state_info": record.state_info,
        "callback_url": callback.map(|path| format!("{}{path}", gateway.url())),
        "version": record.version,
        "created_at": rfc3339(record.created_at),
        "updated_at": rfc3339(record.updated_at),
    }))
}

/// A quota as it stands.
pub(super) fn quota(seen: &QuotaSeen) -> Value {
    json!({
        "name": seen.quota.name,
        "class": seen.quota.class,
        "scope": seen.quota.scope,
        "period": seen.quota.period,
        "limit": seen.limit,
        "used": seen.used,
        "counted": seen.counted,
        "resets_at": rfc3339(seen.resets_at),
        "exhausted_until": seen.closed_until.map(rfc3339),
    })
}

fn find(gateway: &Gateway, caller: &Caller, names: &Names) -> Answer<Arc<Channel>> {
    let found = gateway.channels.by_name(caller.app_seq()?, names.get("name"));
    found.ok_or_else(|| Problem::not_found("channel"))
}

fn built_in() -> Problem {
    let why =
        "this channel is the gateway's own and comes with the app; it can be paused, not replaced or deleted";
    Problem::new(StatusCode::CONFLICT, "channel_is_built_in", why)
}

/// `GET /v1/apps/{app}/channels`
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    query: Query,
) -> Answer<Json<Value>> {
    let app = caller.app_seq()?;
    let page = query.page(&gateway, format!("channels {app}"))?;
    let all = gateway.channels.of_app(app);
    let is_next = |c: &&Arc<Channel>| page.place.as_ref().is_none_or(|after| c.record.name > *after);
    let mut found: Vec<_> = all.iter().filter(is_next).collect();
    let next = page.cut(&mut found, |channel| channel.record.name.clone());
    let mut shown = Vec::with_capacity(found.len());
    for channel in found {
        shown.push(view(&gateway, &caller, channel).await?);
    }
    Ok(page.answer(&gateway, &shown, next))
}

/// `GET /v1/apps/{app}/channels/{name}`
pub(super) async fn get(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
) -> Answer<Json<Value>> {
    Ok(Json(view(&gateway, &caller, &*find(&gateway, &caller, &names)?).await?))
}

/// `PUT /v1/apps/{app}/channels/{name}`
pub(super) async fn put(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
    body: Body,
) -> Answer<(StatusCode, Json<Value>)> {
    let name = names.get("name");
    let (provider, config, limits) = read(name, body.value)?;
    if provider == direct::DESCRIPTOR.id || name == direct::DESCRIPTOR.id {
        return Err(built_in());
    }
    let schema = anypush_providers::find(&provider).map(|found| (found.config_schema)());
    let schema = schema.as_ref().map_or(&Value::Null, |schema| schema.as_value());
    if let Some(member) = egress::needs_admin(schema, &config).filter(|_| !caller.is_admin()) {
        let why = "only an admin key may set this: it says where credentials are sent";
        return Err(Problem::forbidden(why).at(member));
    }
    let now = gateway.clock.now_ms();
    let put = PutChannel {
        app: caller.app_seq()?,
        name: name.to_owned(),
        provider,
        public_id: gateway.codec.encode(Kind::Channel, gateway.ids.next(now)),
        config,
        limits,
    };
    let refused_before = gateway.channels.by_name(put.app, name);
    let refused_before = refused_before.is_some_and(|old| old.route.state == ChannelState::AuthFailed);
    let (channel, is_new) = gateway.channels.put(put).await.map_err(refused)?;
    if refused_before {
        gateway.pipeline.reopen(channel.record.seq).await;
    } else {
        gateway.pipeline.nudge(channel.record.seq);
    }
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(view(&gateway, &caller, &channel).await?)))
}

fn read(name: &str, body: Value) -> Answer<(String, Map<String, Value>, Limits)> {
    let wrong = Mistakes::default();
    if !is_name(name) {
        wrong.add("", format!("the channel's name in the path {NAME_FORM}"));
    }
    let mut fields = Fields::of(body, "", &wrong);
    let provider = fields.needed("provider", Text::line(64));
    let config = fields.object("config").map(|mut config| config.rest()).unwrap_or_default();
    let mut limits = Limits::default();
    if let Some(mut inner) = fields.object("limits") {
        limits.per_second = inner.number("per_second", 1..=1_000_000).map(|n| n as u32);
        limits.max_in_flight = inner.number("max_in_flight", 1..=10_000).map(|n| n as u32);
        limits.quotas = quotas_of(&provider, inner.object("quotas"));
        inner.finish();
    }
    fields.finish();
    wrong.finish().map(|()| (provider, config, limits))
}

/// What the account has of its vendor's quotas.
fn quotas_of(provider: &str, given: Option<Fields<'_>>) -> BTreeMap<String, u64> {
    let Some(mut given) = given else { return BTreeMap::new() };
    let stated = anypush_providers::find(provider).map_or(&[][..], |found| found.descriptor.quotas);
    let mut quotas = BTreeMap::new();
    for quota in stated {
        if !given.has(quota.name) {
            continue;
        }
        let limit = given.number(quota.name, 0..=1_000_000_000_000);
        if can_be_counted(quota) {
            quotas.extend(limit.map(|limit| (quota.name.to_owned(), limit)));
        } else {
            given.refuse(quota.name, "is over within a minute: that is what `per_second` is for");
        }
    }
    given.finish();
    quotas
}

fn refused(error: ChannelError) -> Problem {
    let one = |pointer: String, detail: String| FieldError { pointer, code: "invalid_field", detail };
    match error {
        ChannelError::Store(error) => error.into(),
        ChannelError::UnknownProvider(_) => {
            Problem::invalid(vec![one("/provider".into(), error.to_string())])
        }
        ChannelError::Config(mistakes) => {
            // The adapter points into the configuration, the caller's document has it one level down.
            let place = |at: String| if at == "/provider" { at } else { format!("/config{at}") };
            Problem::invalid(mistakes.into_iter().map(|(at, why)| one(place(at), why)).collect())
        }
    }
}

/// `DELETE /v1/apps/{app}/channels/{name}`
pub(super) async fn delete(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
) -> Answer<StatusCode> {
    let channel = find(&gateway, &caller, &names)?;
    if channel.is_direct() {
        return Err(built_in());
    }
    let users = rules::users_of(&gateway, channel.record.app, &channel.record.name);
    if !users.is_empty() {
        let why =
            format!("rules of the app's routes name this channel: {}; change them first", users.join(", "));
        return Err(Problem::new(StatusCode::CONFLICT, "channel_in_use", why));
    }
    gateway.channels.delete(channel.record.app, &channel.record.name).await?;
    gateway.pipeline.nudge(channel.record.seq);
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/apps/{app}/channels/{name}/check`: are the credentials good, without sending to anybody.
pub(super) async fn check(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
) -> Answer<Json<CheckReport>> {
    let channel = find(&gateway, &caller, &names)?;
    let report = report(&gateway, &channel).await;
    if report.ok && channel.route.state == ChannelState::AuthFailed {
        gateway.channels.found(&channel, ChannelState::Ok, None).await?;
        gateway.pipeline.reopen(channel.record.seq).await;
    }
    Ok(Json(report))
}

async fn report(gateway: &Gateway, channel: &Channel) -> CheckReport {
    let failed = |detail: String, reason| CheckReport {
        ok: false,
        detail,
        reason: Some(reason),
        warnings: Vec::new(),
    };
    match &channel.provider {
        _ if channel.is_direct() => CheckReport {
            ok: true,
            detail: format!("the gateway's own connection; {} phones are connected", gateway.hub.connected()),
            reason: None,
            warnings: Vec::new(),
        },
        None => {
            let why = channel.record.state_info.clone().unwrap_or_default();
            failed(
                format!("the channel cannot be used: {why}; put its configuration anew"),
                Reason::AuthFailed,
            )
        }
        Some(provider) => {
            let provider = Arc::clone(provider);
            let check = async move { provider.check(SendContext::unlimited()).await };
            let check = gateway.pipeline.bulk().run(check);
            tokio::time::timeout(CHECK_TIME, check).await.unwrap_or_else(|_| {
                let why = "the vendor did not answer within 20 seconds; check the network and try again";
                failed(why.into(), Reason::VendorUnavailable)
            })
        }
    }
}

/// `POST /v1/apps/{app}/channels/{name}/pause`
pub(super) async fn pause(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
) -> Answer<Json<Value>> {
    switch(&gateway, &caller, &names, ChannelState::Paused).await
}

/// `POST /v1/apps/{app}/channels/{name}/resume`
pub(super) async fn resume(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
) -> Answer<Json<Value>> {
    switch(&gateway, &caller, &names, ChannelState::Ok).await
}

/// `POST /v1/apps/{app}/channels/{name}/rotate_callback`: a new secret in the callback URL; the old one ends at once.
pub(super) async fn rotate_callback(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
) -> Answer<Json<Value>> {
    let rotated = gateway.channels.rotate_callback(caller.app_seq()?, names.get("name")).await?;
    let channel = rotated.ok_or_else(|| Problem::not_found("channel"))?;
    Ok(Json(view(&gateway, &caller, &channel).await?))
}

/// `POST /v1/apps/{app}/channels/{name}/restore_addresses`
pub(super) async fn restore_addresses(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    names: Names,
    body: Body,
) -> Answer<Json<Value>> {
    let channel = find(&gateway, &caller, &names)?;
    let since = since(body.value)?;
    let (app, provider) = (channel.record.app, channel.descriptor.address.provider);
    let now = gateway.clock.now_ms();
    let of = (channel.record.name.as_str(), provider);
    let restored = gateway.store.restore_addresses(app, of, since, now).await?;
    Ok(Json(json!({"restored": restored})))
}

/// A time from which on.
fn since(body: Value) -> Answer<u64> {
    let wrong = Mistakes::default();
    let mut fields = Fields::of(body, "", &wrong);
    let text = fields.needed("since", Text::line(64));
    let since = text.parse::<jiff::Timestamp>().ok().and_then(|t| u64::try_from(t.as_millisecond()).ok());
    if since.is_none() && wrong.is_empty() {
        fields.refuse("since", "must be a time such as 2026-12-01T09:00:00Z");
    }
    fields.finish();
    wrong.finish()?;
    since.ok_or_else(Problem::internal)
}

async fn switch(
    gateway: &Gateway,
    caller: &Caller,
    names: &Names,
    state: ChannelState,
) -> Answer<Json<Value>> {
    let channel = find(gateway, caller, names)?;
    if state == ChannelState::Ok {
        gateway.pipeline.reopen_quotas(&channel).await?;
    }
    gateway.channels.set_state(channel.record.seq, state, None).await?;
    gateway.pipeline.nudge(channel.record.seq);
    Ok(Json(view(gateway, caller, &*find(gateway, caller, names)?).await?))
}
