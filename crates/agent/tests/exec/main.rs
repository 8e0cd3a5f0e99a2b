//! Commands in VMs: real sandboxes, pipes and terminals, through the host protocol. They need root.

#[path = "../cached/cached.rs"]
#[allow(dead_code, reason = "what only cached VMs need")]
mod cached;
mod commands;
mod ends;
mod files;
#[path = "../vms/host.rs"]
#[allow(dead_code, reason = "what only VMs need")]
mod host;
mod session;
mod terminal;
