//! The WebSocket: `GET /v1/device/socket`, subprotocol `anypush.v1`, JSON texts. Unknown members are ignored.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http::HeaderValue;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message as Frame};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

use super::Phones;
use super::direct::{End, Line, Message};
use crate::state::{now_ms, rfc3339};

/// The heartbeat before the gateway has advised one.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(270);
/// How long an answer to a heartbeat may take.
const GRACE: Duration = Duration::from_secs(30);
/// The close code of a device secret that was revoked.
const REVOKED: u16 = 4003;
/// The close code of a connection that a newer one of the same device replaces.
const SUPERSEDED: u16 = 4001;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// One text of the gateway.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Text {
    hello: Option<Hello>,
    msg: Option<Message>,
    recall: Option<Recall>,
    heartbeat: Option<Heartbeat>,
    bye: Option<Bye>,
}

#[derive(Deserialize)]
struct Hello {
    #[serde(default)]
    heartbeat: Option<Heartbeat>,
}

#[derive(Deserialize)]
struct Recall {
    id: String,
}

#[derive(Deserialize)]
struct Heartbeat {
    interval: u64,
}

#[derive(Deserialize)]
struct Bye {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    retry_ms: u64,
}

/// Connects and stays until the connection ends.
pub(super) async fn run(phones: &Phones, id: &str, line: &Line, stop: &CancellationToken) -> End {
    let mut socket = match connect(line).await {
        Ok(socket) => socket,
        Err(end) => return end,
    };
    let cursor = phones.cursor(id);
    if let Some(cursor) = cursor
        && let Err(error) = say(&mut socket, &json!({"resume": cursor})).await
    {
        return End::Failed(error);
    }
    let mut heartbeat = DEFAULT_HEARTBEAT;
    let mut asked = false;
    let mut bye = None;
    loop {
        let quiet = if asked { GRACE } else { heartbeat };
        let frame = match tokio::time::timeout(quiet, socket.next()).await {
            Ok(frame) => frame,
            Err(_) if asked => return worked("the gateway did not answer a heartbeat", None),
            Err(_) => {
                asked = true;
                match say(&mut socket, &json!({})).await {
                    Ok(()) => continue,
                    Err(error) => return worked(&error, bye),
                }
            }
        };
        asked = false;
        let text = match frame {
            Some(Ok(Frame::Text(text))) => text,
            Some(Ok(Frame::Close(close))) => {
                let code = close.as_ref().map_or(1005, |close| u16::from(close.code));
                let why = format!("closed by the gateway with {code}");
                return match code {
                    REVOKED => End::Revoked(why),
                    // Coming back at once would only end the newer connection in turn.
                    SUPERSEDED => End::Worked { why, wait_ms: 5000 },
                    _ => worked(&why, bye),
                };
            }
            Some(Ok(_)) => continue,
            Some(Err(error)) => return worked(&error.to_string(), bye),
            None => return worked("the connection ended", bye),
        };
        let text: Text = serde_json::from_str(&text).unwrap_or_default();
        if let Some(hello) = text.hello {
            phones.note(id, stop, true, None);
            heartbeat = interval(hello.heartbeat, heartbeat);
        }
        heartbeat = interval(text.heartbeat, heartbeat);
        if let Some(said) = text.bye {
            bye = Some(said);
        }
        if let Some(recall) = text.recall {
            phones.take_off(id, &recall.id);
        }
        if let Some(message) = text.msg
            && let Err(error) = take(&mut socket, phones, id, line, stop, message).await
        {
            return worked(&error, bye);
        }
    }
}

async fn connect(line: &Line) -> Result<Socket, End> {
    let gateway = line.gateway.as_deref().unwrap_or_default();
    // `http` becomes `ws`, `https` becomes `wss`.
    let url = format!("{}/v1/device/socket", gateway.replacen("http", "ws", 1));
    let failed = |error: tungstenite::Error| match error {
        tungstenite::Error::Http(answer) => End::Failed(format!("the gateway answered {}", answer.status())),
        error => End::Failed(error.to_string()),
    };
    let mut request = url.into_client_request().map_err(failed)?;
    let bearer = format!("Bearer {}", line.secret.as_deref().unwrap_or_default());
    let bearer =
        HeaderValue::from_str(&bearer).map_err(|_| End::Failed("the secret is no header".to_owned()))?;
    request.headers_mut().insert(AUTHORIZATION, bearer);
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("anypush.v1"));
    // A phone that is idle most of the time needs no 128 KiB to read into.
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .write_buffer_size(0)
        .max_write_buffer_size(65_536)
        .max_message_size(Some(1 << 20));
    let connecting = tokio_tungstenite::connect_async_with_config(request, Some(config), true);
    match tokio::time::timeout(Duration::from_secs(10), connecting).await {
        Ok(connected) => connected.map(|(socket, _)| socket).map_err(failed),
        Err(_) => Err(End::Failed("the gateway did not answer within 10 s".to_owned())),
    }
}

/// Shows a message, reports it, acknowledges it: in this order, so that a phone that dies between shows it again.
async fn take(
    socket: &mut Socket,
    phones: &Phones,
    id: &str,
    line: &Line,
    stop: &CancellationToken,
    message: Message,
) -> Result<(), String> {
    let (message_id, cursor) = (message.id.clone(), message.cursor.clone());
    if phones.receive(id, message) && line.reports_displayed {
        let receipt = json!({"message_id": message_id, "event": "displayed", "at": rfc3339(now_ms())});
        say(socket, &json!({"receipt": receipt})).await?;
    }
    if let Some(cursor) = cursor {
        say(socket, &json!({"ack": cursor})).await?;
        phones.set_cursor(id, stop, Some(cursor));
    }
    Ok(())
}

async fn say(socket: &mut Socket, text: &Value) -> Result<(), String> {
    socket.send(Frame::text(text.to_string())).await.map_err(|error| error.to_string())
}

fn interval(advice: Option<Heartbeat>, before: Duration) -> Duration {
    advice.map_or(before, |advice| Duration::from_secs(advice.interval.clamp(1, 3600)))
}

fn worked(why: &str, bye: Option<Bye>) -> End {
    match bye {
        Some(bye) => {
            End::Worked { why: format!("{why} ({})", bye.reason), wait_ms: bye.retry_ms.min(60_000) }
        }
        None => End::Worked { why: why.to_owned(), wait_ms: 0 },
    }
}
