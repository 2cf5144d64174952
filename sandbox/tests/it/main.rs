//! A running sandbox, as a client sees it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod apns;
mod fixtures;
mod gateway;
mod hearing;
mod huawei;
mod ledger;
mod oauth;
mod phones;
mod rules;
mod serving;
mod sms_twilio;
mod validation;
mod world;
mod xiaomi;
