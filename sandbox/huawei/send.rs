//! Sending, in both versions: v1 names the app, v2 its project.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;
use futures_util::future::join_all;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use rand::RngExt as _;
use serde_json::{Map, Value, json};

use super::account::{App, Bearer};
use super::codes::Refusal;
use super::receipts::DEVICE_QUOTA;
use super::tell::Accepted;
use super::{HUAWEI, Huawei, JSON, jwt, raw, unavailable, validate};
use crate::ledger::{ACCEPTED, Call, SEND};
use crate::rules::{Behaviour, Decision};
use crate::state::now_ms;
use crate::switches::Credentials;
use crate::twin::{Fate, fate, interrupt, without_answer};

/// More marketing messages than a device may get today.
const MARKETING_QUOTA: i64 = 256;

/// `POST /v1/{app}/messages:send`
pub(super) async fn v1(
    State(twin): State<Arc<Huawei>>,
    Path(app): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let named = twin.apps.get(&app);
    send(twin, named, &headers, &body).await
}

/// `POST /v2/{project}/messages:send`
pub(super) async fn v2(
    State(twin): State<Arc<Huawei>>,
    Path(project): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let named = twin.apps.by_project(&project);
    send(twin, named, &headers, &body).await
}

async fn send(twin: Arc<Huawei>, named: Option<Arc<App>>, headers: &HeaderMap, body: &[u8]) -> Response {
    let account = named.as_ref().map_or("", |app| app.facts.app_id.as_str()).to_owned();
    let call = || twin.sandbox.ledger.call(HUAWEI, SEND, &account);
    if let Some(interruption) = twin.sandbox.before(HUAWEI).await {
        return interrupt(interruption, call(), unavailable).await;
    }
    // A wrong address is found before anything else: there is no app to authenticate for.
    let Some(app) = named else {
        call().finish("not_found", 404);
        return raw(404, JSON, "");
    };
    if let Err(refusal) = twin.admit(&app, headers) {
        return refuse(&refusal, vec![call()]);
    }
    let limit = twin.sandbox.switches.of(HUAWEI).quota.account_per_minute;
    if limit.is_some_and(|limit| twin.minutes.take(&account, limit, now_ms()).is_err()) {
        call().finish("flow_control", 503);
        return unavailable();
    }
    let Ok(request) = serde_json::from_slice::<Map<String, Value>>(body) else {
        return refuse(&Refusal::new("80100001"), vec![call()]);
    };
    let message_id = validate::message_id(&request);
    let tokens = validate::tokens(&request);
    let mut calls: Vec<_> = tokens.iter().map(|token| targeted(call(), token, &message_id)).collect();
    let message = match validate::check(&request, &app) {
        Ok(message) => message,
        Err(refusal) => {
            if calls.is_empty() {
                calls.push(call());
            }
            return refuse(&refusal, calls);
        }
    };
    if message.only_validate || message.tokens.is_empty() {
        // A topic or condition reaches phones that are not played.
        let verdict = if message.only_validate { "validated" } else { ACCEPTED };
        if calls.is_empty() {
            calls.push(call());
        }
        finish(calls, verdict, 200);
        return success(&new_request_id());
    }
    Order { app, message, message_id }.ship(&twin, calls).await
}

fn targeted(mut call: Call, token: &str, message_id: &str) -> Call {
    call.target(token, message_id);
    call
}

impl Huawei {
    /// The bearer, of either kind, must be of the app that the address names.
    fn admit(&self, app: &App, headers: &HeaderMap) -> Result<(), Refusal> {
        let refused = || Refusal::new("80200001");
        if self.sandbox.switches.of(HUAWEI).credentials == Credentials::Refused {
            return Err(refused());
        }
        let bearer =
            headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let bearer = bearer.ok_or_else(refused)?;
        let now = now_ms();
        let own = if jwt::is_jwt(bearer) {
            jwt::app(&self.apps, bearer, (now / 1000) as i64)?.facts.app_id.clone()
        } else {
            match self.apps.check(bearer, now) {
                Bearer::Of(app) => app,
                Bearer::Expired => return Err(Refusal::new("80200003")),
                Bearer::Bad => return Err(refused()),
            }
        };
        if own == app.facts.app_id { Ok(()) } else { Err(refused()) }
    }
}

