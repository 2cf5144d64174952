//! `POST /v1/devices/import`: many devices in one call, one a line, answered line by line.
//!
//! Body and answer both flow: what is held of them is one group of lines. A line that is wrong is answered with what is
//! wrong about it, and the others go on.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{ID, read};
use crate::api::auth::Caller;
use crate::api::extract::Query;
use crate::api::json;
use crate::api::limits::Kind;
use crate::api::ndjson::{self, Line, Lines};
use crate::api::problem::{Answer, FieldError, Problem};
use crate::app::Gateway;
use crate::audit::{self, Actor};
use crate::store::{DevicePut, StoreError};

/// Lines that share a commit.
const GROUP: usize = 256;

/// An import under way.
struct Import {
    gateway: Arc<Gateway>,
    caller: Caller,
    app: i64,
    lines: Lines,
    /// In whose name, long after the handler has returned.
    actor: Actor,
    /// Shutdown waits for the group at hand.
    _running: TaskTrackerToken,
    is_over: bool,
}

/// `POST /v1/devices/import`
pub(in crate::api) async fn import(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    query: Query,
    request: Request,
) -> Answer<Response> {
    query.finish()?;
    let app = caller.app_seq()?;
    let (parts, body) = request.into_parts();
    let lines = Lines::of(&parts.headers, body)?;
    let running = gateway.tasks.guard();
    let import =
        Import { gateway, caller, app, lines, actor: audit::actor(), _running: running, is_over: false };
    let answers = stream::unfold(import, async |mut import| {
        let answer = import.group().await?;
        Some((Ok::<_, Infallible>(answer), import))
    });
    let mut response = Body::from_stream(answers).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(ndjson::KIND));
    Ok(response)
}

impl Import {
    /// Takes the next lines and answers them; `None` at the end.
    async fn group(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        let lines = tokio::select! {
            lines = self.lines.next(GROUP) => lines,
            () = self.gateway.tasks.stopped() => Vec::new(),
        };
        // What was not answered was not taken.
        self.is_over = lines.is_empty() || !self.pace(lines.len()).await;
        if self.is_over {
            return None;
        }
        let depth = self.gateway.settings.limits.json_depth;
        let (mut places, mut devices) = (Vec::new(), Vec::new());
        let mut answers: Vec<(u64, Result<String, Problem>)> = Vec::with_capacity(lines.len());
        for Line { index, text } in lines {
            let device = text.and_then(|text| device(&text, depth));
            let id = device.map(|device| {
                places.push(answers.len());
                let id = device.id.clone();
                devices.push(device);
                id
            });
            answers.push((index, id));
        }
        let stored = audit::acting(self.actor.clone(), put(&self.gateway, self.app, devices)).await;
        for (place, refused) in places.into_iter().zip(stored) {
            if let Some(error) = refused {
                answers[place].1 = Err(error.into());
            }
        }
        let mut text = String::new();
        for (index, answer) in answers {
            let line = match answer {
                Ok(id) => json!({"index": index, "status": StatusCode::OK.as_u16(), "id": id}),
                Err(problem) => json!({"index": index, "status": problem.status.as_u16(), "error": problem}),
            };
            text.push_str(&line.to_string());
            text.push('\n');
        }
        (!text.is_empty()).then(|| text.into())
    }

    /// Waits until so many lines may be taken; `false` where the gateway stops before.
    async fn pace(&mut self, lines: usize) -> bool {
        while let Err(refused) = self.caller.take(&self.gateway.limits, Kind::Calls, lines as u32) {
            let wait = Duration::from_secs(refused.retry_after.unwrap_or(1));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.gateway.tasks.stopped() => return false,
            }
        }
        true
    }
}

/// Stores devices together; why each was not.
async fn put(gateway: &Gateway, app: i64, devices: Vec<DevicePut>) -> Vec<Option<StoreError>> {
    if devices.is_empty() {
        return Vec::new();
    }
    let now = gateway.clock.now_ms();
    match gateway.store.put_devices(app, devices.clone(), now).await {
        Ok(_) => vec![None; devices.len()],
        // One of them may be what the store cannot take: the others shall not suffer from it.
        Err(StoreError::Exists(_) | StoreError::Broken(_)) if devices.len() > 1 => {
            let mut refused = Vec::with_capacity(devices.len());
            for device in devices {
                refused.push(gateway.store.put_devices(app, vec![device], now).await.err());
            }
            refused
        }
        Err(error) => vec![Some(error); devices.len()],
    }
}

/// A line as a device: what `PUT /v1/devices/{id}` takes, and the id.
fn device(text: &[u8], depth: usize) -> Answer<DevicePut> {
    let mut value = json::parse(text, depth)?;
    let id = value.as_object_mut().and_then(|members| members.remove("id"));
    let wrong = match &id {
        // PUT /v1/devices/import would be another call.
        Some(Value::String(id)) if id == "import" => Some("must not be `import`".to_owned()),
        Some(Value::String(id)) => ID.wrong(id),
        Some(_) => Some("must be a string".to_owned()),
        None if value.is_object() => Some("is required".to_owned()),
        None => None,
    };
    if let Some(detail) = wrong {
        let pointer = "/id".to_owned();
        return Err(Problem::invalid(vec![FieldError { pointer, code: "invalid_field", detail }]));
    }
    read::put(id.as_ref().and_then(Value::as_str).unwrap_or_default(), value)
}
