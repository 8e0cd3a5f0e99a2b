//! The host's kernel as the VM code sees it: clocks, processes, cgroups, mounts and durable files.
//!
//! Nothing here knows what a VM is. A process is always named by its id together with its start time, since the
//! kernel gives ids out again.

pub mod cgroup;
pub mod clock;
pub mod file;
pub mod mounts;
pub mod packet;
pub mod process;
