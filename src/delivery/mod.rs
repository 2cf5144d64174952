//! The way of a message through the house: accept, expand, dispatch, record.
//!
//! - [`accept`]: a validated request becomes durable, and its small audience pages at once.
//! - [`expand`]: a large audience becomes pages of up to 1000 targets per channel.
//! - [`dispatch`]: pages become vendor requests, vendor answers outcomes.
//! - [`record`]: outcomes become rows, counters, retries and next steps, all in one transaction.
//! - [`page`], [`spec`], [`state`], [`trail`]: the words that these four share, and how they are stored.
//!
//! Nothing here knows a vendor's name, and nothing here waits for one thing per delivery.

pub mod page;
pub mod spec;
pub mod state;
pub mod trail;

mod accept;

pub use accept::{AcceptError, Accepted, SendRequest};

/// The way of a message: hands requests to accept, and keeps expand, dispatch and record running. Cloning shares it.
#[derive(Clone)]
pub struct Pipeline {
    inner: std::sync::Arc<Inner>,
}

struct Inner {}
