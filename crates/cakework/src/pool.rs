//! Which addresses an instance's VMs get on the host: a /16 that overlaps nothing the host knows.
//!
//! Invariant: a pool never covers an address or a route of the host, nor another instance's pool.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Where pools are looked for, in this order: private ranges first, and in 10/8 the middle, which is used least.
const RANGES: [(u8, u8, u8); 4] = [(10, 64, 127), (172, 18, 31), (100, 64, 127), (198, 18, 19)];
const ROUTES_MAX_BYTES: u64 = 16 << 20;

/// A free /16, beginning at a place that `seed` gives.
pub fn choose(seed: u64, taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    RANGES.iter().find_map(|(first, low, high)| {
        let places = u64::from(high - low) + 1;
        (0..places).find_map(|step| {
            let place = u8::try_from((seed.wrapping_add(step)) % places).expect("less than 256");
            let net = Ipv4Net::new(Ipv4Addr::new(*first, low + place, 0, 0), 16).expect("16 bits");
            (!overlaps(net, taken)).then_some(net)
        })
    })
}

/// Whether two of the networks have an address in common.
pub fn overlaps(net: Ipv4Net, others: &[Ipv4Net]) -> bool {
    others.iter().any(|other| other.contains(&net) || net.contains(other))
}

/// All IPv4 routes and addresses of this network namespace, in every table, but for the default routes.
///
/// # Errors
/// Where the kernel does not say.
pub fn host_networks() -> std::io::Result<Vec<Ipv4Net>> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open("/proc/net/fib_trie")?.take(ROUTES_MAX_BYTES).read_to_string(&mut text)?;
    Ok(parse_fib_trie(&text))
}

/// Leaves look like `|-- 192.0.2.0` followed by one line `/24 link UNICAST` for each route.
fn parse_fib_trie(text: &str) -> Vec<Ipv4Net> {
    let mut found = Vec::new();
    let mut leaf: Option<Ipv4Addr> = None;
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if let (Some(address), Some(rest)) = (leaf, line.strip_prefix('/')) {
            let bits = rest.split(' ').next().and_then(|bits| bits.parse::<u8>().ok());
            found.extend(bits.filter(|bits| *bits > 0).and_then(|bits| Ipv4Net::new(address, bits).ok()));
        } else {
            leaf = None;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<Ipv4Net> {
        texts.iter().map(|text| text.parse().expect("a network")).collect()
    }

    #[test]
    fn the_kernels_table_is_read() {
        let text = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 192.0.2.0/24 2 0 2\n        \
                    |-- 192.0.2.0\n           /24 link UNICAST\n        |-- 192.0.2.2\n           /32 host LOCAL\n";
        assert_eq!(parse_fib_trie(text), nets(&["192.0.2.0/24", "192.0.2.2/32"]));
    }

    #[test]
    fn a_pool_avoids_what_is_there() {
        let first = choose(5, &[]).expect("room");
        let inside = Ipv4Net::new(first.addr(), 30).expect("30 bits");
        assert_ne!(choose(5, &[inside]), Some(first), "a part of it is used");
        let second = choose(5, &nets(&["10.0.0.0/8"])).expect("room");
        assert_eq!(second.addr().octets()[0], 172, "all of 10/8 is routed");
        assert_eq!(choose(5, &nets(&["10.0.0.0/8", "172.16.0.0/12", "100.64.0.0/10", "198.18.0.0/15"])), None);
    }

    #[test]
    fn this_hosts_loopback_is_seen() {
        let here = host_networks().expect("a proc file system");
        assert!(overlaps("127.0.0.0/16".parse().expect("a network"), &here));
    }
}