fn finish(calls: Vec<Call>, verdict: &'static str, status: u16) {
    for call in calls {
        call.finish(verdict, status);
    }
}

/// Refuses a whole request.
fn refuse(refusal: &Refusal, calls: Vec<Call>) -> Response {
    finish(calls, refusal.verdict, refusal.status);
    raw(refusal.status, JSON, refusal.body(&new_request_id()).to_string())
}

/// An id as Huawei makes them: 24 digits, the time first. All targets of a request share it.
fn new_request_id() -> String {
    format!("{}{:011}", now_ms(), rand::rng().random_range(0..100_000_000_000_u64))
}

fn success(request_id: &str) -> Response {
    raw(200, JSON, json!({"code": "80000000", "msg": "Success", "requestId": request_id}).to_string())
}

/// What becomes of one target.
enum Own {
    /// Accepted; the status that will be reported, unless a phone decides.
    Accepted(Option<Vec<i64>>),
    Illegal(&'static str),
}

/// A request that is valid.
struct Order {
    app: Arc<App>,
    message: validate::Message,
    message_id: String,
}

impl Order {
    async fn ship(self, twin: &Arc<Huawei>, calls: Vec<Call>) -> Response {
        let tokens = &self.message.tokens;
        let asked = tokens.iter().map(|token| fate(&twin.sandbox, HUAWEI, token, &self.message_id));
        let mut owns = Vec::with_capacity(tokens.len());
        let mut is_lost = false;
        for (fate, token) in join_all(asked).await.into_iter().zip(tokens) {
            match fate {
                Fate::AcceptSilently(decision) => {
                    is_lost = true;
                    owns.push(own(&decision, token));
                }
                Fate::Accept(decision) => owns.push(own(&decision, token)),
                Fate::Answer(decision) => match of_one(&decision) {
                    Some(own) => owns.push(own),
                    // The first whose fate is one for the whole request decides.
                    None => return answer_of(twin, &decision, token, calls),
                },
                Fate::Abort | Fate::Hang => return all_without_answer(fate, calls).await,
            }
        }
        // No token of Huawei's has blanks or letters beyond ASCII.
        for (own, token) in owns.iter_mut().zip(tokens) {
            if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                *own = Own::Illegal("malformed_token");
            }
        }
        self.deliver(twin, owns, calls, is_lost).await
    }

    async fn deliver(&self, twin: &Arc<Huawei>, owns: Vec<Own>, calls: Vec<Call>, is_lost: bool) -> Response {
        let tokens = &self.message.tokens;
        let illegal = || owns.iter().zip(tokens).filter(|(own, _)| matches!(own, Own::Illegal(_)));
        let illegal_tokens: Vec<_> = illegal().map(|(_, token)| token.as_str()).collect();
        for (call, own) in calls.into_iter().zip(&owns) {
            match own {
                Own::Accepted(_) => call.finish(ACCEPTED, 200),
                Own::Illegal(verdict) => call.finish(verdict, 200),
            }
        }
        let request_id = new_request_id();
        if illegal_tokens.len() == tokens.len() {
            let body = Refusal::new("80300007").body(&request_id);
            return raw(200, JSON, body.to_string());
        }
        let mut news = Vec::new();
        for (own, token) in owns.iter().zip(tokens) {
            let Own::Accepted(fixed) = own else { continue };
            let (message, message_id) = (&self.message, self.message_id.as_str());
            let accepted = Accepted { app: &self.app, request_id: &request_id, token, message, message_id };
            news.extend(twin.hand_over(&accepted, fixed.as_deref()));
        }
        twin.tell(news);
        if twin.sandbox.switches.of(HUAWEI).receipts.before_answer {
            twin.flush().await;
        }
        if is_lost {
            return crate::state::abort();
        }
        if illegal_tokens.is_empty() {
            return success(&request_id);
        }
        let failure = illegal_tokens.len();
        // JSON inside a string, in the order of Huawei's sample.
        let msg = format!(
            r#"{{"success":{},"failure":{failure},"illegal_tokens":{}}}"#,
            tokens.len() - failure,
            json!(illegal_tokens)
        );
        let body = json!({"code": "80100000", "msg": msg, "requestId": request_id});
        raw(200, JSON, body.to_string())
    }
}

