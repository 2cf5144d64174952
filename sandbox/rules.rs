//! The table that says how a token is treated.
//!
//! Rules that were set through the control API are tried in their order, then the twin's default patterns: the
//! token's prefix where tokens are free text. A token that no rule names is fine. Behaviours that differ between the first and a later try
//! count tries per (provider, token, message), so that a run can be repeated.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError, RwLock};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::ledger::fingerprint;

/// Tries that are remembered; the oldest are forgotten first, so that a long run stays bounded.
const REMEMBERED_TRIES: usize = 1_000_000;
/// Rules that a table may have.
const MAX_RULES: usize = 10_000;

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The provider it is for, or `*`.
    #[serde(default = "any")]
    pub provider: String,
    /// A glob with `*` and `?` over the whole token, or, without those, a prefix of it.
    pub pattern: String,
    /// What happens.
    pub behaviour: Behaviour,
    /// `answer`, `fails`: the vendor's own code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// `slow`: how long (3000).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// `flaky`, `limited`, `lost`: how many first tries of a message fail (1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// `limited` (fcm: 1), `quota`, `unavailable`, `flaky` (absent): the answer's `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
}

fn any() -> String {
    "*".to_owned()
}

macro_rules! behaviours {
    ($($variant:ident $prefix:literal $help:literal,)*) => {
        /// What happens to a push.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Behaviour {
            $(#[doc = $help] $variant,)*
        }

        /// Every behaviour with the token prefix that asks for it where tokens are free text, and what it does.
        pub const BEHAVIOURS: &[(Behaviour, &str, &str)] = &[$((Behaviour::$variant, $prefix, $help),)*];

        impl Behaviour {
            /// The token prefix that asks for it where tokens are free text.
            pub const fn prefix(self) -> &'static str {
                match self {
                    $(Self::$variant => $prefix,)*
                }
            }
        }
    };
}

behaviours! {
    Ok "ok-" "accepted (as every token that no rule names)",
    Dead "dead-" "the app is gone or the token was rotated",
    Malformed "malformed-" "no token at all",
    WrongApp "wrongapp-" "the token belongs to another app or project",
    Slow "slow-" "accepted after delay_ms (3000)",
    Flaky "flaky-" "503 on the first try (times) of each token and message, then accepted",
    Limited "limited-" "rate limited on the first try (times) of each token and message, then accepted",
    Quota "quota-" "quota used up, always",
    DeviceQuota "devicequota-" "this device's rate exceeded, always",
    Garbage "garbage-" "answers that cannot be read; each next try of the token gets the next kind",
    Reset "reset-" "the connection or stream ends without an answer",
    Hang "hang-" "never answers",
    Lost "lost-" "accepted, but the answer to the first try (times) of each token and message is lost; then accepted again",
    Answer "answer-" "refused with the vendor's own `code`",
    Fails "fails-" "accepted, and reported as failed later, with the vendor's own `code`",
    Silent "silent-" "accepted, and never reported",
    ThirdParty "thirdparty-" "credentials that the vendor needs elsewhere are bad",
    ApnsAuth "apnsauth-" "the same under its old name",
    Unauthenticated "unauthenticated-" "credentials refused",
    Forbidden "forbidden-" "a permission is missing",
    NotFound "notfound-" "no such project or account",
    Payload "payload-" "another field is wrong",
    TooBig "toobig-" "payload too big",
    Unavailable "unavailable-" "overloaded, always",
    Internal "internal-" "internal error, always",
    BadGateway "badgateway-" "502 with an HTML page",
    GatewayTimeout "gatewaytimeout-" "504 with an HTML page",
    Deadline "deadline-" "the vendor's own time-out",
    Cancelled "cancelled-" "cancelled at the vendor",
    Unspecified "unspecified-" "an error without a cause",
    Unheard "unheard-" "an error code that nobody has seen before",
}

/// What the table says about one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What happens.
    pub behaviour: Behaviour,
    /// The vendor's own code.
    pub code: Option<String>,
    /// How long a slow answer takes.
    pub delay_ms: u64,
    /// How many first tries fail.
    pub times: u32,
    /// The answer's `Retry-After`.
    pub retry_after_seconds: Option<u64>,
}

impl Decision {
    fn new(rule: Option<&Rule>, behaviour: Behaviour, code: Option<&str>) -> Self {
        Self {
            behaviour,
            code: code.map(str::to_owned),
            delay_ms: rule.and_then(|rule| rule.delay_ms).unwrap_or(3000),
            times: rule.and_then(|rule| rule.times).unwrap_or(1),
            retry_after_seconds: rule.and_then(|rule| rule.retry_after_seconds),
        }
    }
}

/// The rules of a running sandbox.
pub struct Rules {
    set: RwLock<Vec<Rule>>,
    tries: Mutex<Tries>,
    path: Option<PathBuf>,
}

#[derive(Default)]
struct Tries {
    count: HashMap<u128, u32>,
    order: VecDeque<u128>,
}

