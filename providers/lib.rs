//! Every vendor that anypush can send through, behind one trait.
//!
//! - [`contract`]: what a provider is: descriptor, capabilities, batch, outcome.
//! - [`kit`]: what adapters share: HTTP clients, the HTTP/2 pool, token cache, truncation.
//! - one folder per vendor, named by its id, and one line in the list below.
//!
//! This package knows nothing of the gateway: no store, no queue, no retry. It turns targets of one content
//! into vendor requests and vendor answers into outcomes.

pub mod contract;
pub mod kit;

/// Turns each name into its module and its place in [`catalogue`]. Order is the alphabet.
///
/// `cargo fmt` does not see modules that a macro declares; `scripts/test` formats by `git ls-files`.
macro_rules! providers {
    ($($name:ident),* $(,)?) => {
        $(pub mod $name;)*

        /// All providers that this build contains, in alphabetical order of id.
        pub fn catalogue() -> &'static [&'static contract::Registration] {
            const ALL: &[&contract::Registration] = &[$(&$name::PROVIDER),*];
            ALL
        }
    };
}

providers! {
    apns,
    fcm,
    huawei,
    sms_twilio,
    xiaomi,
}

/// Finds a provider by id.
pub fn find(id: &str) -> Option<&'static contract::Registration> {
    catalogue().iter().copied().find(|registration| registration.descriptor.id == id)
}
