//! The integration tests: what a user would do, from outside. One binary, one link; `hygiene::` also tests that
//! every file of this folder is in the list below.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must stop")]

mod api_apps;
mod api_audit;
mod api_batch;
mod api_categories;
mod api_channels;
mod api_devices;
mod api_events;
mod api_import;
mod api_messages;
mod api_phones;
mod api_reports;
mod api_routes;
mod api_users;
mod api_webhooks;
mod apply;
mod asking;
mod audiences;
mod backends;
mod bad_input;
mod command_line;
mod contract;
mod demo;
mod disk;
mod doors;
mod dry_run;
mod egress;
mod examples;
mod floods;
mod hygiene;
mod injection;
mod isolation;
mod keys;
mod ledger;
mod limits;
mod phone_stream;
mod quotas;
mod races;
mod recall;
mod receipts;
mod register;
mod rotation;
mod scheduled;
mod secrets;
mod sending;
mod slow;
mod steps;
mod trouble;
mod two_apps;
mod vendor_classes;
mod world;
