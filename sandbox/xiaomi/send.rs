//! Sending: one text to many regids, or a text for each.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use futures_util::future::join_all;
use http::{HeaderMap, Uri};
use serde_json::{Map, Value, json};

use super::apps::{App, Class};
use super::codes::{self, Refusal};
use super::message::{Draft, MAX_TARGETS, Message};
use super::tell::{Accepted, fixed, over_quota};
use super::trace::Trace;
use super::{Region, XIAOMI, Xiaomi, answer, new_id, raw, unavailable};
use crate::ledger::{ACCEPTED, Call, SEND};
use crate::rules::{Behaviour, Decision};
use crate::state::now_ms;
use crate::twin::{Fate, fate, interrupt, without_answer};

/// `POST /v{2,3}/message/regid`
pub(super) async fn regid(
    State(twin): State<Arc<Xiaomi>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(interruption) = twin.sandbox.before(XIAOMI).await {
        return interrupt(interruption, twin.sandbox.ledger.call(XIAOMI, SEND, ""), unavailable).await;
    }
    let (app, form, region) = match twin.admit(&headers, &uri, &body) {
        Ok(admitted) => admitted,
        Err(refusal) => return refuse(&refusal, vec![twin.sandbox.ledger.call(XIAOMI, SEND, "")]),
    };
    let draft = Draft::of_form(&form);
    let message_id = draft.message_id();
    let targets: Vec<_> = form.get("registration_id").unwrap_or_default().split(',').collect();
    let targets: Vec<_> = targets.into_iter().map(str::trim).filter(|target| !target.is_empty()).collect();
    let calls = targets.iter().map(|target| twin.call(&app, target, &message_id)).collect();
    let several_packages = uri.path().ends_with("/v3/message/regid");
    let checked = check_count(targets.len())
        .and_then(|()| draft.check(&app, several_packages, now_ms()))
        .map(|message| {
            let message = Arc::new(message);
            targets.iter().map(|target| shipment(target, &message_id, &message)).collect()
        });
    match checked {
        Ok(shipments) => Order { app, region, is_multi: false }.ship(&twin, shipments, calls).await,
        Err(refusal) => refuse(&refusal, calls),
    }
}

/// `POST /v2/multi_messages/regids`
pub(super) async fn multi(
    State(twin): State<Arc<Xiaomi>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(interruption) = twin.sandbox.before(XIAOMI).await {
        return interrupt(interruption, twin.sandbox.ledger.call(XIAOMI, SEND, ""), unavailable).await;
    }
    let (app, form, region) = match twin.admit(&headers, &uri, &body) {
        Ok(admitted) => admitted,
        Err(refusal) => return refuse(&refusal, vec![twin.sandbox.ledger.call(XIAOMI, SEND, "")]),
    };
    let messages: Vec<Map<String, Value>> =
        form.get("messages").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let (mut shipments, mut calls) = (Vec::new(), Vec::new());
    let mut refusal = check_count(messages.len()).err();
    for element in &messages {
        let target = element.get("target").and_then(Value::as_str).unwrap_or_default();
        let message = element.get("message").and_then(Value::as_object);
        let Some(message) = message.filter(|_| !target.is_empty()) else {
            refusal = refusal.or(Some(Refusal::because(10_016, "target and message are required")));
            continue;
        };
        let draft = Draft::of_json(message);
        let message_id = draft.message_id();
        calls.push(twin.call(&app, target, &message_id));
        match draft.check(&app, false, now_ms()) {
            Ok(message) => shipments.push(shipment(target, &message_id, &Arc::new(message))),
            Err(found) => refusal = refusal.or(Some(found)),
        }
    }
    match refusal {
        None => Order { app, region, is_multi: true }.ship(&twin, shipments, calls).await,
        Some(refusal) => refuse(&refusal, calls),
    }
}

fn check_count(targets: usize) -> Result<(), Refusal> {
    match targets {
        0 => Err(Refusal::because(10_016, "registration_id is required")),
        1..=MAX_TARGETS => Ok(()),
        _ => Err(Refusal::because(10_017, "too many targets")),
    }
}

