//! Where the host itself goes for a stranger: to public addresses, and to those that the operator allows.
//!
//! Invariant: the address is judged when it is connected to, after every redirect and every look-up, so that no name
//! that changes its mind leads elsewhere.

mod download;
pub(crate) mod file_name;
mod gate;

use std::net::IpAddr;

use cakework_core::egress;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use self::download::{Download, download};
pub(crate) use self::gate::{Gate, Refused};

/// What the operator says about it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EgressConfig {
    /// More addresses that may not be reached.
    pub deny: Vec<IpNet>,
    /// Addresses that may be reached although they are not public.
    pub allow: Vec<IpNet>,
}

impl EgressConfig {
    /// Whether an address may be reached: it is public (neither private, loopback, link-local, shared, multicast,
    /// reserved nor documentation, over IPv4 or IPv6, mapped addresses included) and not denied, or it is allowed.
    pub fn permits(&self, address: IpAddr) -> bool {
        // The kernel connects a mapped address over IPv4.
        let address = address.to_canonical();
        let is_in = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
        // What NAT64 translates to is reached as well as the address itself.
        let is_denied = is_in(&self.deny) || egress::is_within(&self.deny, address);
        is_in(&self.allow) || egress::is_public(address) && !is_denied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(deny: &[&str], allow: &[&str]) -> EgressConfig {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().expect(text)).collect();
        EgressConfig { deny: nets(deny), allow: nets(allow) }
    }

    #[test]
    fn the_operator_denies_and_allows() {
        let (open, strict) = (config(&[], &["127.0.0.0/8", "fd00::/8"]), config(&["9.9.9.0/24", "2620:fe::/48"], &[]));
        let both = config(&["9.9.9.0/24"], &["9.9.9.9/32"]);
        for (config, address, expected) in [
            (&open, "127.0.0.1", true),
            (&open, "::ffff:127.0.0.1", true),
            (&open, "fd00::1", true),
            (&open, "::1", false),
            (&open, "10.0.0.1", false),
            (&open, "9.9.9.9", true),
            (&open, "64:ff9b::7f00:1", false),
            (&strict, "9.9.9.9", false),
            (&strict, "::ffff:9.9.9.9", false),
            (&strict, "64:ff9b::909:909", false),
            (&strict, "2620:fe::9", false),
            (&strict, "8.8.8.8", true),
            (&both, "9.9.9.9", true),
            (&both, "9.9.9.10", false),
        ] {
            assert_eq!(config.permits(address.parse().expect(address)), expected, "{address}");
        }
    }
}
