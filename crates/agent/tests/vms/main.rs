//! VMs on a real host, through the host protocol of a real agent: run as root.

mod crash;
mod host;
mod lives;
mod protocol;
mod spares;
