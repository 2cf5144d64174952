//! A validated request becomes durable.
//!
//! A small audience is expanded here, in the message's own transaction, and its pages are handed to their desks in
//! memory: a lone message costs one commit before it is on its way. A larger one leaves an expand item.

use std::sync::Arc;

use crate::delivery::desk::Handed;
use crate::delivery::expand;
use crate::delivery::job::Job;
use crate::delivery::pipeline::{Inner, Pipeline};
use crate::delivery::spec::{Audience, Spec};
use crate::failpoint::failpoint;
use crate::ids::Id;
use crate::store::{
    AcceptAnswer, Changes, MessageRecord, NewMessage, NewWork, StoreError, WorkKind, WorkLane,
};

/// What a backend asked for, validated.
#[derive(Debug, Clone)]
pub struct SendRequest {
    /// Its app.
    pub app: i64,
    /// What to send and how.
    pub spec: Spec,
    /// To whom.
    pub audience: Audience,
    /// Report dimension.
    pub label: Option<String>,
    /// Hashes of the Idempotency-Key and of the body.
    pub idempotency: Option<([u8; 32], [u8; 32])>,
}

/// A message that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Its id.
    pub id: Id,
    /// Unix milliseconds.
    pub created_at: u64,
    /// It waits for its time, or did when it was accepted.
    pub scheduled: bool,
    /// It was stored by an earlier call with the same key.
    pub replayed: bool,
}

/// Why a message was not accepted; nothing is stored then.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The Idempotency-Key was used with another body.
    #[error("this Idempotency-Key was used with another body")]
    KeyReused,
    /// The message cannot be written down; never by the caller's fault.
    #[error("the message cannot be written down: {0}")]
    Unwritable(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Targets that a call may have to be expanded in its own transaction.
const SMALL: usize = 100;

impl Pipeline {
    /// Stores a message and starts it. When this returns, it survives the loss of power.
    pub async fn accept(&self, mut request: SendRequest) -> Result<Accepted, AcceptError> {
        let inner = &self.inner;
        request.spec.to_users = matches!(request.audience, Audience::Users(_));
        let SendRequest { app, spec, audience, label, idempotency } = request;
        let job = draft(inner, app, spec, label)?;
        let (send_at, scheduled) = (job.spec.send_at, job.record.send_at.is_some());
        let MessageRecord { id, created_at, .. } = job.record;
        // Whom a scheduled message is for is looked up at its time.
        let expanded_here = is_small(&audience) && !scheduled;
        let (mut changes, ahead) = if expanded_here {
            let step = expand::step(inner, &job, audience).await?;
            (step.changes, step.ahead.map(Arc::new))
        } else {
            (Changes { work: vec![expansion(inner, &job, &audience)?], ..Changes::default() }, None)
        };
        let handed = inner.lease_at_once(&mut changes.work);
        let work = changes.work.clone();
        let message = NewMessage {
            id,
            app: job.record.app,
            class: job.record.class,
            spec: job.record.spec.clone(),
            label: job.record.label.clone(),
            collapse: job.collapse,
            created_at,
            deadline_at: job.record.deadline_at,
            send_at: job.record.send_at,
            idempotency,
        };
        failpoint!("accept.before_begin");
        let answer = inner.parts.store.accept(message, changes).await;
        failpoint!("accept.before_answer");
        if !matches!(answer, Ok(AcceptAnswer::Stored)) {
            for (desk, item) in &handed {
                desk.release(item);
            }
        }
        match answer? {
            AcceptAnswer::Stored => {
                // Pages that wait in the store are read with their message, later: here it would push out what is on its way.
                if !handed.is_empty() || !(expanded_here || scheduled) {
                    inner.keep(job);
                }
                for (desk, item) in handed {
                    desk.hand_over(Handed { item, ahead: ahead.clone() });
                }
                inner.announce(&work);
                inner.parts.metrics.messages_accepted.inc();
                Ok(Accepted { id, created_at, scheduled, replayed: false })
            }
            AcceptAnswer::Replayed { id, created_at } => {
                let scheduled = send_at.is_some_and(|at| at > created_at);
                Ok(Accepted { id, created_at, scheduled, replayed: true })
            }
            AcceptAnswer::KeyReused => Err(AcceptError::KeyReused),
        }
    }
}

/// The message of a request as it will be stored.
pub(super) fn draft(inner: &Inner, app: i64, spec: Spec, label: Option<String>) -> Result<Job, AcceptError> {
    let created_at = inner.now_ms();
    // A time that has come is now.
    let send_at = spec.send_at.filter(|at| *at > created_at);
    let record = MessageRecord {
        id: inner.next_id(),
        app,
        state: u8::from(send_at.is_some()),
        class: spec.content.class,
        spec: serde_json::to_string(&spec).map_err(|error| AcceptError::Unwritable(error.to_string()))?,
        label,
        created_at,
        deadline_at: send_at.unwrap_or(created_at) + u64::from(spec.ttl_seconds) * 1000,
        send_at,
        expanded_at: None,
        targeted: 0,
        generation: 0,
    };
    Ok(Job::new(record, spec, &inner.parts.codec))
}

fn is_small(audience: &Audience) -> bool {
    match audience {
        Audience::Devices(ids) => ids.len() <= SMALL,
        Audience::Addresses(addresses) => addresses.len() <= SMALL,
        // A user may have any number of devices.
        Audience::Users(_) | Audience::Matching { .. } => false,
    }
}

fn expansion(inner: &Inner, job: &Job, audience: &Audience) -> Result<NewWork, AcceptError> {
    let payload = serde_json::to_vec(audience).map_err(|error| AcceptError::Unwritable(error.to_string()))?;
    Ok(NewWork {
        id: inner.next_id(),
        kind: WorkKind::Expand,
        channel: 0,
        lane: WorkLane::Transactional,
        app: job.record.app,
        message: job.id,
        due_at: job.record.send_at.unwrap_or(job.record.created_at),
        attempt: 0,
        leased: None,
        payload,
    })
}
