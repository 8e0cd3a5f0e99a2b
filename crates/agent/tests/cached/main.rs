//! Cached VMs on a host: real sandboxes, memory images, disks and kills, through the host protocol. They need root.

mod cached;
mod crash;
mod hazards;
#[path = "../vms/host.rs"]
#[allow(dead_code, reason = "what only VMs need")]
mod host;
mod sleeps;
mod starts;
