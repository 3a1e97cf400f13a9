//! Which IP addresses lie on the public internet: everything that has a special purpose is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address is not public and not allowed by the operator.
#[derive(Debug, thiserror::Error)]
#[error("the address is not public (an operator can allow it with POSTRIDER_ALLOW_NETWORKS)")]
pub struct RefusedAddress;

/// The ranges of the IANA special-purpose registry for IPv4, and multicast (RFC 6890 and its updates).
const RESERVED_V4: &[([u8; 4], u32, &str)] = &[
    ([0, 0, 0, 0], 8, "this network"),
    ([10, 0, 0, 0], 8, "private"),
    ([100, 64, 0, 0], 10, "carrier-grade NAT"),
    ([127, 0, 0, 0], 8, "loopback"),
    ([169, 254, 0, 0], 16, "link-local"),
    ([172, 16, 0, 0], 12, "private"),
    ([192, 0, 0, 0], 24, "protocol assignments"),
    ([192, 0, 2, 0], 24, "documentation"),
    ([192, 31, 196, 0], 24, "AS112"),
    ([192, 52, 193, 0], 24, "AMT relays"),
    ([192, 88, 99, 0], 24, "6to4 relays"),
    ([192, 168, 0, 0], 16, "private"),
    ([192, 175, 48, 0], 24, "AS112"),
    ([198, 18, 0, 0], 15, "benchmarking"),
    ([198, 51, 100, 0], 24, "documentation"),
    ([203, 0, 113, 0], 24, "documentation"),
    ([224, 0, 0, 0], 4, "multicast"),
    ([240, 0, 0, 0], 4, "reserved or broadcast"),
];

/// The special ranges for IPv6. Those outside `2000::/3` are refused in any case; here they get their name.
const RESERVED_V6: &[([u16; 8], u32, &str)] = &[
    ([0, 0, 0, 0, 0, 0, 0, 0], 128, "unspecified"),
    ([0, 0, 0, 0, 0, 0, 0, 1], 128, "loopback"),
    ([0, 0, 0, 0, 0, 0xffff, 0, 0], 96, "IPv4-mapped"),
    ([0, 0, 0, 0, 0xffff, 0, 0, 0], 96, "IPv4-translated"),
    ([0, 0, 0, 0, 0, 0, 0, 0], 96, "IPv4-compatible"),
    ([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96, "NAT64"),
    ([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, "local NAT64"),
    ([0x100, 0, 0, 0, 0, 0, 0, 0], 64, "discard"),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, "Teredo"),
    ([0x2001, 2, 0, 0, 0, 0, 0, 0], 48, "benchmarking"),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "protocol assignments"),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, "documentation"),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, "6to4"),
    ([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48, "AS112"),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, "documentation"),
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, "unique local"),
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, "link-local"),
    ([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, "site-local"),
    ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, "multicast"),
];

/// What kind of address `ip` is, if it is anything but an ordinary public unicast address.
pub fn special_purpose(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => special_v4(ip),
        IpAddr::V6(ip) => special_v6(ip),
    }
}

fn special_v4(ip: Ipv4Addr) -> Option<&'static str> {
    RESERVED_V4
        .iter()
        .find(|(network, prefix, _)| (u32::from(ip) ^ u32::from_be_bytes(*network)) >> (32 - prefix) == 0)
        .map(|(_, _, name)| *name)
}

