//! Xiaomi push (MiPush): messages to regids, one text or many, and what became of them.
//!
//! Contract: dev.mi.com pId=1559, 1560, 1656 (2024-10 to 2026-02), and clients in use on the wire. A request passes, in
//! this order: outage, form, secret, text, rules of its targets, quota. Business results come with HTTP 200, refusals
//! too. Played are regids only: no alias, account, topic or broadcast, and what is scheduled goes out at once.

mod apps;
mod codes;
mod form;
mod message;
mod patterns;
mod receipts;
mod sample;
mod send;
mod tell;
mod trace;

use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};

use crate::minutes::Minutes;
use crate::state::{Sandbox, hex, now_ms, random_bytes};
use crate::switches::{Credentials, Quota, Switch};
use crate::twin::{Place, Registration, Twin, interrupt};
use apps::{App, Apps};
use codes::Refusal;
use form::Form;

/// This provider's id.
const XIAOMI: &str = "xiaomi";
/// A thousand messages of four kilobytes each, escaped.
const MAX_BODY: usize = 16 << 20;
/// What the ledger calls a question about messages.
const TRACE: &str = "trace";

/// This twin's entry in the list.
pub(crate) const TWIN: Registration = Registration {
    id: XIAOMI,
    patterns: patterns::PATTERNS,
    codes: codes::ALL,
    help: &[
        ("GET", "/_sandbox/xiaomi/{package}/app", "an app that works here; makes it"),
        (
            "PUT",
            "/_sandbox/xiaomi/{package}/app",
            "{app_secret, more_packages, channels: {id: public|private}, templates: {id: variables}, channel_required, template_required, day_quota}",
        ),
    ],
    headers: &["content-type", "user-agent", "accept", "x-push-*"],
    raises_streams: false,
    switch: || Switch {
        // The highest class, 3000 requests a second (third party); the quota of the day belongs to the app.
        quota: Quota { account_per_minute: Some(180_000), target_per_minute: None },
        ..Switch::default()
    },
    open: |sandbox, dir| {
        Ok(Arc::new(Xiaomi {
            apps: Apps::open(dir)?,
            sandbox,
            minutes: Minutes::default(),
            traces: trace::Traces::default(),
            pending: Mutex::default(),
        }))
    },
};

/// The twin.
pub(crate) struct Xiaomi {
    sandbox: Arc<Sandbox>,
    apps: Apps,
    minutes: Minutes,
    traces: trace::Traces,
    /// News that go out with the next batch.
    pending: Mutex<Vec<receipts::Event>>,
}

impl Twin for Xiaomi {
    fn vendor_routes(self: Arc<Self>) -> Router {
        // One port plays the data centres of all regions: by host, or by a path before the vendor's.
        let with_region = |router: Router<Arc<Self>>, prefix: &str| {
            let path = |vendor: &str| format!("{prefix}{vendor}");
            router
                .route(&path("/v2/message/regid"), post(send::regid))
                .route(&path("/v3/message/regid"), post(send::regid))
                .route(&path("/v2/multi_messages/regids"), post(send::multi))
                .route(&path("/v1/trace/message/status"), get(status))
                .route(&path("/v1/trace/messages/status"), get(statuses))
                .route(&path("/v1/stats/message/counters"), get(counters))
        };
        let router = with_region(with_region(Router::new(), ""), "/xiaomi/{region}");
        router.layer(DefaultBodyLimit::max(MAX_BODY)).with_state(self)
    }

    fn control_routes(self: Arc<Self>) -> Router {
        Router::new().route("/_sandbox/xiaomi/{package}/app", get(get_app).put(put_app)).with_state(self)
    }

    fn sample(&self, place: &Place) -> anyhow::Result<Value> {
        sample::sample(&self.apps, place)
    }

    fn switched(&self) {
        self.minutes.begin_anew();
    }
}

impl Xiaomi {
    /// Form, secret and region of a request.
    fn admit(&self, headers: &HeaderMap, uri: &Uri, body: &[u8]) -> Result<(App, Form, Region), Refusal> {
        let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        let region = region(headers, uri).ok_or(Refusal::new(10_020))?;
        let form = Form::read(uri.query().unwrap_or_default(), text(CONTENT_TYPE).unwrap_or_default(), body)
            .map_err(|_| Refusal::new(10_008))?;
        let secret = text(AUTHORIZATION).and_then(|value| value.strip_prefix("key="));
        let app = secret.and_then(|secret| self.apps.by_secret(secret)).ok_or(Refusal::new(21_301))?;
        if self.sandbox.switches.of(XIAOMI).credentials == Credentials::Refused {
            return Err(Refusal::new(21_301));
        }
        Ok((app, form, region))
    }
}

/// Where a data centre stands.
type Region = &'static str;

/// The regions' hosts (D1696), and the older names of the SDK.
const HOSTS: [(&str, Region); 12] = [
    ("api.xmpush.xiaomi.com", "cn"),
    ("vip.api.xmpush.xiaomi.com", "cn"),
    ("ru-api.xmpush.global.xiaomi.com", "ru"),
    ("ru.api.xmpush.global.xiaomi.com", "ru"),
    ("idmb-api.xmpush.global.xiaomi.com", "in"),
    ("idmb.api.xmpush.global.xiaomi.com", "in"),
    ("fr-api.xmpush.global.xiaomi.com", "eu"),
    ("fr.api.xmpush.global.xiaomi.com", "eu"),
    ("sgp-api.xmpush.global.xiaomi.com", "global"),
    ("sgp.api.xmpush.global.xiaomi.com", "global"),
    ("api.xmpush.global.xiaomi.com", "global"),
    ("localhost", "cn"),
];

