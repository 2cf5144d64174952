//! What a vendor may never do, done by somebody between us and its twin: answers that no client should read, and bytes
//! at random in answers and callbacks. Each ends as an outcome; none counts as accepted.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use anypush_providers::contract::{CallbackRequest, Failure, Outcome, Reason, Registration, Verdict};
use anypush_providers::kit::http::{HttpOptions, client};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use futures_util::stream;
use libtest_mimic::Trial;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::promises::hello;
use crate::receipts::Ear;
use crate::stage::Stage;
use crate::{Found, ensure, trial};

/// Answers and callbacks that each provider is given at random.
const ROUNDS: usize = 200;
/// Longer than any vendor's answer may be.
const TOO_LONG: usize = 3 << 20;
/// Two MiB of spaces in two kilobytes.
const BOMB: &[u8] = include_bytes!("../../providers/kit/testdata/spaces_2mib.gz");

/// The trials, for each provider.
pub(crate) fn all(provider: &'static Registration) -> impl Iterator<Item = Trial> {
    [
        trial(provider, "hostile_answers_end_as_outcomes", hostile_answers_end_as_outcomes),
        trial(provider, "answers_at_random_are_never_accepted", answers_at_random_are_never_accepted),
        trial(provider, "callbacks_at_random_report_nothing", callbacks_at_random_report_nothing),
    ]
    .into_iter()
}

/// What is answered instead of the vendor.
#[derive(Clone)]
enum Answer {
    /// This.
    Plain(StatusCode, HeaderMap, Bytes),
    /// Bytes without an end.
    Endless,
}

/// Somebody between a provider and its twin. Access tokens are the twin's own; every other request gets what was set.
struct Between {
    url: String,
    answer: Arc<Mutex<Answer>>,
}

impl Between {
    #[expect(clippy::disallowed_methods, reason = "a test's server ends with the test")]
    async fn open(twin: &str) -> Result<Self, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
        let url = format!("http://{}", listener.local_addr().map_err(|error| error.to_string())?);
        let answer = Arc::new(Mutex::new(Answer::Endless));
        let (now, http, twin) = (Arc::clone(&answer), client(&HttpOptions::default())?, twin.to_owned());
        let router = Router::new().fallback(move |request: Request<Body>| {
            let (now, http, twin) = (Arc::clone(&now), http.clone(), twin.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
                if String::from_utf8_lossy(&body).contains("grant_type=") {
                    let sent =
                        http.post(format!("{twin}{}", head.uri.path())).headers(head.headers).body(body);
                    let Ok(token) = sent.send().await else { return Response::default() };
                    return Response::new(Body::from(token.bytes().await.unwrap_or_default()));
                }
                let answer = now.lock().map(|answer| answer.clone());
                written(answer.unwrap_or(Answer::Endless))
            }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { url, answer })
    }

    fn will(&self, answer: Answer) {
        if let Ok(mut now) = self.answer.lock() {
            *now = answer;
        }
    }
}

fn written(answer: Answer) -> Response<Body> {
    match answer {
        Answer::Plain(status, headers, body) => {
            let mut response = Response::new(Body::from(body));
            *response.status_mut() = status;
            response.headers_mut().extend(headers);
            response
        }
        Answer::Endless => {
            let spaces = Bytes::from(vec![b' '; 1 << 16]);
            Response::new(Body::from_stream(stream::repeat_with(move || Ok::<_, Infallible>(spaces.clone()))))
        }
    }
}

fn plain(status: u16, body: impl Into<Bytes>) -> Answer {
    Answer::Plain(StatusCode::from_u16(status).unwrap_or_default(), HeaderMap::new(), body.into())
}

fn with_headers(body: impl Into<Bytes>, headers: impl IntoIterator<Item = (String, String)>) -> Answer {
    let pairs =
        headers.into_iter().filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)));
    let pairs: Vec<(axum::http::HeaderName, axum::http::HeaderValue)> = pairs.collect();
    Answer::Plain(StatusCode::OK, pairs.into_iter().collect(), body.into())
}