fn special_v6(ip: Ipv6Addr) -> Option<&'static str> {
    let named = RESERVED_V6.iter().find(|(network, prefix, _)| {
        (u128::from(ip) ^ u128::from(Ipv6Addr::from(*network))) >> (128 - prefix) == 0
    });
    let segments = ip.segments();
    match named {
        Some((_, _, name)) => Some(name),
        None if segments[0] & 0xe000 != 0x2000 => Some("not global unicast"),
        // ISATAP (RFC 5214): the last 32 bits are an IPv4 address, under any prefix.
        None if segments[4] & !0x0200 == 0 && segments[5] == 0x5efe => Some("ISATAP"),
        None => None,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use crate::config::Network;
    use proptest::prelude::*;

    #[test]
    fn every_kind_of_special_address_is_known_by_name() {
        for (ip, name) in [
            ("0.0.0.0", "this network"),
            ("10.255.255.255", "private"),
            ("100.64.0.1", "carrier-grade NAT"),
            ("127.0.0.1", "loopback"),
            ("169.254.169.254", "link-local"),
            ("172.31.255.255", "private"),
            ("192.0.0.8", "protocol assignments"),
            ("192.88.99.1", "6to4 relays"),
            ("198.19.255.255", "benchmarking"),
            ("203.0.113.7", "documentation"),
            ("239.255.255.255", "multicast"),
            ("255.255.255.255", "reserved or broadcast"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::ffff:8.8.8.8", "IPv4-mapped"),
            ("::ffff:0:8.8.8.8", "IPv4-translated"),
            ("::127.0.0.1", "IPv4-compatible"),
            ("64:ff9b::7f00:1", "NAT64"),
            ("64:ff9b:1:2::1", "local NAT64"),
            ("2001::1", "Teredo"),
            ("2001:2::1", "benchmarking"),
            ("2001:10::1", "protocol assignments"),
            ("2001:db8::1", "documentation"),
            ("2002:7f00:1::", "6to4"),
            ("3fff::1", "documentation"),
            ("fd00::1", "unique local"),
            ("fe80::1", "link-local"),
            ("fec0::1", "site-local"),
            ("ff02::1", "multicast"),
            ("4000::1", "not global unicast"),
            ("5f00::1", "not global unicast"),
            ("2606:4700::200:5efe:7f00:1", "ISATAP"),
        ] {
            assert_eq!(special_purpose(ip.parse().unwrap()), Some(name), "{ip}");
        }
    }

    #[test]
    fn the_neighbours_of_special_ranges_are_public() {
        for ip in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:200::",
            "2001:db7::1",
            "2001:db9::",
            "2003::",
            "2606:4700:4700::1111",
            "2620:4f:7fff::1",
            "3ffe::1",
        ] {
            assert_eq!(special_purpose(ip.parse().unwrap()), None, "{ip}");
        }
    }

    proptest! {
        /// The standard library's own predicates, written by others, never call an address special that passes.
        #[test]
        fn no_ipv4_address_passes_that_the_standard_library_knows_as_special(bits: u32) {
            let ip = Ipv4Addr::from(bits);
            let special = ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_broadcast()
                || ip.is_documentation() || ip.is_multicast() || ip.is_unspecified();
            prop_assert!(!special || special_purpose(ip.into()).is_some());
        }

        /// The same table as networks in CIDR notation, as an operator would write them.
        #[test]
        fn membership_agrees_with_networks_in_cidr_notation(
            row in 0..RESERVED_V4.len(), host: u32, other: u32
        ) {
            let (network, prefix, _) = RESERVED_V4[row];
            let cidr: Network = format!("{}/{prefix}", Ipv4Addr::from(network)).parse().unwrap();
            let inside = Ipv4Addr::from(u32::from_be_bytes(network) | host & (u32::MAX >> prefix));
            prop_assert!(cidr.contains(inside.into()) && special_purpose(inside.into()).is_some());
            let other = IpAddr::from(Ipv4Addr::from(other));
            prop_assert!(!cidr.contains(other) || special_purpose(other).is_some());
        }

        /// However an IPv4 address is wrapped into IPv6, the wrapping is refused.
        #[test]
        fn no_ipv4_address_hides_in_ipv6(bits: u32) {
            let [high, low] = [(bits >> 16) as u16, (bits & 0xffff) as u16];
            for segments in [
                [0, 0, 0, 0, 0, 0xffff, high, low],
                [0, 0, 0, 0, 0, 0, high, low],
                [0, 0, 0, 0, 0xffff, 0, high, low],
                [0x64, 0xff9b, 0, 0, 0, 0, high, low],
                [0x2002, high, low, 0, 0, 0, 0, 1],
                [0x2001, 0, 0, 0, 0, 0, !high, !low],
                [0x2606, 0, 0, 0, 0, 0x5efe, high, low],
            ] {
                prop_assert!(special_purpose(Ipv6Addr::from(segments).into()).is_some());
            }
        }

        #[test]
        fn no_ipv6_address_outside_global_unicast_passes(bits: u128) {
            let ip = Ipv6Addr::from(bits);
            prop_assert!(ip.segments()[0] >> 13 == 1 || special_purpose(ip.into()).is_some());
        }
    }
}
