//! Names and addresses: what a network takes from its host, derived from instance, VM and slot. Pure.
//!
//! Invariant: every name begins with [`prefix`] of the instance, so that two instances never meet and one can be
//! found and removed without a record.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use cakework_core::id::{InstanceId, VmId};
use ipnet::Ipv4Net;

use super::{GuestNet, NetError, Slot};

/// Where named network namespaces are, for `ip netns` too.
pub const NETNS_DIR: &str = "/run/netns";

/// The network that every guest sees.
pub const GUEST: GuestNet = GuestNet {
    interface: "eth0",
    address: Ipv4Addr::new(10, 0, 0, 2),
    prefix_len: 24,
    gateway: Ipv4Addr::new(10, 0, 0, 1),
    resolver: Ipv4Addr::new(10, 0, 0, 1),
};

/// The host's address on every VM's link: guests know it as their gateway.
pub const HOST_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 42, 1);

/// Link addresses are locally administered and the same on every link: each link has two ends only, and a memory
/// image never carries a wrong one.
pub const HOST_MAC: [u8; 6] = [0x02, 0x63, 0x77, 0, 0, 1];
/// The guest's end.
pub const GUEST_MAC: [u8; 6] = [0x02, 0x63, 0x77, 0, 0, 2];

/// What every name of an instance begins with.
pub fn prefix(instance: &InstanceId) -> String {
    format!("cw{instance}")
}

/// The host's end of a VM's link: 10 of the 15 bytes that an interface name may have.
pub fn interface(instance: &InstanceId, slot: Slot) -> String {
    format!("cw{instance}{:04x}", slot.0)
}

/// The file of a VM's network namespace.
pub fn netns(instance: &InstanceId, vm: &VmId) -> PathBuf {
    PathBuf::from(NETNS_DIR).join(format!("cw{instance}-{vm}"))
}

/// The VM whose namespace has this file name; `None` where it is none of this instance.
pub fn vm_of_netns(instance: &InstanceId, name: &str) -> Option<VmId> {
    name.strip_prefix(&prefix(instance))?.strip_prefix('-')?.parse().ok()
}

/// True for interfaces of this instance's VMs.
pub fn is_interface(instance: &InstanceId, name: &str) -> bool {
    let digits = name.strip_prefix(&prefix(instance));
    digits.is_some_and(|text| text.len() == 4 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

/// A slot's address. The pool's first and last address stay free: some hosts take them for a network and a broadcast.
///
/// # Errors
/// [`NetError::Slot`] where the pool has no such address.
pub fn address(pool: Ipv4Net, slot: Slot) -> Result<Ipv4Addr, NetError> {
    let address = Ipv4Addr::from_bits(pool.network().to_bits().saturating_add(u32::from(slot.0)));
    if slot.0 == 0 || !pool.contains(&address) || address == pool.broadcast() {
        return Err(NetError::Slot { slot, pool });
    }
    Ok(address)
}

/// The slot of an address of the pool.
pub fn slot(pool: Ipv4Net, address: Ipv4Addr) -> Option<Slot> {
    let number = address.to_bits().checked_sub(pool.network().to_bits()).filter(|_| pool.contains(&address))?;
    u16::try_from(number).ok().map(Slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_vm() {
        let instance: InstanceId = "0a1v".parse().expect("an id");
        let vm: VmId = "e784996f346483".parse().expect("an id");
        let path = netns(&instance, &vm);
        assert_eq!(path.to_str(), Some("/run/netns/cw0a1v-e784996f346483"));
        assert_eq!(vm_of_netns(&instance, "cw0a1v-e784996f346483"), Some(vm));
        assert_eq!(vm_of_netns(&instance, "cw0a1u-e784996f346483"), None);
        assert_eq!(vm_of_netns(&instance, "cw0a1v-other"), None);
        assert_eq!(interface(&instance, Slot(0x1f)), "cw0a1v001f");
        assert!(is_interface(&instance, "cw0a1v001f"));
        assert!(!is_interface(&instance, "cw0a1v") && !is_interface(&instance, "cw0a1u001f"));
    }

    #[test]
    fn a_slot_is_an_address_of_the_pool_but_its_ends() {
        let pool: Ipv4Net = "10.77.0.0/16".parse().expect("a network");
        assert_eq!(address(pool, Slot(258)).ok(), Some(Ipv4Addr::new(10, 77, 1, 2)));
        assert!(address(pool, Slot(0)).is_err());
        assert!(address(pool, Slot(0xffff)).is_err());
        assert_eq!(address(pool, Slot(0xfffe)).ok(), Some(Ipv4Addr::new(10, 77, 255, 254)));
        assert!(address("10.77.0.0/24".parse().expect("a network"), Slot(255)).is_err());
    }
}
