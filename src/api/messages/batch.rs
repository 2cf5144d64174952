//! `POST /v1/messages/batch`: a message a line, an answer a line.
//!
//! Lines are taken while they come, many abreast, so that they share commits; answers come in the order of the lines,
//! each when its message is on disk. The body is read whether or not the answers are: a caller that first writes
//! everything and then reads must not wait for ever. What was answered stands, whenever the caller hangs up.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use futures_util::stream::{self, FuturesOrdered};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::lines::{Line, Lines};
use crate::api::auth::{self, Caller};
use crate::api::extract::{self, Query};
use crate::api::limits::Kind;
use crate::api::ndjson::{KIND, LINE_BYTES};
use crate::api::problem::{Answer, Problem};
use crate::api::{json, messages};
use crate::app::Gateway;

/// Most bytes of a batch.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// Most lines of a batch: all its answers find room in memory.
const MOST_LINES: usize = 10_000;
/// Lines that are taken at the same time.
const ABREAST: usize = 64;
/// Longest time for all of it.
const TIME: Duration = Duration::from_mins(2);

/// `POST /v1/messages/batch`
pub(in crate::api) async fn send(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    query: Query,
    request: Request,
) -> Answer<Response> {
    query.finish()?;
    caller.app()?;
    extract::check_kind(request.headers(), KIND)?;
    if auth::single(request.headers(), "idempotency-key")?.is_some() {
        let why = "each line has a key of its own, in its member `idempotency_key`";
        return Err(Problem::bad_request("invalid_idempotency_key", why));
    }
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if length.and_then(|text| text.parse::<u64>().ok()).is_some_and(|n| n > MOST_BYTES as u64) {
        return Err(too_large());
    }
    let (answers, mut told) = mpsc::channel(MOST_LINES + 8);
    let work = run(Arc::clone(&gateway), caller, request.into_body(), answers);
    gateway.tasks.spawn("batch", work);
    let told = stream::poll_fn(move |context| told.poll_recv(context));
    let body = Body::from_stream(told.map(Ok::<_, std::convert::Infallible>));
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static(KIND));
    Ok((StatusCode::OK, [kind], body).into_response())
}

/// Takes the lines of a body and answers them.
async fn run(gateway: Arc<Gateway>, caller: Caller, body: Body, answers: mpsc::Sender<Bytes>) {
    let caller = Arc::new(caller);
    let mut lines = Lines::new(body, LINE_BYTES, MOST_BYTES);
    let mut taken = FuturesOrdered::new();
    let (mut index, mut reading) = (0, true);
    let deadline = tokio::time::sleep(TIME);
    tokio::pin!(deadline);
    let mut last = None;
    loop {
        tokio::select! {
            biased;
            // Nobody hears the answers any more. What is under way goes to its end all the same.
            () = answers.closed(), if reading => reading = false,
            () = gateway.tasks.stopped(), if reading => {
                let why = "the gateway is being stopped; send what was not answered again";
                last = Some(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", why).retry_after(5));
                reading = false;
            }
            () = &mut deadline, if reading => {
                last = Some(timed_out("the batch took more than two minutes; send what was not answered again"));
                reading = false;
            }
            Some(answer) = taken.next(), if !taken.is_empty() => say(&answers, &answer),
            line = lines.next(), if reading && taken.len() < ABREAST => match line {
                Some(Line::Text(text)) if index < MOST_LINES => {
                    taken.push_back(one(Arc::clone(&gateway), Arc::clone(&caller), index, Ok(text)));
                    index += 1;
                }
                Some(Line::TooLong) if index < MOST_LINES => {
                    let why = format!("the line has more than {LINE_BYTES} bytes; send this message alone");
                    let problem = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "line_too_long", why);
                    taken.push_back(one(Arc::clone(&gateway), Arc::clone(&caller), index, Err(problem)));
                    index += 1;
                }
                None => reading = false,
                Some(why) => {
                    last = Some(match why {
                        Line::TooMuch => too_large(),
                        Line::Silent => timed_out("nothing came for ten seconds; send what was not answered again"),
                        Line::Text(_) | Line::TooLong => {
                            let why = format!("a batch has at most {MOST_LINES} lines; send the others in another one");
                            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_lines", why)
                        }
                    });
                    reading = false;
                }
            },
            else => break,
        }
    }
    if let Some(problem) = last {
        say(&answers, &refusal(index, &problem));
    }
}

/// Takes one line; what its caller is told.
async fn one(gateway: Arc<Gateway>, caller: Arc<Caller>, index: usize, line: Answer<Bytes>) -> Value {
    let taken = async {
        let depth = gateway.settings.limits.json_depth;
        let read = line.and_then(|line| json::parse(&line, depth).map(|value| (line, value)));
        if read.is_err() {
            // A line that cannot be read costs as much as a message to one.
            caller.take(&gateway.limits, Kind::Sends, 1)?;
        }
        let (line, mut value) = read?;
        let key = match value.as_object_mut().and_then(|members| members.remove("idempotency_key")) {
            None => None,
            Some(Value::String(key)) if messages::is_key(&key) => Some(key),
            Some(_) => {
                let why = "must be 1 to 255 visible ASCII characters without spaces";
                let problem = Problem::bad_request("invalid_idempotency_key", why);
                return Err(problem.at("/idempotency_key"));
            }
        };
        let hashes = key.map(|key| messages::hashes(&key, &line));
        messages::accept(&gateway, &caller, value, hashes).await
    };
    match taken.await {
        Ok(accepted) => {
            let mut told = messages::told(&gateway, &accepted);
            told["index"] = index.into();
            told["status"] = StatusCode::ACCEPTED.as_u16().into();
            told["replayed"] = accepted.replayed.into();
            told
        }
        Err(problem) => refusal(index, &problem),
    }
}

fn refusal(index: usize, problem: &Problem) -> Value {
    let mut told = serde_json::to_value(problem).unwrap_or_else(|_| json!({}));
    told["index"] = index.into();
    if let Some(seconds) = problem.retry_after {
        told["retry_after_seconds"] = seconds.into();
    }
    told
}

fn say(answers: &mpsc::Sender<Bytes>, answer: &Value) {
    // There is room for all of them; who has hung up hears none.
    let _ = answers.try_send(Bytes::from(format!("{answer}\n")));
}

fn too_large() -> Problem {
    let why = format!("a batch has at most {MOST_BYTES} bytes; send what was not answered in another one");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", why)
}

fn timed_out(why: &str) -> Problem {
    Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", why)
}