impl Rules {
    pub(crate) fn open(path: Option<PathBuf>) -> anyhow::Result<Self> {
        let set = match path.as_deref().filter(|path| path.exists()) {
            Some(path) => {
                let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
                serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?
            }
            None => Vec::new(),
        };
        Ok(Self { set: RwLock::new(set), tries: Mutex::default(), path })
    }

    /// The rules that were set, without the defaults.
    pub fn set_rules(&self) -> Vec<Rule> {
        self.set.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the rules that were set; the defaults stay behind them.
    pub fn replace(&self, rules: Vec<Rule>) -> anyhow::Result<()> {
        anyhow::ensure!(rules.len() <= MAX_RULES, "at most {MAX_RULES} rules");
        if let Some(path) = &self.path {
            crate::state::write_whole(path, &serde_json::to_vec_pretty(&rules)?)?;
        }
        *self.set.write().unwrap_or_else(PoisonError::into_inner) = rules;
        Ok(())
    }

    /// What happens to a push to `token`.
    pub fn decide(&self, provider: &str, token: &str) -> Decision {
        let set = self.set.read().unwrap_or_else(PoisonError::into_inner);
        let named = |rule: &&Rule| {
            (rule.provider == "*" || rule.provider == provider) && matches(&rule.pattern, token)
        };
        if let Some(rule) = set.iter().find(named) {
            return Decision::new(Some(rule), rule.behaviour, rule.code.as_deref());
        }
        let patterns = crate::find(provider).map_or(&[][..], |twin| twin.patterns);
        match patterns.iter().find(|row| matches(row.tokens, token)) {
            Some(row) => Decision::new(None, row.behaviour, row.code),
            None => Decision::new(None, Behaviour::Ok, None),
        }
    }

    /// Counts a try of (provider, token, message) and says how many came before it.
    pub fn earlier_tries(&self, provider: &str, token: &str, message: &str) -> u32 {
        let key = fingerprint(&[provider, token, message]);
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = tries.count.get_mut(&key) {
            *count = count.saturating_add(1);
            return *count - 1;
        }
        tries.count.insert(key, 1);
        tries.order.push_back(key);
        if tries.order.len() > REMEMBERED_TRIES {
            let oldest = tries.order.pop_front();
            oldest.map(|oldest| tries.count.remove(&oldest));
        }
        0
    }

    /// Forgets all tries: the next one of every message is its first again.
    pub fn forget_tries(&self) {
        *self.tries.lock().unwrap_or_else(PoisonError::into_inner) = Tries::default();
    }
}

/// Whether `pattern` names `token`: a glob with `*` and `?`, or a prefix where it has neither.
pub fn matches(pattern: &str, token: &str) -> bool {
    if !pattern.contains(['*', '?']) {
        return token.starts_with(pattern);
    }
    let (pattern, token) = (pattern.as_bytes(), token.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on when a later byte does not fit: after the last star, one byte further than last time.
    let mut star: Option<(usize, usize)> = None;
    while t < token.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == token[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_glob_or_a_prefix() {
        for (pattern, token, fits) in [
            ("dead-", "dead-1", true),
            ("dead-", "undead-1", false),
            ("*0001", "+8613800000001", true),
            ("*0001", "+8613800000002", false),
            ("a*b?d", "axxbcd", true),
            ("a*b?d", "axxbd", false),
            ("*", "", true),
            ("a*b*c", "a-b-b-c", true),
        ] {
            assert_eq!(matches(pattern, token), fits, "{pattern} on {token}");
        }
    }

    #[test]
    fn a_rule_that_was_set_goes_before_the_defaults() {
        let rules = Rules::open(None).unwrap();
        assert_eq!(rules.decide("fcm", "dead-1").behaviour, Behaviour::Dead);
        let rule =
            serde_json::from_str(r#"{"provider":"fcm","pattern":"dead-1*","behaviour":"slow","delay_ms":7}"#)
                .unwrap();
        rules.replace(vec![rule]).unwrap();
        assert_eq!(rules.decide("fcm", "dead-1").behaviour, Behaviour::Slow);
        assert_eq!(rules.decide("fcm", "dead-1").delay_ms, 7);
        assert_eq!(rules.decide("fcm", "dead-2").behaviour, Behaviour::Dead);
        assert_eq!(
            rules.decide("nobody", "dead-1").behaviour,
            Behaviour::Ok,
            "a vendor's patterns are its own"
        );
    }

    #[test]
    fn tries_are_counted_per_token_and_message() {
        let rules = Rules::open(None).unwrap();
        assert_eq!(rules.earlier_tries("fcm", "t", "m1"), 0);
        assert_eq!(rules.earlier_tries("fcm", "t", "m1"), 1);
        assert_eq!(rules.earlier_tries("fcm", "t", "m2"), 0);
        rules.forget_tries();
        assert_eq!(rules.earlier_tries("fcm", "t", "m1"), 0);
    }
}
