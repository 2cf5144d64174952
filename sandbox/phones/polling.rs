//! Long polling: `GET /v1/device/messages`. The next request acknowledges what the last one brought.

use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::Phones;
use super::direct::{End, Line, Message, report};

/// How long the gateway may hold a poll.
const WAIT_SECONDS: &str = "25";
/// An empty answer that came sooner than this was not held; asking again at once would spin.
const NOT_HELD: Duration = Duration::from_millis(500);

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    messages: Vec<Message>,
    #[serde(default)]
    cursor: Option<String>,
    #[serde(default)]
    superseded: bool,
}

/// Polls until something goes wrong.
pub(super) async fn run(phones: &Phones, id: &str, line: &Line, stop: &CancellationToken) -> End {
    let mut worked = false;
    loop {
        let asked_at = Instant::now();
        let answer = match poll(phones, id, line, stop).await {
            Ok(answer) => answer,
            Err(End::Failed(why)) if worked => return End::Worked { why, wait_ms: 0 },
            Err(end) => return end,
        };
        worked = true;
        phones.note(id, stop, true, None);
        let empty = answer.messages.is_empty();
        let last = answer.messages.last().and_then(|message| message.cursor.clone());
        for message in answer.messages {
            let message_id = message.id.clone();
            let new = phones.receive(id, message);
            if new
                && line.reports_displayed
                && let Err(error) = report(phones.http(), line, &message_id, "displayed").await
            {
                tracing::debug!(error, "a phone's receipt was not taken");
            }
        }
        if let Some(cursor) = answer.cursor.or(last) {
            phones.set_cursor(id, stop, Some(cursor));
        }
        if answer.superseded {
            return End::Worked { why: "another poll of this phone came later".to_owned(), wait_ms: 1000 };
        }
        if empty && asked_at.elapsed() < NOT_HELD {
            tokio::time::sleep(NOT_HELD).await;
        }
    }
}

async fn poll(phones: &Phones, id: &str, line: &Line, stop: &CancellationToken) -> Result<Answer, End> {
    let gateway = line.gateway.as_deref().unwrap_or_default();
    let mut query = vec![("wait_seconds", WAIT_SECONDS.to_owned())];
    query.extend(phones.cursor(id).map(|cursor| ("after", cursor)));
    let answer = phones
        .http()
        .get(format!("{gateway}/v1/device/messages"))
        .bearer_auth(line.secret.as_deref().unwrap_or_default())
        .query(&query)
        .send()
        .await
        .map_err(|error| End::Failed(error.to_string()))?;
    let status = answer.status();
    if status == http::StatusCode::BAD_REQUEST {
        // A cursor that the gateway does not know any more; asking with it again would never end.
        phones.set_cursor(id, stop, None);
    }
    if !status.is_success() {
        return Err(End::Failed(format!("the gateway answered {status}")));
    }
    answer.json().await.map_err(|error| End::Failed(format!("the gateway's answer cannot be read: {error}")))
}
