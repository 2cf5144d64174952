//! What the configuration allows beside the public Internet: a host's name, an address, a network.

use std::net::IpAddr;

use ipnet::IpNet;
use url::Host;

use super::networks::canonical;

/// One exception.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rule {
    Name(String),
    Network(IpNet),
}

impl Rule {
    pub(super) fn read(text: &str) -> Option<Self> {
        if let Ok(network) = text.parse::<IpNet>() {
            return Some(Self::Network(network.trunc()));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::Network(canonical(address).into()));
        }
        match Host::parse(text) {
            Ok(Host::Domain(name)) => Some(Self::Name(name.trim_end_matches('.').to_ascii_lowercase())),
            _ => None,
        }
    }

    /// Names are given without a dot at the end, in lower case.
    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self, Self::Name(own) if own == name)
    }

    /// Addresses are given in their canonical form.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        matches!(self, Self::Network(network) if network.contains(&address))
    }
}

/// Whether a text names a host, an address or a network.
pub fn is_rule(text: &str) -> bool {
    Rule::read(text).is_some()
}