impl Xiaomi {
    fn call(&self, app: &App, target: &str, message_id: &str) -> Call {
        let mut call = self.sandbox.ledger.call(XIAOMI, SEND, &app.package);
        call.target(target, message_id);
        call
    }
}

/// Refuses a whole request.
fn refuse(refusal: &Refusal, calls: Vec<Call>) -> Response {
    for call in calls {
        call.finish(refusal.verdict(), 200);
    }
    answer(&refusal.body(&new_id("Xcm")))
}

/// One message for one target.
struct Shipment {
    token: String,
    message_id: String,
    message: Arc<Message>,
}

fn shipment(token: &str, message_id: &str, message: &Arc<Message>) -> Shipment {
    Shipment { token: token.to_owned(), message_id: message_id.to_owned(), message: message.clone() }
}

/// What becomes of one target.
enum Own {
    /// Accepted; the types that will be reported, unless a phone decides.
    Accepted(Option<Vec<u64>>),
    /// Not a target of this app, under this name in the ledger.
    Bad(&'static str),
}

/// A request that is valid.
struct Order {
    app: App,
    region: Region,
    is_multi: bool,
}

impl Order {
    async fn ship(self, twin: &Arc<Xiaomi>, shipments: Vec<Shipment>, calls: Vec<Call>) -> Response {
        let switch = twin.sandbox.switches.of(XIAOMI);
        if let Some(limit) = switch.quota.account_per_minute
            && twin.minutes.take(&self.app.package, limit, now_ms()).is_err()
        {
            return refuse(&Refusal::new(200_002), calls);
        }
        let asked = shipments.iter().map(|one| fate(&twin.sandbox, XIAOMI, &one.token, &one.message_id));
        let mut owns = Vec::with_capacity(shipments.len());
        let mut is_lost = false;
        for (fate, one) in join_all(asked).await.into_iter().zip(&shipments) {
            match fate {
                Fate::AcceptSilently(decision) => {
                    is_lost = true;
                    owns.push(own(&decision, one));
                }
                Fate::Accept(decision) => owns.push(own(&decision, one)),
                Fate::Answer(decision) => match bad_or_quota(&decision) {
                    Some(own) => owns.push(own),
                    // The first whose fate is one for the whole request decides.
                    None => return self.answer_of(twin, &decision, one, calls),
                },
                Fate::Abort | Fate::Hang => return all_without_answer(fate, calls).await,
            }
        }
        for (own, one) in owns.iter_mut().zip(&shipments) {
            if let Some(verdict) = self.misfit(&one.token) {
                *own = Own::Bad(verdict);
            }
        }
        self.deliver(twin, shipments, owns, calls, is_lost).await
    }

