//! Builds on a real host, through the host protocol of a real agent, in real sandboxes: run as root.

mod builder;
mod cache;
mod ends;
#[path = "../vms/host.rs"]
#[allow(dead_code, reason = "what only VMs need")]
mod host;
mod hostile;
mod isolation;
mod kills;
mod many;
mod mounts;
mod network;
#[path = "../net/probe.rs"]
#[allow(dead_code, reason = "what only networks need")]
mod probe;
mod protocol;
#[path = "../../../image/tests/common/server.rs"]
#[allow(clippy::unwrap_used, dead_code, reason = "as in its own tests")]
mod server;
mod sources;
mod steps;
#[path = "../net/world.rs"]
#[allow(dead_code, reason = "what only networks need")]
mod world;