/// What is accepted, and what will be told of it.
fn own(decision: &Decision, token: &str) -> Own {
    match decision.behaviour {
        Behaviour::Silent => Own::Accepted(Some(Vec::new())),
        Behaviour::Fails => {
            let of_token = || token.strip_prefix("fails-")?.split('-').next();
            let code = decision.code.as_deref().or_else(of_token).unwrap_or_default();
            // 2: the app is gone.
            Own::Accepted(Some(vec![code.parse().unwrap_or(2)]))
        }
        _ => Own::Accepted(None),
    }
}

/// The fates that concern one target alone.
fn of_one(decision: &Decision) -> Option<Own> {
    match decision.behaviour {
        Behaviour::Dead => Some(Own::Illegal("illegal_token")),
        Behaviour::Malformed => Some(Own::Illegal("malformed_token")),
        Behaviour::WrongApp => Some(Own::Illegal("wrong_app")),
        Behaviour::Quota => Some(Own::Accepted(Some(vec![MARKETING_QUOTA]))),
        Behaviour::DeviceQuota => Some(Own::Accepted(Some(vec![DEVICE_QUOTA]))),
        _ => None,
    }
}

/// The answer that a rule asks for, to the whole request.
fn answer_of(twin: &Huawei, decision: &Decision, token: &str, calls: Vec<Call>) -> Response {
    let row = |code: &str| Ok(Refusal::new(code));
    let bare = |verdict, status| Err((verdict, status, JSON, ""));
    let page = |verdict, status, body| Err((verdict, status, "text/html", body));
    let answer = match decision.behaviour {
        Behaviour::Flaky => row("81000001"),
        Behaviour::Limited => bare("flow_control", 503),
        Behaviour::Answer => {
            let of_token = || token.strip_prefix("answer-")?.split('-').next();
            row(decision.code.as_deref().or_else(of_token).unwrap_or("80100001"))
        }
        Behaviour::ThirdParty => row("80300013"),
        Behaviour::ApnsAuth => row("80300011"),
        Behaviour::Unauthenticated => row("80200001"),
        Behaviour::Forbidden => row("80300002"),
        Behaviour::NotFound => bare("not_found", 404),
        Behaviour::Payload => row("80100003"),
        Behaviour::TooBig => row("80300008"),
        Behaviour::Unavailable => row("80600003"),
        Behaviour::BadGateway => page("bad_gateway", 502, "<html>502 Bad Gateway</html>"),
        Behaviour::GatewayTimeout => page("gateway_timeout", 504, "<html>504 Gateway Time-out</html>"),
        Behaviour::Deadline => row("80100004"),
        Behaviour::Cancelled => row("80100017"),
        Behaviour::Unspecified => bare("unspecified", 400),
        Behaviour::Unheard => row("80999999"),
        Behaviour::Garbage => Err(garbage(twin.sandbox.rules.earlier_tries(HUAWEI, token, ""))),
        _ => bare("internal", 500),
    };
    match answer {
        Ok(refusal) => refuse(&refusal, calls),
        Err((verdict, status, content_type, body)) => {
            finish(calls, verdict, status);
            raw(status, content_type, body)
        }
    }
}

/// A request of many targets that gets no answer.
async fn all_without_answer(fate: Fate, mut calls: Vec<Call>) -> Response {
    let verdict = if matches!(fate, Fate::Hang) { "hang" } else { "reset" };
    let last = calls.pop();
    finish(calls, verdict, 0);
    match last {
        Some(call) => without_answer(fate, call).await,
        None => crate::state::abort(),
    }
}

/// The five kinds of answers that cannot be read, in turn.
fn garbage(turn: u32) -> (&'static str, u16, &'static str, &'static str) {
    let (content_type, body) = match turn % 5 {
        0 => ("text/html", "<!DOCTYPE html><title>Welcome to the free Wi-Fi</title>"),
        1 => (JSON, r#"{"code":"800000"#),
        2 => (JSON, ""),
        3 => ("application/octet-stream", "\u{0}\u{1}code"),
        _ => (JSON, r#"["code", 80000000, {"msg": null}]"#),
    };
    ("garbage", 200, content_type, body)
}
