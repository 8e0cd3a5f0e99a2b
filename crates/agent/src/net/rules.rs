//! The firewall's rules as text for `nft`. Pure.
//!
//! Two tables per instance. The `inet` table holds what is the same for all VMs. The `netdev` table has two chains
//! per VM, which hold who it is: the guest's constant address becomes the VM's own at the host's end of its link, and
//! nothing else passes there in either direction. So no rule of the first ever changes when a VM comes or goes.
//!
//! It is one `netdev` table for all VMs, not one for each: `nft` asks the kernel for the sets of every table before it
//! changes anything, which with a few hundred tables takes most of a second.
//!
//! Base chains accept: other forwarders on the host keep working. Only packets to and from our interfaces are
//! dropped. IPv6 ends at the VM's link until it has the same policy.

use std::fmt::Write;
use std::net::Ipv4Addr;

use cakework_core::id::InstanceId;
use ipnet::{IpNet, Ipv4Net};

use super::name::{self, GUEST, HOST_ADDRESS};
use super::{NetConfig, Slot};

/// Destinations that are not the internet (RFC 6890 and its successors).
const DENY: [&str; 11] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
];

/// A chain of the instance's `inet` table: where it is, the others are, since they come as one.
pub const LAST_CHAIN: &str = "uplink";

/// The instance's tables; the `inet` one replaces the one before in the same transaction, so that no packet meets
/// neither. VMs' chains are left as they are.
///
/// `admit` stands before any address translation: a destination that another program on the host translates (a
/// published container port, a cluster's service address) is judged by what the guest asked for. `forward` judges
/// again by where the packet really goes.
pub fn instance(config: &NetConfig) -> String {
    let table = name::prefix(&config.instance);
    let vms = format!("\"{table}*\"");
    let (pool, gateway, dns_port, edge_uid) = (config.pool, GUEST.gateway, config.dns_port, config.edge_uid);
    let dns = format!("meta l4proto {{ tcp, udp }} th dport {dns_port}");
    let allow = set(config.allow.iter());
    let fixed: Vec<IpNet> = DENY.iter().map(|net| net.parse().expect("a constant network")).collect();
    let deny = set(fixed.iter().chain(&config.deny));
    format!(
        "table netdev {table}
table inet {table}
delete table inet {table}
table inet {table} {{
  set allow {{ type ipv4_addr; flags interval; auto-merge;{allow} }}
  set deny {{ type ipv4_addr; flags interval; auto-merge;{deny} }}

  chain destination {{
    ip daddr {pool} drop
    ip daddr @allow accept
    ip daddr @deny drop
  }}
  chain from_vm_admit {{
    meta nfproto != ipv4 drop
    ip saddr != {pool} drop
    ct state established accept
    ct state related meta l4proto icmp accept
    ct state invalid drop
    ip daddr {gateway} meta l4proto {{ tcp, udp }} th dport 53 accept
    fib daddr type != unicast drop
    jump destination
  }}
  chain admit {{
    type filter hook prerouting priority mangle; policy accept;
    iifname {vms} jump from_vm_admit
  }}
  chain resolver {{
    type nat hook prerouting priority dstnat; policy accept;
    iifname {vms} ip daddr {gateway} meta l4proto {{ tcp, udp }} th dport 53 redirect to :{dns_port}
  }}
  chain from_vm_input {{
    ct state established accept
    ct status dnat {dns} accept
    drop
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname {vms} jump from_vm_input
    ct state new {dns} drop
  }}
  chain clamp {{
    type filter hook forward priority mangle; policy accept;
    iifname {vms} tcp flags syn tcp option maxseg size set rt mtu
    oifname {vms} tcp flags syn tcp option maxseg size set rt mtu
  }}
  chain to_vm {{
    meta nfproto != ipv4 drop
    ct state established accept
    ct state related meta l4proto icmp accept
    drop
  }}
  chain from_vm_forward {{
    meta nfproto != ipv4 drop
    ct state established accept
    ct state related meta l4proto icmp accept
    ct state invalid drop
    jump destination
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    oifname {vms} jump to_vm
    oifname != {vms} ip daddr {pool} drop
    iifname {vms} jump from_vm_forward
  }}
  chain output {{
    type filter hook output priority filter; policy accept;
    oifname {vms} meta l4proto tcp meta skuid {edge_uid} accept
    oifname {vms} jump to_vm
    oifname != {vms} ip daddr {pool} meta l4proto tcp reject with tcp reset
    oifname != {vms} ip daddr {pool} drop
  }}
  chain uplink {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {pool} oifname != {vms} masquerade
  }}
}}
"
    )
}

/// The names of a VM's two chains: from the guest, to the guest.
pub fn chains(instance: &InstanceId, slot: Slot) -> [String; 2] {
    let link = name::interface(instance, slot);
    [format!("{link}_in"), format!("{link}_out")]
}

