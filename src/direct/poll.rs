//! `GET /v1/device/messages`: the phone comes by and asks, or asks and waits.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::Deserialize;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use anypush_providers::contract::Class;

use super::ask::{self, fresh};
use super::auth::{self, Caller, Phone};
use super::bell::Signal;
use super::session::Load;
use super::tuning::{Heartbeat, next_poll_seconds};
use super::{cursor, quiet};
use crate::api::problem::{Answer, Problem};
use crate::app::Gateway;
use crate::store::{Ack, InboxEntry};

/// Sixty seconds is the common limit of proxies.
const LONGEST_WAIT: u64 = 55;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    after: Option<String>,
    #[serde(default)]
    wait_seconds: u64,
    #[serde(default = "twenty")]
    limit: usize,
    /// Read by [`Caller`].
    #[serde(rename = "ticket")]
    _ticket: Option<String>,
}

fn twenty() -> usize {
    20
}

#[derive(Serialize)]
struct Inbox {
    messages: Vec<Box<RawValue>>,
    cursor: String,
    more: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    superseded: bool,
    next_poll_seconds: u64,
    heartbeat: Heartbeat,
}

/// A poll under way.
struct Poll<'a> {
    gateway: &'a Gateway,
    phone: &'a Phone,
    after: Option<i64>,
    limit: usize,
}

/// How a poll that waited ends.
enum Waited {
    Messages(Vec<InboxEntry>),
    Nothing,
    Superseded,
}

/// Answers what is pending; acknowledges what was handed out before.
pub(super) async fn messages(
    State(gateway): State<Arc<Gateway>>,
    Caller(phone): Caller,
    uri: Uri,
) -> Answer<Response> {
    let asked: Asked = ask::parameters(&uri)?;
    if asked.wait_seconds > LONGEST_WAIT {
        return Err(ask::refused(
            "invalid_parameter",
            "`wait_seconds` is 0 to 55: proxies cut what takes longer",
        ));
    }
    if !(1..=100).contains(&asked.limit) {
        return Err(ask::refused("invalid_parameter", "`limit` is 1 to 100"));
    }
    let after = match &asked.after {
        Some(text) => ask::cursor(&phone, text)?,
        None => None,
    };
    let poll = Poll { gateway: &gateway, phone: &phone, after, limit: asked.limit };
    let waited = if asked.wait_seconds == 0 {
        poll.acknowledge().await?;
        poll.look().await?.map_or(Waited::Nothing, Waited::Messages)
    } else {
        poll.wait(Duration::from_secs(asked.wait_seconds)).await?
    };
    poll.answer(waited).await
}

impl Poll<'_> {
    /// Ends what was handed out up to the cursor. Where the inbox is known to be empty there is nothing to end.
    async fn acknowledge(&self) -> Answer<()> {
        let now_ms = self.gateway.clock.now_ms();
        if let Some(pos) = self.after
            && self.gateway.hub.quiet().look(self.phone.device, now_ms).is_some()
        {
            self.gateway.store.acknowledge(self.phone.device, Ack::UpTo(pos), now_ms).await?;
        }
        Ok(())
    }

    /// What is pending, from the beginning: a position may become visible after a larger one.
    async fn look(&self) -> Answer<Option<Vec<InboxEntry>>> {
        let load = Load { after: 0, limit: self.limit };
        let entries = quiet::pending(self.gateway, self.phone.device, load).await?;
        Ok((!entries.is_empty()).then_some(entries))
    }

    /// The same, waiting until there is something. The seat is what the hub wakes and what makes an older poll or
    /// socket of this device end; it is given up when the phone hangs up, because then this is dropped.
    async fn wait(&self, longest: Duration) -> Answer<Waited> {
        let until = Instant::now() + longest;
        let seat = self.gateway.hub.sit(self.phone.device);
        if !self.gateway.hub.auth().is_current(self.phone) {
            return Err(auth::wrong());
        }
        self.acknowledge().await?;
        loop {
            match seat.told() {
                Signal::Superseded => return Ok(Waited::Superseded),
                Signal::Revoked => return Err(auth::wrong()),
                Signal::Inbox => {}
            }
            if let Some(entries) = self.look().await? {
                return Ok(Waited::Messages(entries));
            }
            tokio::select! {
                biased;
                () = self.gateway.tasks.stopped() => return Ok(Waited::Nothing),
                changed = timeout_at(until, seat.called()) => {
                    if changed.is_err() {
                        return Ok(Waited::Nothing);
                    }
                }
            }
        }
    }

    async fn answer(&self, waited: Waited) -> Answer<Response> {
        let (gateway, phone) = (self.gateway, self.phone);
        let (entries, superseded) = match waited {
            Waited::Messages(entries) => (entries, false),
            Waited::Nothing => (Vec::new(), false),
            Waited::Superseded => (Vec::new(), true),
        };
        let last = entries.last().map(|entry| entry.pos);
        let pos = last.or(self.after).unwrap_or_default();
        let more = entries.len() == self.limit;
        let urgent = entries.iter().any(|entry| entry.class == Class::Transactional);
        let mut messages = Vec::with_capacity(entries.len());
        for entry in &entries {
            let message = gateway.hub.bodies().message(&gateway.codec, phone, entry).await;
            messages.push(RawValue::from_string(message).map_err(|_| Problem::internal())?);
        }
        Ok(fresh(Inbox {
            messages,
            cursor: cursor::encode(phone.device, phone.epoch, pos),
            more,
            superseded,
            next_poll_seconds: next_poll_seconds(&gateway.settings, more, urgent),
            heartbeat: Heartbeat::of(&gateway.settings),
        }))
    }
}
