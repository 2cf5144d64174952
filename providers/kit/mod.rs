//! What adapters share, so that a folder per vendor holds only what is that vendor's.
//!
//! - [`h2`]: an HTTP/2 pool with a stream budget, for vendors that take one token a request.
//! - [`egress`]: the one guard of where the gateway calls. Both clients below have it.
//! - [`http`]: the one place that builds a `reqwest::Client`, for token endpoints and batch vendors.
//! - [`token`]: a cached access token with one refresh at a time.
//! - [`bearer`]: what such a token is in a header. [`sign`]: JSON Web Tokens, names of credentials.
//! - [`group`]: cuts a batch into requests of many targets. [`merge`]: lays overrides over a payload.
//! - [`sms`]: how many messages a text becomes.
//! - [`settings`]: reads a channel's configuration and reports all mistakes at once.
//! - [`failure`]: what a failed transport means for a target; [`echo`]: a vendor's words, scrubbed and cut.
//! - [`retry_after`], [`truncate`], [`tls`]: what their names say.
//!
//! Nothing here knows a vendor's name. The kit keeps connections and tokens, and no other state; the tasks that
//! drive its connections are the only ones it starts.

pub mod bearer;
pub mod echo;
pub mod egress;
pub mod failure;
pub mod group;
pub mod h2;
pub mod http;
pub mod json;
pub mod merge;
pub mod names;
pub mod retry_after;
pub mod scalar;
pub mod settings;
pub mod sign;
pub mod sms;
pub mod tls;
pub mod token;
pub mod truncate;

#[cfg(test)]
pub(crate) mod testing;
