//! The integration tests: what a user would do, from outside. One binary, one link; `hygiene::` also tests that
//! every file of this folder is in the list below.

mod contract;
mod crash;
mod demo;
mod hygiene;
mod sending;
mod trouble;
mod world;
