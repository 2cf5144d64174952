//! anypush: one call reaches any phone.
//!
//! The way of a message is the way through the folders: [`api`] → [`delivery`] (accept, expand, dispatch, record) →
//! a provider, with [`routing`] deciding and [`store`] remembering; phones come in through [`direct`], vendors' callbacks
//! through [`receipts`].
//! `docs/architecture.md` has the picture.

pub mod api;
pub mod app;
pub mod audit;
pub mod bulk;
pub mod channels;
pub mod cli;
pub mod clock;
pub mod delivery;
pub mod demo;
pub mod direct;
mod egress;
pub mod events;
mod failpoint;
pub mod ids;
pub mod pacing;
pub mod quotas;
pub mod receipts;
pub mod retention;
pub mod routing;
pub mod rules;
pub mod secrets;
pub mod settings;
pub mod store;
pub mod tasks;
pub mod telemetry;
pub mod webhooks;
