//! What every request goes through: a Request-Id, the key, a deadline, a border for panics, one line in the log.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{FromRequestParts as _, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;

use super::auth::{self, Access};
use super::extract::Names;
use super::limits::{Kind, Meter};
use super::listen::Peer;
use super::problem::Problem;
use super::refusals;
use crate::app::Gateway;
use crate::audit::{self, Actor};
use crate::secrets::token;

/// Longest time that a request may take. Phones that wait for messages have their own.
const DEADLINE: Duration = Duration::from_secs(30);

/// What of a request the audit log and the log of refusals name it by.
#[derive(Debug, Clone)]
struct RequestId(String);

static REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// Around everything, unknown paths too.
pub(super) async fn outer(State(gateway): State<Arc<Gateway>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    // Made here and never taken from outside: what a client can choose is no evidence.
    let id = format!("req_{}", token::random_of(b"0123456789abcdefghjkmnpqrstvwxyz", 20));
    let method = request.method().clone();
    // The pattern, not the path: paths hold ids of people's devices.
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "(none)".to_owned(), |path| path.as_str().to_owned());
    let peer = request.extensions().get::<Peer>().copied();
    let client = peer.map(|peer| gateway.limits.client(peer.0, request.headers()));
    if let Some(client) = client {
        request.extensions_mut().insert(Peer(client));
    }
    let meter = Meter::default();
    request.extensions_mut().insert(meter.clone());
    let asked = refusals::Asked::of(&request);
    request.extensions_mut().insert(RequestId(id.clone()));
    // Nobody's yet: a door further in says in whose name.
    let ip = request.extensions().get::<Peer>().map(|peer| peer.0);
    let nobody = Actor { ip, request_id: Some(id.clone()), ..Actor::default() };
    let answer = audit::acting(nobody, next.run(request));
    let mut response = if let Ok(response) = AssertUnwindSafe(answer).catch_unwind().await {
        response
    } else {
        tracing::error!(request.id = %id, "a handler panicked");
        Problem::internal().into_response()
    };
    // Whoever guesses is counted for where they are, and told so before they are told that they guessed wrong.
    if let Some(client) = client
        && guessed(response.status(), &path)
        && let Err(problem) = gateway.limits.failed(client, &meter)
    {
        response = problem.into_response();
    }
    let status = response.status().as_u16();
    let ms = started.elapsed().as_millis() as u64;
    tracing::info!(request.id = %id, %method, path, status, ms, "request");
    gateway.refusals.note(&gateway, &asked, response.status(), &id);
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::try_from(id) {
        headers.insert(REQUEST_ID.clone(), value);
    }
    gateway.limits.tell(&meter, client, headers);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Whether an answer says that a key, a secret or the path of a callback was none.
fn guessed(status: StatusCode, path: &str) -> bool {
    let is_callback = path.starts_with("/v1/callbacks/");
    status == StatusCode::UNAUTHORIZED || (is_callback && status == StatusCode::NOT_FOUND)
}

/// What the guard of a route knows of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Door {
    pub(super) access: Access,
    pub(super) kind: Kind,
}

/// Around one route: who calls, how often they may, and how long it may take.
pub(super) async fn guard(
    State((gateway, door)): State<(Arc<Gateway>, Door)>,
    request: Request,
    next: Next,
) -> Response {
    let safe = request.method().is_safe();
    let running = gateway.tasks.guard();
    let work = async move {
        let _running = running;
        admit(&gateway, door, request, next).await
    };
    let answer = if safe {
        tokio::time::timeout(DEADLINE, work).await
    } else {
        tokio::time::timeout(DEADLINE, to_its_end(work)).await
    };
    match answer {
        Ok(Ok(response)) => response,
        Ok(Err(problem)) => problem.into_response(),
        Err(_) => {
            let why = "the gateway did not finish within 30 seconds; what it did meanwhile may stand";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "timed_out", why).retry_after(5).into_response()
        }
    }
}

/// What changes something is not dropped half-way where the caller hangs up or the deadline passes: what is on disk
/// by then must also become true in memory.
async fn to_its_end(
    work: impl Future<Output = Result<Response, Problem>> + Send + 'static,
) -> Result<Response, Problem> {
    #[expect(clippy::disallowed_methods, reason = "it holds a guard of `Tasks`, and is awaited here")]
    match tokio::spawn(work).await {
        Ok(answer) => answer,
        // The border for panics is around this one.
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Problem::internal()),
    }
}

async fn admit(
    gateway: &Arc<Gateway>,
    door: Door,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let names = Names::from_request_parts(&mut parts, gateway).await?;
    let app = Some(names.get("app")).filter(|name| !name.is_empty());
    let caller = auth::authenticate(gateway, &parts, app, door.access).await?;
    let Some(caller) = caller else { return Ok(next.run(Request::from_parts(parts, body)).await) };
    match door.kind {
        Kind::Calls => caller.take(&gateway.limits, Kind::Calls, 1)?,
        // Counted when it is known how many targets there are.
        Kind::Sends => caller.look(&gateway.limits, Kind::Sends)?,
    }
    let actor = Actor {
        who: caller.who(),
        ip: parts.extensions.get::<Peer>().map(|peer| peer.0),
        request_id: parts.extensions.get::<RequestId>().map(|id| id.0.clone()),
    };
    parts.extensions.insert(caller.clone());
    let response = audit::acting(actor, next.run(Request::from_parts(parts, body))).await;
    if caller.is_uncounted() {
        // It sent nothing: a dry run, or a body that cannot be read.
        let _ = caller.take(&gateway.limits, door.kind, 1);
    }
    Ok(response)
}
