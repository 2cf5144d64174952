//! Twilio Programmable Messaging: SMS, one recipient a request.
//!
//! Contract: Twilio's OpenAPI document, its Python and JavaScript clients, its list of errors. A request passes, in this
//! order: outage, credentials, account, rate, fields, the number's rule. A number's rule may be in what is reported
//! later: most of what goes wrong with SMS goes wrong at the carrier. Media, content templates and scheduling are taken
//! and not played.

mod accounts;
mod codes;
mod form;
mod messages;
mod sample;
mod segments;
mod status;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Form, Json, Router};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::control::{failed, problem};
use crate::ledger::{ACCEPTED, Call, SEND};
use crate::minutes::Minutes;
use crate::rules::{Behaviour, Decision};
use crate::state::{Sandbox, abort, now_ms};
use crate::switches::{Credentials, Switch};
use crate::twin::{Fate, Place, Registration, Twin, fate, interrupt, without_answer};
use accounts::{Accounts, is_sid};
use codes::{Refusal, Shape};
use messages::Messages;

/// This provider's id.
const SMS_TWILIO: &str = "sms_twilio";

/// The twin's entry.
pub(crate) const TWIN: Registration = Registration {
    id: SMS_TWILIO,
    patterns: codes::PATTERNS,
    codes: codes::CODES,
    help: &[
        (
            "GET",
            "/_sandbox/sms_twilio/{account}/credentials",
            "auth token, API key, sender and more that work here",
        ),
        (
            "GET",
            "/_sandbox/sms_twilio/settings",
            "PUT {errors: classic|rfc9457, signature: hmac_sha1|hmac_sha256, step_ms, extra}",
        ),
    ],
    headers: &["accept-charset", "twilio-*", "x-twilio-*"],
    switch: Switch::default,
    open: |sandbox, dir| {
        Ok(Arc::new(Twilio {
            sandbox,
            accounts: Accounts::open(dir)?,
            messages: Messages::default(),
            minutes: Minutes::default(),
            settings: Mutex::default(),
        }))
    },
    raises_streams: false,
};

/// How callbacks are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Algorithm {
    /// With the auth token.
    HmacSha1,
    /// With a shared key.
    HmacSha256,
}

/// What is Twilio's business and no other vendor's.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// The shape of errors.
    errors: Shape,
    signature: Algorithm,
    /// How long a message takes from one status to the next.
    step_ms: u64,
    /// Parameters that callbacks have beside the known ones: Twilio adds some without notice.
    extra: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { errors: Shape::Classic, signature: Algorithm::HmacSha1, step_ms: 200, extra: BTreeMap::new() }
    }
}

/// The twin's own state.
struct Twilio {
    sandbox: Arc<Sandbox>,
    accounts: Accounts,
    messages: Messages,
    minutes: Minutes,
    settings: Mutex<Settings>,
}

impl Twin for Twilio {
    fn vendor_routes(self: Arc<Self>) -> Router {
        Router::new()
            .route("/2010-04-01/Accounts/{file}", get(account))
            .route("/2010-04-01/Accounts/{account}/Messages.json", get(list).post(create))
            .route("/2010-04-01/Accounts/{account}/Messages/{file}", get(fetch).post(change).delete(remove))
            .with_state(self)
    }

    fn control_routes(self: Arc<Self>) -> Router {
        Router::new()
            .route("/_sandbox/sms_twilio/{account}/credentials", get(credentials))
            .route("/_sandbox/sms_twilio/settings", get(settings).put(put_settings))
            .with_state(self)
    }

    fn sample(&self, place: &Place) -> anyhow::Result<Value> {
        sample::sample(self, &place.base_url)
    }

    /// The last two digits are those of no pattern.
    fn token(&self, number: usize) -> String {
        format!("+15{number:08}99")
    }

    fn switched(&self) {
        self.minutes.begin_anew();
    }
}

