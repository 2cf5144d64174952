//! A running sandbox, as a client sees it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod fixtures;
mod gateway;
mod ledger;
mod oauth;
mod phones;
mod rules;
mod serving;
mod validation;
mod world;
