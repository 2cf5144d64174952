//! The vendors and the phones, played on this machine.
//!
//! A sandbox is one HTTP server (HTTP/1.1 and h2c on one port, TLS too when a certificate is given) that answers
//! as the vendors do: same paths, same authentication, same limits, same error shapes. How it treats a token is
//! chosen by a table of rules ([`rules`]); what reached it is counted in a ledger ([`ledger`]); and it plays the
//! handsets at the far end ([`phones`]). It is written from the vendors' contracts alone and shares no type with
//! the adapters, so that a misreading on one side shows on the other.
//!
//! What comes in: vendor requests and the control API under `/_sandbox`. What goes out: vendor answers, and the
//! requests that played phones make to a gateway. It must never reach a real vendor.

pub mod control;
pub mod fcm;
pub mod ledger;
pub mod phones;
pub mod rules;
mod samples;
mod server;
mod state;
pub mod switches;

pub use phones::{PhoneChange, PhoneError, PhoneView, Phones};
pub use server::{Options, Running, Tls, start};
