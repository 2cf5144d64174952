//! The integration tests: what a user would do, from outside. One binary, one link; `hygiene::` also tests that
//! every file of this folder is in the list below.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must stop")]

mod bad_input;
mod contract;
mod demo;
mod disk;
mod hygiene;
mod secrets;
mod sending;
mod slow;
mod trouble;
mod world;
