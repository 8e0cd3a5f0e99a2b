//! The agent role and its per-VM monitor: VMs, engines, networks, logs.