/// C28, A53: each kind by name.
fn hostile() -> Vec<(&'static str, Answer)> {
    let numbers =
        r#"{"code":1e400,"result":1e400,"status":1e400,"data":{"id":1e400},"name":1e400,"sid":1e400}"#;
    let twice =
        r#"{"code":"1","code":"2","result":"a","result":"b","name":"","name":"","sid":"","sid":"","sid":""}"#;
    let gzip = || [("content-encoding".to_owned(), "gzip".to_owned())];
    let json = || Bytes::from_static(br#"{"code":"#);
    vec![
        ("an endless body", Answer::Endless),
        ("a body beyond the cap", plain(200, vec![b'x'; TOO_LONG])),
        ("a refusal beyond the cap", plain(400, vec![b'x'; TOO_LONG])),
        ("a gzip bomb", with_headers(BOMB, gzip())),
        ("what calls itself gzip", with_headers("no gzip", gzip())),
        ("arrays in arrays", plain(200, "[".repeat(500_000))),
        ("objects in objects", plain(200, "{\"data\":".repeat(100_000))),
        ("a refusal of objects in objects", plain(400, "{\"error\":".repeat(100_000))),
        ("a number that is none", plain(200, numbers)),
        ("members twice", plain(200, twice)),
        (
            "no UTF-8",
            plain(
                200,
                &b"{\"name\":\"\xff\xfe\",\"result\":\"\xff\",\"code\":\"\xff\",\"sid\":\"\xff\"}"[..],
            ),
        ),
        ("half a document", plain(200, json())),
        ("a long header", with_headers(json(), [("x-long".to_owned(), "x".repeat(1 << 20))])),
        (
            "headers without number",
            with_headers(json(), (0..2000).map(|n| (format!("x-{n}"), "x".repeat(100)))),
        ),
        ("cookies", with_headers(json(), [("set-cookie".to_owned(), "a=b".to_owned())])),
    ]
}

/// The stage's provider, with somebody between it and its twin.
async fn between(stage: &mut Stage) -> Result<Between, String> {
    let between = Between::open(stage.twin()).await?;
    stage.move_to(&between.url)?;
    Ok(between)
}

async fn send(stage: &Stage, token: &str) -> Result<Outcome, String> {
    // Far beyond the time that one request may take: nothing here may wait for ever.
    let sent = tokio::time::timeout(Duration::from_mins(1), stage.send_one(&hello(), token)).await;
    sent.map_err(|_| "no outcome within a minute".to_owned())?
}

/// Nobody's address is retired for what nobody can read.
fn blames_no_target(what: &str, failure: &Failure) -> Found {
    let blames = matches!(failure.reason, Reason::InvalidToken | Reason::OptedOut);
    ensure(!blames, || format!("{what} blames the target: {failure:?}"))
}

/// A vendor whose yes is a status and a header, and whose words nobody has to read, may be believed.
fn needs_words(stage: &Stage) -> bool {
    stage.registration.descriptor.id != "apns"
}

async fn hostile_answers_end_as_outcomes(mut stage: Stage) -> Found {
    let token = stage.tokens(1).await?.remove(0);
    let between = between(&mut stage).await?;
    for (what, answer) in hostile() {
        between.will(answer);
        let outcome = send(&stage, &token).await.map_err(|why| format!("{what}: {why}"))?;
        match &outcome.verdict {
            Verdict::Failed(failure) => blames_no_target(what, failure)?,
            Verdict::Accepted => {
                ensure(!needs_words(&stage), || format!("{what} was accepted: {outcome:?}"))?;
            }
        }
    }
    // Whoever met all that still works.
    stage.move_back()?;
    let outcome = send(&stage, &token).await?;
    ensure(outcome.verdict == Verdict::Accepted, || format!("{outcome:?}"))
}

/// Bytes that are nearly an answer: pieces of JSON, vendors' words, and anything.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "{",
        "}",
        "[",
        "]",
        "\"",
        ":",
        ",",
        "null",
        "true",
        "0",
        "-1",
        "1e400",
        "\"code\":",
        "\"result\":\"ok\"",
        "\"80000000\"",
        "\"name\":",
        "\"sid\":",
        "\"status\":",
        "\"data\":{",
        "\"error\":{",
        "\"reason\":",
        "\\u0000",
        "\\ud800",
        " ",
    ];
    let word = proptest::sample::select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec());
    let piece = proptest::prop_oneof![3 => word, 1 => vec(any::<u8>(), 0..8)];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

async fn answers_at_random_are_never_accepted(mut stage: Stage) -> Found {
    let token = stage.tokens(1).await?.remove(0);
    let between = between(&mut stage).await?;
    let mut runner = TestRunner::deterministic();
    let statuses = proptest::sample::select(vec![200_u16, 201, 204, 400, 401, 403, 404, 410, 429, 500, 503]);
    let answers = (statuses, nearly());
    for _ in 0..ROUNDS {
        let (status, body) = answers.new_tree(&mut runner).map_err(|error| error.to_string())?.current();
        let is_json = serde_json::from_slice::<Value>(&body).is_ok();
        let shown = format!("{status} {:?}", String::from_utf8_lossy(&body));
        between.will(plain(status, body));
        let outcome = send(&stage, &token).await.map_err(|why| format!("{shown}: {why}"))?;
        if outcome.verdict == Verdict::Accepted {
            let may_be = status < 300 && (is_json || !needs_words(&stage));
            ensure(may_be, || format!("{shown} was accepted: {outcome:?}"))?;
        }
    }
    Ok(())
}

async fn callbacks_at_random_report_nothing(stage: Stage) -> Found {
    let mut runner = TestRunner::deterministic();
    let fixture = match Ear::open().await {
        Ok(mut ear) => ear.a_true_one(&stage).await.ok(),
        Err(_) => None,
    };
    let names = proptest::sample::select(vec![
        "x-signature",
        "x-twilio-signature",
        "x-huawei-signature",
        "authorization",
    ]);
    let made = (nearly(), "[ -~]{0,40}", "[!-~]{0,60}", names, any::<(u16, u8, u8)>());
    for _ in 0..ROUNDS {
        let (body, header, query, name, (at, byte, how)) =
            made.new_tree(&mut runner).map_err(|error| error.to_string())?.current();
        let mut headers = HeaderMap::new();
        let Ok(header) = header.parse() else { continue };
        headers.insert(name, header);
        let shown = format!("{query:?} {headers:?} {:?}", String::from_utf8_lossy(&body));
        let random = CallbackRequest {
            method: Method::POST,
            url: format!("http://gateway/v1/callbacks/chn_x/secret?{query}"),
            headers,
            body: body.into(),
            received_at: UNIX_EPOCH + Duration::from_hours(24 * 365 * 56),
        };
        if let Some(reply) = stage.provider.parse_callback(&random) {
            ensure(reply.receipts.is_empty(), || format!("{shown} reports {:?}", reply.receipts))?;
        }
        // A true one, with one byte changed, left out or put in: whatever it says then, it must not be a panic.
        if let Some(fixture) = &fixture {
            let mut body = fixture.body.to_vec();
            let at = usize::from(at) % (body.len() + 1);
            match how % 3 {
                0 => body.insert(at, byte),
                1 if at < body.len() => drop(body.remove(at)),
                _ => body.truncate(at),
            }
            let mutated = CallbackRequest { body: body.into(), ..fixture.clone() };
            let _ = stage.provider.parse_callback(&mutated);
        }
    }
    Ok(())
}