impl Twilio {
    fn settings(&self) -> Settings {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn refuse(&self, refusal: Refusal, call: Call) -> Response {
        call.finish(refusal.verdict, refusal.status());
        refusal.answer(self.settings().errors)
    }

    /// Outage, credentials, account: what stands before everything.
    async fn admit(&self, call: Call, account: &str, headers: &HeaderMap) -> Result<Call, Response> {
        if let Some(interruption) = self.sandbox.before(SMS_TWILIO).await {
            let unavailable = || Refusal::of("20503").answer(self.settings().errors);
            return Err(interrupt(interruption, call, unavailable).await);
        }
        let is_refused = self.sandbox.switches.of(SMS_TWILIO).credentials == Credentials::Refused;
        let own = self.accounts.authenticate(headers).filter(|_| !is_refused);
        match own {
            None => Err(self.refuse(Refusal::of("20003"), call)),
            Some(own) if own != account => Err(self.refuse(Refusal::of("20404"), call)),
            Some(_) => Ok(call),
        }
    }
}

async fn credentials(State(twilio): State<Arc<Twilio>>, Path(account): Path<String>) -> Response {
    if !is_sid(&account, "AC") {
        return problem(StatusCode::BAD_REQUEST, "an account SID is AC and 32 hex digits");
    }
    match twilio.accounts.get_or_make(&account) {
        Ok(credentials) => Json(credentials).into_response(),
        Err(error) => failed(&error),
    }
}

async fn settings(State(twilio): State<Arc<Twilio>>) -> Json<Settings> {
    Json(twilio.settings())
}

/// What is not said returns to its default.
async fn put_settings(State(twilio): State<Arc<Twilio>>, body: Bytes) -> Response {
    match serde_json::from_slice(&body) {
        Ok(settings) => {
            *twilio.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings;
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => problem(StatusCode::BAD_REQUEST, &format!("reading the settings: {error}")),
    }
}

async fn create(
    State(twilio): State<Arc<Twilio>>,
    Path(account): Path<String>,
    headers: HeaderMap,
    fields: Result<Form<Vec<(String, String)>>, FormRejection>,
) -> Response {
    let sandbox = &twilio.sandbox;
    let call = sandbox.ledger.call(SMS_TWILIO, SEND, &account);
    let mut call = match twilio.admit(call, &account, &headers).await {
        Ok(call) => call,
        Err(response) => return response,
    };
    let limit = sandbox.switches.of(SMS_TWILIO).quota.account_per_minute;
    if limit.is_some_and(|limit| twilio.minutes.take(&account, limit, now_ms()).is_err()) {
        return twilio.refuse(Refusal::of("20429"), call);
    }
    // A field may come several times (`MediaUrl`); of the others the last counts.
    let fields: serde_json::Map<_, _> = fields
        .map(|Form(fields)| fields)
        .unwrap_or_default()
        .into_iter()
        .map(|(name, value)| (name, value.into()))
        .collect();
    let form: form::Form = serde_json::from_value(Value::Object(fields)).unwrap_or_default();
    call.target(form.to(), form.key());
    let Some(own) = twilio.accounts.get(&account) else { return twilio.refuse(Refusal::of("20404"), call) };
    let wanted = match form.check(&own) {
        Ok(wanted) => wanted,
        Err(refusal) => return twilio.refuse(refusal, call),
    };
    match fate(sandbox, SMS_TWILIO, &wanted.to, form.key()).await {
        Fate::Answer(decision) if decision.behaviour == Behaviour::Dead => {
            accept(&twilio, &account, wanted, &decision, call, true).await
        }
        Fate::Answer(decision) => answer(&twilio, &decision, &wanted.to, call),
        fate @ (Fate::Abort | Fate::Hang) => without_answer(fate, call).await,
        Fate::Accept(decision) => accept(&twilio, &account, wanted, &decision, call, true).await,
        Fate::AcceptSilently(decision) => accept(&twilio, &account, wanted, &decision, call, false).await,
    }
}

async fn accept(
    twilio: &Arc<Twilio>,
    account: &str,
    wanted: form::Wanted,
    decision: &Decision,
    call: Call,
    is_answered: bool,
) -> Response {
    let is_scheduled = wanted.is_scheduled;
    let sid = twilio.messages.add(account, wanted);
    let shown = twilio.messages.with(account, &sid, |message| message.show(now_ms()));
    call.finish(ACCEPTED, if is_answered { 201 } else { 0 });
    if !is_scheduled {
        status::send_off(twilio, account, &sid, decision).await;
    }
    if is_answered { (StatusCode::CREATED, Json(shown)).into_response() } else { abort() }
}

/// Twilio's words for what a rule decided.
fn answer(twilio: &Twilio, decision: &Decision, number: &str, call: Call) -> Response {
    let code = match decision.behaviour {
        Behaviour::Garbage => {
            let turn = twilio.sandbox.rules.earlier_tries(SMS_TWILIO, number, "");
            let (status, response) = codes::garbage(turn);
            call.finish("garbage", status);
            return response;
        }
        Behaviour::Limited | Behaviour::Quota | Behaviour::DeviceQuota => "20429",
        Behaviour::Flaky | Behaviour::Unavailable => "20503",
        Behaviour::Internal => "20500",
        Behaviour::Malformed => "21211",
        Behaviour::Unauthenticated | Behaviour::Forbidden => "20003",
        Behaviour::NotFound => "20404",
        Behaviour::TooBig => "21617",
        _ => decision.code.as_deref().unwrap_or("29999"),
    };
    let mut response = twilio.refuse(Refusal::of(code), call);
    // None is documented: only where a rule asks for one.
    if let Some(seconds) = decision.retry_after_seconds {
        response.headers_mut().insert(http::header::RETRY_AFTER, seconds.into());
    }
    response
}

/// The account, which tells whether credentials are good.
async fn account(
    State(twilio): State<Arc<Twilio>>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Response {
    let sid = file.strip_suffix(".json").unwrap_or_default();
    let call = twilio.sandbox.ledger.call(SMS_TWILIO, "account", sid);
    let call = match twilio.admit(call, sid, &headers).await {
        Ok(call) => call,
        Err(response) => return response,
    };
    call.finish("shown", 200);
    Json(json!({
        "sid": sid, "owner_account_sid": sid, "friendly_name": "sandbox", "status": "active", "type": "Full",
        "uri": format!("/2010-04-01/Accounts/{sid}.json"),
    }))
    .into_response()
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListQuery {
    to: Option<String>,
    page_size: Option<usize>,
}

async fn list(
    State(twilio): State<Arc<Twilio>>,
    Path(account): Path<String>,
    Query(query): Query<ListQuery>,
    headers: HeaderMap,
) -> Response {
    let call = twilio.sandbox.ledger.call(SMS_TWILIO, "list", &account);
    let call = match twilio.admit(call, &account, &headers).await {
        Ok(call) => call,
        Err(response) => return response,
    };
    call.finish("shown", 200);
    let size = query.page_size.unwrap_or(50).min(1000);
    let messages = twilio.messages.list(&account, query.to.as_deref(), size);
    let uri = format!("/2010-04-01/Accounts/{account}/Messages.json");
    Json(json!({
        "messages": messages, "page": 0, "page_size": size, "first_page_uri": uri, "next_page_uri": null,
        "previous_page_uri": null, "uri": uri,
    }))
    .into_response()
}

/// What all calls on one message begin with.
async fn one(
    twilio: &Twilio,
    account: &str,
    operation: &'static str,
    headers: &HeaderMap,
) -> Result<Call, Response> {
    let call = twilio.sandbox.ledger.call(SMS_TWILIO, operation, account);
    twilio.admit(call, account, headers).await
}

async fn fetch(
    State(twilio): State<Arc<Twilio>>,
    Path((account, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let call = match one(&twilio, &account, "fetch", &headers).await {
        Ok(call) => call,
        Err(response) => return response,
    };
    let sid = file.strip_suffix(".json").unwrap_or_default();
    match twilio.messages.with(&account, sid, |message| message.show(now_ms())) {
        Some(shown) => {
            call.finish("shown", 200);
            Json(shown).into_response()
        }
        None => twilio.refuse(Refusal::of("20404"), call),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Change {
    status: Option<String>,
    body: Option<String>,
}

/// `Status=canceled` stops what is scheduled; an empty `Body` forgets the text.
async fn change(
    State(twilio): State<Arc<Twilio>>,
    Path((account, file)): Path<(String, String)>,
    headers: HeaderMap,
    fields: Result<Form<Change>, FormRejection>,
) -> Response {
    let call = match one(&twilio, &account, "change", &headers).await {
        Ok(call) => call,
        Err(response) => return response,
    };
    let sid = file.strip_suffix(".json").unwrap_or_default();
    let Ok(Form(change)) = fields else { return twilio.refuse(Refusal::of("20001"), call) };
    let done = if change.status.as_deref() == Some("canceled") {
        twilio.messages.cancel(&account, sid)
    } else if change.body.as_deref() == Some("") {
        twilio.messages.with(&account, sid, |message| message.wanted.body.clear()).map(|()| true)
    } else {
        Some(false)
    };
    match done {
        None => twilio.refuse(Refusal::of("20404"), call),
        Some(false) => twilio.refuse(Refusal::of("20001"), call),
        Some(true) => {
            call.finish("changed", 200);
            Json(twilio.messages.with(&account, sid, |message| message.show(now_ms()))).into_response()
        }
    }
}

async fn remove(
    State(twilio): State<Arc<Twilio>>,
    Path((account, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let call = match one(&twilio, &account, "remove", &headers).await {
        Ok(call) => call,
        Err(response) => return response,
    };
    if twilio.messages.remove(&account, file.strip_suffix(".json").unwrap_or_default()) {
        call.finish("removed", 204);
        return StatusCode::NO_CONTENT.into_response();
    }
    twilio.refuse(Refusal::of("20404"), call)
}
