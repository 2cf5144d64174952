//! Where a call comes from: the other end of its connection, or whom a trusted proxy says that it calls for.

use std::net::{IpAddr, Ipv6Addr};

use anypush_providers::kit::egress::IpNet;
use axum::http::HeaderMap;

const FORWARDED: &str = "x-forwarded-for";

/// The networks of proxies whose word is believed.
#[derive(Debug, Default)]
pub(super) struct Proxies(Vec<IpNet>);

impl Proxies {
    pub(super) fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whose call this is. `X-Forwarded-For` counts as far as trusted proxies wrote it: the last address in it that is none
    /// of theirs. What stands before that the client may have written itself.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut found = peer.to_canonical();
        if self.0.is_empty() {
            return found;
        }
        let values: Vec<_> = headers.get_all(FORWARDED).iter().map(|value| value.to_str().ok()).collect();
        // A value that is no text ends the chain: who wrote what is before it is not known.
        let texts = values.into_iter().rev().map_while(|text| text);
        let mut chain = texts.flat_map(|text| text.rsplit(',')).map_while(|text| address(text.trim()));
        while self.0.iter().any(|network| network.contains(&found)) {
            match chain.next() {
                Some(before) => found = before.to_canonical(),
                None => break,
            }
        }
        found
    }
}

/// An address, also with a port, as some proxies write it.
fn address(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    text.parse().ok().or_else(with_port)
}

/// What is counted together: an address, of IPv6 the network that a customer gets.
pub(super) fn counted(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED, axum::http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let trusted = trusted.iter().map(|text| text.parse().unwrap()).collect();
        Proxies::new(trusted).client(peer.parse().unwrap(), &headers).to_string()
    }

    /// A27.
    #[test]
    fn only_a_trusted_proxy_may_say_for_whom_it_calls() {
        assert_eq!(client(&[], "9.9.9.9", &["1.2.3.4"]), "9.9.9.9");
        let behind = |peer, forwarded: &[&str]| client(&["10.0.0.0/8", "127.0.0.1/32"], peer, forwarded);
        assert_eq!(behind("9.9.9.9", &["1.2.3.4"]), "9.9.9.9");
        assert_eq!(behind("10.0.0.7", &["1.2.3.4"]), "1.2.3.4");
        assert_eq!(behind("::ffff:10.0.0.7", &["1.2.3.4:555"]), "1.2.3.4");
        assert_eq!(behind("10.0.0.7", &["2a00::1"]), "2a00::1");
        // What the client itself wrote stands before what the proxy adds.
        assert_eq!(behind("10.0.0.7", &["6.6.6.6, 1.2.3.4"]), "1.2.3.4");
        assert_eq!(behind("10.0.0.7", &["6.6.6.6", "1.2.3.4"]), "1.2.3.4");
        assert_eq!(behind("10.0.0.7", &["6.6.6.6, 1.2.3.4, 10.0.0.9,127.0.0.1"]), "1.2.3.4");
        assert_eq!(behind("10.0.0.7", &["127.0.0.1, 6.6.6.6"]), "6.6.6.6");
        // What cannot be read ends the chain: the proxy itself is counted.
        for nonsense in ["nonsense", "6.6.6.6, unknown", "6.6.6.6,", "é, 10.0.0.9", ""] {
            assert!(behind("10.0.0.7", &[nonsense]).starts_with("10.0.0."), "{nonsense}");
        }
        assert_eq!(behind("10.0.0.7", &["6.6.6.6", "é"]), "10.0.0.7");
        assert_eq!(behind("10.0.0.7", &[]), "10.0.0.7");
    }

    #[test]
    fn a_customer_of_ipv6_is_counted_once_whichever_address_it_takes() {
        let is = |text: &str| counted(text.parse().unwrap());
        assert_eq!(is("2a00:1:2:3::1"), is("2a00:1:2:3:ffff::9"));
        assert_ne!(is("2a00:1:2:3::1"), is("2a00:1:2:4::1"));
        assert_ne!(is("1.2.3.4"), is("1.2.3.5"));
    }
}