/// A VM's own chains; fails where there are any. They are bound to the VM's link, which must exist.
///
/// The guest may send ARP for its gateway and IPv4 from its own address, nothing else; a packet that names another
/// source ends here. Towards the guest a new TCP connection passes to its `port` only; whether it may come from the
/// host at all is decided in the instance's `inet` table.
pub fn vm(instance: &InstanceId, slot: Slot, address: Ipv4Addr, port: Option<u16>) -> String {
    let (table, link) = (name::prefix(instance), name::interface(instance, slot));
    let [from_guest, to_guest] = chains(instance, slot);
    let (guest, gateway) = (GUEST.address, GUEST.gateway);
    let other_ports = port.map(|port| format!(" tcp dport != {port}")).unwrap_or_default();
    format!(
        "add table netdev {table}
create chain netdev {table} {from_guest} {{ type filter hook ingress device \"{link}\" priority filter; policy drop; }}
create chain netdev {table} {to_guest} {{ type filter hook egress device \"{link}\" priority filter; policy drop; }}
table netdev {table} {{
  chain {from_guest} {{
    arp operation request arp saddr ip {guest} arp daddr ip {gateway} arp saddr ip set {address} arp daddr ip set {HOST_ADDRESS} accept
    ip saddr {guest} ip saddr set {address} accept
  }}
  chain {to_guest} {{
    arp operation reply arp saddr ip set {gateway} arp daddr ip set {guest} accept
    ip daddr {address} tcp flags & (syn | ack) == syn{other_ports} drop
    ip daddr {address} ip daddr set {guest} accept
  }}
}}
"
    )
}

/// Removes a VM's own chains whether they are there or not: `destroy` is newer than the oldest `nft` that we run with.
pub fn without_vm(instance: &InstanceId, slot: Slot) -> String {
    let table = name::prefix(instance);
    let each =
        |verb: &str| chains(instance, slot).map(|chain| format!("{verb} chain netdev {table} {chain}\n")).concat();
    [format!("add table netdev {table}\n"), each("add"), each("flush"), each("delete")].concat()
}

/// Removes a table whether it is there or not.
pub fn without(family: &str, table: &str) -> String {
    format!("add table {family} {table}\ndelete table {family} {table}\n")
}

/// The elements of an IPv4 set; nothing where there are none, since `nft` refuses an empty list. IPv6 networks have
/// no place here: IPv6 is dropped as a whole.
fn set<'a>(networks: impl Iterator<Item = &'a IpNet>) -> String {
    let mut text = String::new();
    for network in networks.filter_map(|network| match network {
        IpNet::V4(network) => Some(network.trunc()),
        IpNet::V6(_) => None,
    }) {
        let begin = if text.is_empty() { " elements = { " } else { ", " };
        write!(text, "{begin}{}", element(network)).expect("writing to a string does not fail");
    }
    if !text.is_empty() {
        text.push_str(" };");
    }
    text
}

/// `nft` takes `0.0.0.0/0` for an address family error in some releases; a range says the same.
fn element(network: Ipv4Net) -> String {
    if network.prefix_len() == 0 { "0.0.0.0-255.255.255.255".to_owned() } else { network.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> NetConfig {
        NetConfig {
            instance: "0a1v".parse().expect("an id"),
            pool: "10.77.0.0/16".parse().expect("a network"),
            deny: vec!["203.0.113.0/24".parse().expect("a network"), "2001:db8::/32".parse().expect("a network")],
            allow: Vec::new(),
            dns_port: 5300,
            edge_uid: 990,
        }
    }

    #[test]
    fn the_instances_rules_are_these() {
        insta::assert_snapshot!(instance(&config()));
    }

    #[test]
    fn a_vms_rules_are_these() {
        let address = Ipv4Addr::new(10, 77, 0, 31);
        insta::assert_snapshot!(vm(&config().instance, Slot(0x1f), address, Some(8080)));
    }

    #[test]
    fn without_a_port_no_connection_comes_in() {
        let address = Ipv4Addr::new(10, 77, 0, 31);
        let text = vm(&config().instance, Slot(0x1f), address, None);
        assert!(text.contains("ip daddr 10.77.0.31 tcp flags & (syn | ack) == syn drop"), "{text}");
    }

    #[test]
    fn other_vms_and_the_host_stay_out_of_reach_whatever_is_allowed() {
        let everything = vec!["0.0.0.0/0".parse().expect("a network")];
        let text = instance(&NetConfig { allow: everything, ..config() });
        let at = |needle: &str| text.find(needle).unwrap_or_else(|| panic!("{needle} in {text}"));
        assert!(at("elements = { 0.0.0.0-255.255.255.255 };") < at("set deny"));
        assert!(at("ip daddr 10.77.0.0/16 drop") < at("ip daddr @allow accept"));
        assert!(at("fib daddr type != unicast drop") < at("jump destination"));
    }

    #[test]
    fn ipv6_networks_are_no_elements() {
        assert!(!instance(&config()).contains("2001:db8"));
    }
}