    /// Why a text is no target here.
    fn misfit(&self, token: &str) -> Option<&'static str> {
        if token.len() > 4096 || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Some("malformed_token");
        }
        // A phone is known to its own region only (D1696): `region-ru-…` is one of Russia, others are everywhere.
        let region = token.strip_prefix("region-").and_then(|rest| rest.split('-').next());
        region.is_some_and(|region| region != self.region).then_some("wrong_region")
    }

    async fn deliver(
        self,
        twin: &Arc<Xiaomi>,
        shipments: Vec<Shipment>,
        mut owns: Vec<Own>,
        calls: Vec<Call>,
        is_lost: bool,
    ) -> Response {
        let bad: Vec<_> = owns.iter().zip(&shipments).filter(|(own, _)| matches!(own, Own::Bad(_))).collect();
        let bad_regids = bad.iter().map(|(_, one)| one.token.as_str()).collect::<Vec<_>>().join(",");
        if bad.len() == shipments.len() {
            let foreign = bad.iter().all(|(own, _)| matches!(own, Own::Bad("wrong_app")));
            let refusal = Refusal::new(if foreign { 66_108 } else { 20_301 });
            finish_each(calls, &owns);
            return answer(&refusal.body(&new_id("Xcm")));
        }
        let now = now_ms();
        let exceeded = match self.take_quota(twin, &shipments, &mut owns, now) {
            Ok(exceeded) => exceeded,
            Err(refusal) => return refuse(&refusal, calls),
        };
        finish_each(calls, &owns);
        let id = new_id("sdm");
        let taken = owns.iter().zip(&shipments).filter(|(own, _)| matches!(own, Own::Accepted(_)));
        let resolved = taken.clone().count();
        let first = &shipments[0].message;
        twin.traces.add(Trace {
            id: id.clone(),
            package: self.app.package.clone(),
            jobkey: first.extra.get("jobkey").cloned(),
            created_ms: now,
            ttl_ms: first.ttl_ms,
            resolved: resolved as u64,
            ..Trace::default()
        });
        let quota = (self.app.day_quota.unwrap_or(u64::MAX), twin.apps.acked(&self.app, now));
        let mut events = Vec::new();
        for (own, one) in taken {
            let Own::Accepted(fixed) = own else { continue };
            events.extend(twin.hand_over(&Accepted {
                id: &id,
                token: &one.token,
                message_id: &one.message_id,
                message: &one.message,
                fixed: fixed.clone(),
                quota,
            }));
        }
        twin.tell(events);
        if twin.sandbox.switches.of(XIAOMI).receipts.before_answer {
            twin.flush().await;
        }
        if is_lost {
            return crate::state::abort();
        }
        let mut data = json!({"id": id, "day_quota": quota.0.to_string(), "day_acked": quota.1.to_string()});
        for (name, text) in [("bad_regids", bad_regids), ("channel_exceed_quota", exceeded)] {
            if !text.is_empty() {
                data[name] = text.into();
            }
        }
        answer(&json!({
            "result": "ok", "trace_id": new_id("Xdm"), "code": 0, "data": data, "description": "成功",
            "info": format!("Received push messages for {resolved} REGID"),
        }))
    }

    /// Takes public messages out of the day's quota. One text is refused when nothing is left, and what is one too many
    /// is reported; of many texts those beyond it are dropped and counted by channel.
    fn take_quota(
        &self,
        twin: &Xiaomi,
        shipments: &[Shipment],
        owns: &mut [Own],
        now: u64,
    ) -> Result<String, Refusal> {
        let counts = |own: &Own, one: &Shipment| {
            one.message.class != Some(Class::Private) && matches!(own, Own::Accepted(_))
        };
        let wanted = owns.iter().zip(shipments).filter(|(own, one)| counts(own, one)).count() as u64;
        if wanted == 0 {
            return Ok(String::new());
        }
        let mut left = twin.apps.take(&self.app, wanted, now);
        if left == 0 && !self.is_multi {
            let quota = self.app.day_quota.unwrap_or_default();
            return Err(codes::exceed_quota(quota, twin.apps.acked(&self.app, now)));
        }
        let mut dropped = std::collections::BTreeMap::<&str, u64>::new();
        for (own, one) in owns.iter_mut().zip(shipments) {
            if !counts(own, one) {
                continue;
            }
            if left > 0 {
                left -= 1;
            } else if self.is_multi {
                *own = Own::Bad("quota_exceeded");
                *dropped
                    .entry(one.message.extra.get("channel_id").map_or("no_channel", String::as_str))
                    .or_default() += 1;
            } else {
                *own = Own::Accepted(Some(over_quota()));
            }
        }
        let dropped: Vec<_> = dropped.iter().map(|(channel, count)| format!("{channel}:{count}")).collect();
        Ok(dropped.join(" "))
    }

    /// The answer that a rule asks for, to the whole request.
    fn answer_of(&self, twin: &Xiaomi, decision: &Decision, one: &Shipment, calls: Vec<Call>) -> Response {
        let row = |code: i64| Ok(Refusal::new(code));
        let page = |verdict, status, body| Err((verdict, status, "text/html", body));
        let answer = match decision.behaviour {
            Behaviour::Flaky | Behaviour::Unavailable => row(10_002),
            Behaviour::Limited => row(200_002),
            Behaviour::Quota => {
                let quota = self.app.day_quota.unwrap_or(100_000);
                Ok(codes::exceed_quota(quota, quota))
            }
            Behaviour::Answer => {
                let of_token = || one.token.strip_prefix("answer-")?.split('-').next();
                let code = decision.code.as_deref().or_else(of_token);
                row(code.and_then(|code| code.parse().ok()).unwrap_or(-1))
            }
            Behaviour::ThirdParty => row(10_003),
            Behaviour::ApnsAuth => row(22_102),
            Behaviour::Unauthenticated => {
                let body = Refusal::new(21_301).body(&new_id("Xcm")).to_string();
                Err(("unauthenticated", 401, "application/json;charset=UTF-8", body))
            }
            Behaviour::Forbidden => row(21_303),
            Behaviour::NotFound => row(22_000),
            Behaviour::Payload => row(10_017),
            Behaviour::TooBig => row(10_018),
            Behaviour::BadGateway => page("bad_gateway", 502, "<html>502 Bad Gateway</html>".to_owned()),
            Behaviour::GatewayTimeout => {
                page("gateway_timeout", 504, "<html>504 Gateway Time-out</html>".to_owned())
            }
            Behaviour::Deadline => row(10_010),
            Behaviour::Cancelled => row(10_011),
            Behaviour::Unspecified => row(-1),
            Behaviour::Unheard => row(99_999),
            Behaviour::Garbage => Err(garbage(twin.sandbox.rules.earlier_tries(XIAOMI, &one.token, ""))),
            _ => row(10_001),
        };
        match answer {
            Ok(refusal) => refuse(&refusal, calls),
            Err((verdict, status, content_type, body)) => {
                for call in calls {
                    call.finish(verdict, status);
                }
                raw(status, content_type, body)
            }
        }
    }
}

