//! The vendors and the phones, played on this machine.
//!
//! A sandbox is one HTTP server (HTTP/1.1, h2c and TLS on one port) that answers
//! as the vendors do: same paths, same authentication, same limits, same error shapes. How it treats a token is
//! chosen by a table of rules ([`rules`]); what reached it is counted in a ledger ([`ledger`]); it plays the
//! handsets at the far end ([`phones`]), and reports to the gateway as vendors do (`callbacks`). A vendor is one folder
//! and one line below (`twin`). It is written from the vendors' contracts alone and shares no type with
//! the adapters, so that a misreading on one side shows on the other.
//!
//! What comes in: vendor requests and the control API under `/_sandbox`. What goes out: vendor answers, and the
//! requests that played phones make to a gateway. It must never reach a real vendor.

mod callbacks;
mod connection;
mod control;
mod help;
mod keys;
pub mod ledger;
mod minutes;
pub mod phones;
mod recording;
pub mod rules;
mod samples;
mod server;
mod state;
pub mod switches;
mod tls;
mod twin;
mod wire;

pub use phones::{PhoneChange, PhoneError, PhoneView, Phones};
pub use server::{Options, Running, Tls, start};

/// Turns each name into its module and its place in the list of twins. Order is the alphabet.
///
/// `cargo fmt` does not see modules that a macro declares; `scripts/test` formats by `git ls-files`.
macro_rules! twins {
    ($($name:ident),* $(,)?) => {
        $(mod $name;)*

        /// All vendors that are played, in alphabetical order of id.
        pub(crate) fn registrations() -> &'static [&'static twin::Registration] {
            const ALL: &[&twin::Registration] = &[$(&$name::TWIN),*];
            ALL
        }
    };
}

twins! {
    apns,
    fcm,
    huawei,
    sms_twilio,
    xiaomi,
}

/// Finds a twin's entry by the provider's id.
pub(crate) fn find(id: &str) -> Option<&'static twin::Registration> {
    registrations().iter().copied().find(|twin| twin.id == id)
}

/// The ids of all vendors that are played.
pub fn played() -> impl Iterator<Item = &'static str> {
    registrations().iter().map(|twin| twin.id)
}
