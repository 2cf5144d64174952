//! A running sandbox, as a client sees it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod ledger;
mod oauth;
mod rules;
mod serving;
mod validation;
mod world;