/// What is accepted, and what will be told of it.
fn own(decision: &Decision, one: &Shipment) -> Own {
    match decision.behaviour {
        Behaviour::Silent => Own::Accepted(Some(Vec::new())),
        Behaviour::Fails => {
            let of_token = || one.token.strip_prefix("fails-")?.split('-').next();
            Own::Accepted(Some(fixed(decision.code.as_deref().or_else(of_token).unwrap_or_default())))
        }
        _ => Own::Accepted(None),
    }
}

/// The answers that concern one target alone.
fn bad_or_quota(decision: &Decision) -> Option<Own> {
    match decision.behaviour {
        Behaviour::Dead => Some(Own::Bad("bad_regid")),
        Behaviour::Malformed => Some(Own::Bad("malformed_token")),
        Behaviour::WrongApp => Some(Own::Bad("wrong_app")),
        Behaviour::DeviceQuota => Some(Own::Accepted(Some(over_quota()))),
        _ => None,
    }
}

fn finish_each(calls: Vec<Call>, owns: &[Own]) {
    for (call, own) in calls.into_iter().zip(owns) {
        match own {
            Own::Accepted(_) => call.finish(ACCEPTED, 200),
            Own::Bad(verdict) => call.finish(verdict, 200),
        }
    }
}

/// A request of many targets that gets no answer.
async fn all_without_answer(fate: Fate, mut calls: Vec<Call>) -> Response {
    let verdict = if matches!(fate, Fate::Hang) { "hang" } else { "reset" };
    let last = calls.pop();
    for call in calls {
        call.finish(verdict, 0);
    }
    match last {
        Some(call) => without_answer(fate, call).await,
        None => crate::state::abort(),
    }
}

/// The five kinds of answers that cannot be read, in turn.
fn garbage(turn: u32) -> (&'static str, u16, &'static str, String) {
    const JSON: &str = "application/json;charset=UTF-8";
    let (content_type, body) = match turn % 5 {
        0 => ("text/html", "<!DOCTYPE html><title>Welcome to the free Wi-Fi</title>"),
        1 => (JSON, r#"{"result":"ok","code":0,"da"#),
        2 => (JSON, ""),
        3 => ("application/octet-stream", "\u{0}\u{1}code"),
        _ => (JSON, r#"["code", 0, {"data": null}]"#),
    };
    ("garbage", 200, content_type, body.to_owned())
}
