//! The apps' own rules for routes.

use crate::routing::Rule;

/// An app's rules, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RulesRecord {
    /// The app.
    pub app: i64,
    /// The first that fits counts.
    pub rules: Vec<Rule>,
    /// Unix milliseconds.
    pub updated_at: u64,
}
