//! The way of a message through the house: accept, expand, dispatch, record.
//!
//! - [`accept`]: a validated request becomes durable, and its small audience pages at once.
//! - [`ahead`]: what accepting has learned of addresses, for the page that comes a moment later.
//! - [`expand`]: a large audience becomes pages of up to 1000 targets per channel.
//! - [`desk`], [`dispatch`], [`sending`]: each channel's desk takes pages in turn; pages become vendor requests, vendor
//!   answers outcomes; [`judge`] says what an outcome does; [`gate`] and [`pace`] hold requests and pages to what their
//!   credential bears ([`crate::pacing`]); [`flight`] is what of a page is with its provider.
//! - [`record`]: outcomes become rows, counters, retries and next steps, many in one transaction.
//! - [`direct_page`] is the same for the gateway's own connections; [`onward`] says where targets go that a channel did
//!   not take.
//! - [`quota`] asks vendors' quotas before a page is sent.
//! - [`escalate`] decides again where a step has had its time; [`cancel`] stops what is not handed over yet.
//! - [`recall`] also takes it back from phones.
//! - [`collapse`] keeps an older message of a collapse key from going out after a newer one.
//! - [`late`]: what a channel had accepted and failed later goes back on its route.
//! - [`asking`]: vendors that can be asked what became of a message are asked, later.
//! - [`dry_run`] decides and builds as all these do, and sends nothing.
//! - [`brake`] keeps a vendor's hiccup from erasing addresses.
//! - [`expire`]: what phones have not taken by the deadline ends.
//! - [`expression`]: sets of devices.
//! - [`page`], [`spec`], [`state`], [`trail`]: the words that these share, and how they are stored.
//!
//! Nothing here knows a vendor's name, and nothing here waits for one thing per delivery.

mod accept;
mod ahead;
mod aside;
mod asking;
mod brake;
mod cancel;
mod collapse;
mod desk;
mod direct_page;
mod dispatch;
mod dry_run;
mod escalate;
mod expand;
mod expire;
pub mod expression;
mod flight;
mod gate;
mod job;
mod judge;
mod late;
mod left;
mod onward;
mod pace;
pub mod page;
mod pipeline;
mod plan;
mod quota;
mod recall;
mod record;
mod request;
mod sending;
pub mod spec;
mod standing;
pub mod state;
mod targets;
#[cfg(test)]
mod tests;
pub mod trail;

pub use accept::{AcceptError, Accepted, SendRequest};
pub use dry_run::{DryChannel, DryRun, DryTarget, Fan, Who};
pub use judge::judge_address;
pub use pipeline::{Parts, Pipeline};
pub use quota::QuotaSeen;
pub use recall::Recalled;
