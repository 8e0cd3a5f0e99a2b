//! Builds on a real host, through the host protocol of a real agent, in real sandboxes: run as root.

mod builder;
mod cache;
mod ends;
#[path = "../vms/host.rs"]
#[allow(dead_code, reason = "what only VMs need")]
mod host;
mod hostile;
mod isolation;
mod mounts;
mod protocol;
mod steps;
