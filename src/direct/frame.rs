//! The JSON frames of `anypush.v1`. Unknown members, and frames of which nothing is known, are ignored: phones of
//! tomorrow talk to gateways of today.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::auth::Phone;
use super::cursor::{self, BadCursor};
use super::session::Session;
use super::tuning::Heartbeat;
use crate::delivery::state::State;
use crate::ids::{Id, IdCodec, Kind};
use crate::store::PhoneEvent;

/// The heartbeat, both ways.
pub(super) const HEARTBEAT: &str = "{}";
/// Ids that one frame may acknowledge.
const MOST_ACKS: usize = 1000;

/// What a phone may say.
#[derive(Debug, Default, Deserialize)]
struct Heard<'a> {
    ack: Option<String>,
    acks: Option<Vec<String>>,
    #[serde(borrow)]
    receipt: Option<&'a RawValue>,
    #[serde(borrow)]
    heartbeat: Option<&'a RawValue>,
}

/// A phone says how it beats.
#[derive(Debug, Deserialize)]
struct Beats {
    #[serde(default)]
    variable: bool,
}

/// A report about a message.
#[derive(Debug, Deserialize)]
struct Receipt {
    message_id: String,
    event: String,
}

/// What a frame asks for beyond what the session has taken from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    /// Nothing.
    Nothing,
    /// A heartbeat to be answered at once.
    Answer,
    /// It finds out its own interval: more silence is allowed.
    Patience,
}

/// Why the connection must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// Not an object, or a known member of the wrong type.
    #[error("frames are JSON objects")]
    NotJson,
    /// Acknowledges what is no cursor of this device.
    #[error(transparent)]
    Cursor(#[from] BadCursor),
}

/// Takes a frame from the phone.
pub(super) fn take(
    session: &mut Session,
    codec: &IdCodec,
    phone: &Phone,
    text: &str,
) -> Result<Asks, Refused> {
    if text.bytes().filter(|b| !b.is_ascii_whitespace()).eq(HEARTBEAT.bytes()) {
        return Ok(Asks::Answer);
    }
    let heard: Heard<'_> = serde_json::from_str(text).map_err(|_| Refused::NotJson)?;
    // A cursor of an older epoch acknowledges nothing.
    if let Some(text) = heard.ack
        && let Some(pos) = cursor::decode(phone.device, phone.epoch, &text)?
    {
        session.ack_up_to(pos);
    }
    for id in heard.acks.unwrap_or_default().iter().take(MOST_ACKS) {
        if let Some(id) = codec.decode(Kind::Message, id) {
            session.ack(id);
        }
    }
    if let Some(raw) = heard.receipt
        && let Ok(receipt) = serde_json::from_str::<Receipt>(raw.get())
        && let Some(event) = event(codec, &receipt.message_id, &receipt.event)
    {
        session.report(event);
    }
    let beats = heard.heartbeat.and_then(|raw| serde_json::from_str::<Beats>(raw.get()).ok());
    Ok(if beats.is_some_and(|b| b.variable) { Asks::Patience } else { Asks::Nothing })
}

/// A report, where message and event are known.
pub(super) fn event(codec: &IdCodec, message: &str, event: &str) -> Option<PhoneEvent> {
    let message = codec.decode(Kind::Message, message)?;
    let state = match event {
        "delivered" => Some(State::Delivered),
        "displayed" => Some(State::Displayed),
        "clicked" => Some(State::Clicked),
        _ => None,
    };
    // Dismissed is an event without a state.
    (state.is_some() || event == "dismissed").then_some(PhoneEvent { message, state })
}

/// What a phone is told first, as a JSON object. The cursor is where it begins.
pub(super) fn hello(phone: &Phone, pos: i64, heartbeat: Heartbeat, node: u8) -> String {
    #[derive(Serialize)]
    struct Hello {
        cursor: String,
        heartbeat: Heartbeat,
        server: String,
        resume: bool,
    }
    let cursor = cursor::encode(phone.device, phone.epoch, pos);
    let hello = Hello { cursor, heartbeat, server: format!("n{node}"), resume: true };
    serde_json::to_string(&hello).unwrap_or_default()
}

/// A message.
pub(super) fn msg(message: &str) -> String {
    format!(r#"{{"msg":{message}}}"#)
}

/// Which message to take off the screen, as a JSON object.
pub(super) fn recall(codec: &IdCodec, message: Id) -> String {
    format!(r#"{{"id":"{}"}}"#, codec.encode(Kind::Message, message))
}

/// The last frame: why, and when to come again.
pub(super) fn bye(reason: &str, retry_ms: Option<u64>) -> String {
    match retry_ms {
        Some(retry_ms) => format!(r#"{{"bye":{{"reason":"{reason}","retry_ms":{retry_ms}}}}}"#),
        None => format!(r#"{{"bye":{{"reason":"{reason}"}}}}"#),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str) -> (Result<Asks, Refused>, usize) {
        let (codec, phone) = (IdCodec::new(&[1; 32]), Phone::default());
        let mut session = Session::new(1, 0);
        let asks = take(&mut session, &codec, &phone, text);
        (asks, session.take_due().len())
    }

    #[test]
    fn a_heartbeat_is_answered_and_the_unknown_ignored() {
        assert_eq!(taken("{}"), (Ok(Asks::Answer), 0));
        assert_eq!(taken(" { } "), (Ok(Asks::Answer), 0));
        assert_eq!(taken(r#"{"tomorrow": {"x": 1}, "net": null}"#), (Ok(Asks::Nothing), 0));
        assert_eq!(taken(r#"{"acks": ["msg_forged"], "receipt": {"new": 1}}"#), (Ok(Asks::Nothing), 0));
        assert_eq!(
            taken(r#"{"receipt": {"message_id": "msg_x", "event": "hugged"}}"#),
            (Ok(Asks::Nothing), 0)
        );
        assert_eq!(taken(r#"{"heartbeat": {"variable": true}}"#), (Ok(Asks::Patience), 0));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for text in ["", "[]", "1", "{", r#"{"ack": 7}"#, "null", "\"{}\""] {
            assert_eq!(taken(text).0, Err(Refused::NotJson), "{text}");
        }
        assert_eq!(taken(r#"{"ack": "AAAA"}"#).0, Err(Refused::Cursor(BadCursor)));
    }

    #[test]
    fn acknowledgements_and_reports_reach_the_session() {
        let codec = IdCodec::new(&[1; 32]);
        let id = codec.encode(Kind::Message, Id(1 << 40));
        assert_eq!(taken(&format!(r#"{{"ack": "{}"}}"#, cursor::encode(0, 0, 5))).1, 1);
        assert_eq!(taken(&format!(r#"{{"ack": "{}"}}"#, cursor::encode(0, 9, 5))).1, 0, "an older epoch");
        assert_eq!(taken(&format!(r#"{{"acks": ["{id}"]}}"#)).1, 1);
        let receipt = format!(r#"{{"receipt": {{"message_id": "{id}", "event": "clicked", "at": "x"}}}}"#);
        assert_eq!(taken(&receipt).1, 1);
    }
}
