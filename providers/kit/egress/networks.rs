//! Which addresses are no place on the public Internet: IANA's registries of special-purpose addresses (read
//! 2026-11-21), without the few anycast services in them that are reachable.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6(first: u16, second: u16, third: u16, bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, third, 0, 0, 0, 0, 0), bits)
}

const REFUSED_V4: [Ipv4Net; 16] = [
    v4(0, 0, 0, 0, 8),        // this network
    v4(10, 0, 0, 0, 8),       // private
    v4(100, 64, 0, 0, 10),    // carrier-grade NAT; Alibaba's metadata service
    v4(127, 0, 0, 0, 8),      // loopback
    v4(168, 63, 129, 16, 32), // Azure's service for its guests, a public address that is none
    v4(169, 254, 0, 0, 16),   // link-local; metadata services
    v4(172, 16, 0, 0, 12),    // private
    v4(192, 0, 0, 0, 24),     // protocol assignments; Oracle's metadata service
    v4(192, 0, 2, 0, 24),     // documentation
    v4(192, 88, 99, 0, 24),   // 6to4 relays, given up
    v4(192, 168, 0, 0, 16),   // private
    v4(198, 18, 0, 0, 15),    // benchmarking
    v4(198, 51, 100, 0, 24),  // documentation
    v4(203, 0, 113, 0, 24),   // documentation
    v4(224, 0, 0, 0, 4),      // multicast
    v4(240, 0, 0, 0, 4),      // reserved, broadcast
];

/// All unicast that is routed. Outside: loopback, unique local, link-local, site-local, multicast, discard, SRv6 SIDs, the
/// NAT64 prefix for local use.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 0, 3);

const REFUSED_V6: [Ipv6Net; 3] = [
    v6(0x2001, 0, 0, 23),      // protocol assignments: Teredo, benchmarking, ORCHID
    v6(0x2001, 0x0db8, 0, 32), // documentation
    v6(0x3fff, 0, 0, 20),      // documentation
];

/// Addresses that are IPv4's in other clothes, with the 16-bit word at which the IPv4 address begins.
const CLOTHED: [(Ipv6Net, usize); 4] = [
    (v6(0, 0, 0, 96), 6), // compatible, given up
    (Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96), 6), // mapped
    (v6(0x64, 0xff9b, 0, 96), 6), // NAT64
    (v6(0x2002, 0, 0, 16), 1), // 6to4
];

/// The address that a packet to this one ends at, as far as the address itself says.
pub(super) fn canonical(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if v6.is_loopback() || v6.is_unspecified() {
        return address;
    }
    let Some((_, at)) = CLOTHED.iter().find(|(network, _)| network.contains(&v6)) else { return address };
    let words = v6.segments();
    let bits = (u32::from(words[*at]) << 16) | u32::from(words[at + 1]);
    IpAddr::V4(Ipv4Addr::from_bits(bits))
}

/// Whether the public Internet has this address.
pub(super) fn is_public(address: IpAddr) -> bool {
    match canonical(address) {
        IpAddr::V4(v4) => !REFUSED_V4.iter().any(|network| network.contains(&v4)),
        IpAddr::V6(v6) => GLOBAL_V6.contains(&v6) && !REFUSED_V6.iter().any(|network| network.contains(&v6)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(text: &str) -> bool {
        is_public(text.parse().unwrap())
    }

    /// A38.
    #[test]
    fn no_address_of_a_private_or_reserved_network_is_public() {
        let refused = [
            "0.0.0.0",
            "0.255.255.255",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.255.255",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a00:1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:10::1",
            "2001:db8::1",
            "3fff::1",
            "3fff:fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ];
        for address in refused {
            assert!(!public(address), "{address}");
        }
    }

    #[test]
    fn the_neighbours_of_refused_networks_are_public() {
        let public_ones = [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.15",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2001:db9::1",
            "2606:4700::1111",
            "2a00:1450::1",
            // IPv4's own public addresses, where a network has only IPv6.
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ];
        for address in public_ones {
            assert!(public(address), "{address}");
        }
    }
}
