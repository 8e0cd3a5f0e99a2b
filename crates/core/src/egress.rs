//! Which addresses are the internet's: where this server goes for a stranger, unless the operator allows more.
//!
//! After the special-purpose registries of IANA (RFC 6890 and its successors). An IPv6 address that carries an IPv4
//! address is judged by that. Invariant: what is in doubt is not public.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// IPv4 networks that are not the internet: network and length of its prefix.
const V4: [(Ipv4Addr, u32); 16] = [
    // This network.
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    // Private.
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    // Shared, behind a carrier's address translation.
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    // Loopback.
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Link-local, where clouds keep their metadata.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    // Private.
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    // Protocol assignments.
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    // Documentation.
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    // Relays of 6to4, which are no more.
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    // Private.
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    // Benchmarks.
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    // Documentation.
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // Multicast.
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    // Reserved, and broadcast.
    (Ipv4Addr::new(240, 0, 0, 0), 4),
    // The platform's own services on Azure, at .16.
    (Ipv4Addr::new(168, 63, 129, 0), 24),
];

/// All of IPv6 that is given out as global unicast.
const V6_GLOBAL: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Networks within it that are not the internet.
const V6: [(Ipv6Addr, u32); 4] = [
    // Protocol assignments: Teredo, benchmarks, ORCHID.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    // Documentation.
    (Ipv6Addr::new(0x2001, 0x0db8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
    // 6to4: a tunnel to whatever IPv4 address is in it.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
];

/// How a network with NAT64 writes IPv4 addresses (RFC 6052).
const V6_NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Whether an address is one of the internet's: neither private, loopback, link-local, shared, multicast,
/// documentation nor reserved.
pub fn is_public(address: IpAddr) -> bool {
    match embedded(address) {
        IpAddr::V4(v4) => !V4.iter().any(|(network, bits)| covers(32, network.to_bits(), *bits, v4.to_bits())),
        IpAddr::V6(v6) => in_v6(V6_GLOBAL, v6) && !V6.iter().any(|network| in_v6(*network, v6)),
    }
}

/// Whether one of the networks holds an address. An IPv4 address within an IPv6 one is looked for as what it is.
pub fn is_within(networks: &[IpNet], address: IpAddr) -> bool {
    let address = embedded(address);
    networks.iter().any(|network| network.contains(&address))
}

/// The IPv4 address that an IPv6 address stands for (mapped, or translated by NAT64), or the address itself.
fn embedded(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if in_v6(V6_NAT64, v6) => IpAddr::V4(Ipv4Addr::from_bits(v6.to_bits() as u32)),
        other => other,
    }
}

fn in_v6((network, bits): (Ipv6Addr, u32), address: Ipv6Addr) -> bool {
    covers(128, network.to_bits(), bits, address.to_bits())
}

/// Whether the first `bits` of `width` are the same.
fn covers(width: u32, network: impl Into<u128>, bits: u32, address: impl Into<u128>) -> bool {
    let rest = width - bits;
    network.into() >> rest == address.into() >> rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_internet_is_public() {
        for text in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2003::1",
            "3ffe:ffff::1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
        ] {
            assert!(is_public(address(text)), "{text}");
        }
    }

    #[test]
    fn what_is_special_is_not_public_at_either_end() {
        for text in [
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.0.0",
            "169.254.169.254",
            "169.254.255.255",
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.0",
            "192.0.0.255",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.0",
            "192.168.255.255",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.255",
            "224.0.0.0",
            "239.255.255.255",
            "240.0.0.0",
            "255.255.255.255",
            "168.63.129.16",
            "::",
            "::1",
            // IPv4-compatible, which nothing uses any more.
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
            "::ffff:169.254.169.254",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "1fff:ffff::1",
            "2001::1",
            "2001:0:7f00:1::",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:1ff:ffff::1",
            "2001:db8::1",
            "2001:db8:ffff::1",
            "2002::1",
            "2002:7f00:1::1",
            "3fff::1",
            "3fff:fff:ffff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fdff:ffff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ] {
            assert!(!is_public(address(text)), "{text}");
        }
    }

    #[test]
    fn networks_hold_mapped_addresses_too() {
        let networks: Vec<IpNet> =
            ["10.1.0.0/16", "fd00::/8"].iter().map(|text| text.parse().expect("a network")).collect();
        for text in ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd00::1"] {
            assert!(is_within(&networks, address(text)), "{text}");
        }
        for text in ["10.2.0.1", "::ffff:10.2.0.1", "fe80::1", "::a01:203"] {
            assert!(!is_within(&networks, address(text)), "{text}");
        }
        assert!(!is_within(&[], address("1.1.1.1")));
    }

    proptest! {
        #[test]
        fn an_address_is_judged_alike_in_all_its_forms(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            let nat64 = Ipv6Addr::from_bits(V6_NAT64.0.to_bits() | u128::from(bits));
            let public = is_public(v4.into());
            prop_assert_eq!(is_public(v4.to_ipv6_mapped().into()), public);
            prop_assert_eq!(is_public(nat64.into()), public);
        }

        #[test]
        fn what_the_standard_library_calls_special_is_not_public(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            let special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
                || v4.is_broadcast() || v4.is_documentation() || v4.is_unspecified();
            prop_assert!(!(special && is_public(v4.into())));
        }
    }
}
