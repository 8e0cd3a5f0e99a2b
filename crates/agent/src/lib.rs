//! The agent role and its per-VM monitor: VMs, engines, networks, logs.

pub mod logs;
pub mod monitor;
pub mod net;
