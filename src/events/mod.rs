//! Events: what an app's backends are told of without asking, by webhook or live.
//!
//! What comes in: facts, written by the store in the same transaction as the rows that they tell of ([`Fact`]), and only
//! for apps that somebody listens to. What goes out: the event as users see it ([`Teller`]), the same object in a webhook
//! and in a stream. It must never keep the way of a message waiting: a fact is a few bytes in a row that a whole group
//! shares, and everything readable is made of it later, when it is told.

mod fact;
mod kind;
mod tell;

pub use fact::{Fact, decode, encode};
pub use kind::EventKind;
pub use tell::{Event, Teller};