/// The region that a request was meant for: that of its path, else that of its host, else China.
fn region(headers: &HeaderMap, uri: &Uri) -> Option<Region> {
    if let Some(rest) = uri.path().strip_prefix("/xiaomi/") {
        let name = rest.split('/').next()?;
        return HOSTS.iter().find(|(_, region)| *region == name).map(|(_, region)| *region);
    }
    let authority = crate::twin::authority(headers, uri);
    let host = authority.split(':').next().unwrap_or_default();
    Some(HOSTS.iter().find(|(known, _)| *known == host).map_or("cn", |(_, region)| *region))
}

/// A JSON answer; results of every kind come with 200.
fn answer(body: &Value) -> Response {
    raw(200, "application/json;charset=UTF-8", body.to_string())
}

fn raw(status: u16, content_type: &'static str, body: impl Into<Body>) -> Response {
    let response = Response::builder().status(status).header(CONTENT_TYPE, content_type);
    response.body(body.into()).expect("status and header are this module's constants")
}

/// What Xiaomi's front answers when it is down (the text is not known).
fn unavailable() -> Response {
    raw(503, "text/html", "<html><body><h1>503 Service Unavailable</h1></body></html>")
}

/// An id of a message (`sdm…`) or of a request (`Xdm…`).
fn new_id(kind: &str) -> String {
    format!("{kind}{}{}", now_ms(), hex(&random_bytes::<4>()))
}

async fn status(State(twin): State<Arc<Xiaomi>>, uri: Uri, headers: HeaderMap) -> Response {
    traced(&twin, &headers, &uri, |app, form| {
        let (id, jobkey) = (form.get("msg_id").unwrap_or_default(), form.get("job_key").unwrap_or_default());
        twin.traces.of(&app.package, id, jobkey).ok_or(Refusal::new(65_028))
    })
    .await
}

async fn statuses(State(twin): State<Arc<Xiaomi>>, uri: Uri, headers: HeaderMap) -> Response {
    traced(&twin, &headers, &uri, |app, form| {
        let time = |name| form.get(name).and_then(|text| text.parse().ok()).ok_or(Refusal::new(10_008));
        Ok(twin.traces.between(&app.package, time("begin_time")?, time("end_time")?).into())
    })
    .await
}

/// What an app sent, day by day.
async fn counters(State(twin): State<Arc<Xiaomi>>, uri: Uri, headers: HeaderMap) -> Response {
    traced(&twin, &headers, &uri, |app, form| {
        let day = |name| {
            let text: Option<&str> = form.get(name);
            let is_day = |text: &&str| text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.filter(is_day).ok_or(Refusal::new(10_008))
        };
        let package = form.get("restricted_package_name").ok_or(Refusal::new(10_008))?;
        if !app.has_package(package) {
            return Err(Refusal::new(22_022));
        }
        Ok(twin.traces.by_day(package, day("start_date")?, day("end_date")?).into())
    })
    .await
}

async fn traced(
    twin: &Arc<Xiaomi>,
    headers: &HeaderMap,
    uri: &Uri,
    find: impl FnOnce(&App, &Form) -> Result<Value, Refusal>,
) -> Response {
    let call = |account: &str| twin.sandbox.ledger.call(XIAOMI, TRACE, account);
    if let Some(interruption) = twin.sandbox.before(XIAOMI).await {
        return interrupt(interruption, call(""), unavailable).await;
    }
    let found =
        twin.admit(headers, uri, b"").and_then(|(app, form, _)| Ok((find(&app, &form)?, app.package)));
    match found {
        Ok((data, package)) => {
            call(&package).finish("found", 200);
            answer(&json!({"result": "ok", "code": 0, "trace_id": new_id("Xdm"), "data": {"data": data}}))
        }
        Err(refusal) => {
            call("").finish(refusal.verdict(), 200);
            answer(&refusal.body(&new_id("Xcm")))
        }
    }
}

async fn get_app(state: State<Arc<Xiaomi>>, path: Path<String>, headers: HeaderMap, uri: Uri) -> Response {
    put_app(state, path, headers, uri, Bytes::from_static(b"{}")).await
}

async fn put_app(
    State(twin): State<Arc<Xiaomi>>,
    Path(package): Path<String>,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Response {
    let refused = |text: &str| (StatusCode::BAD_REQUEST, Json(json!({"error": text}))).into_response();
    if !apps::is_package(&package) {
        return refused("a package name has 1 to 255 letters, digits, dots and underscores");
    }
    let change = match serde_json::from_slice(&body) {
        Ok(change) => change,
        Err(error) => return refused(&format!("reading the app: {error}")),
    };
    let place = Place::of(&headers, &uri);
    match twin.apps.change(&package, change) {
        Ok(app) => Json(app.view(&place.base_url)).into_response(),
        Err(error) => crate::control::failed(&error),
    }
}
