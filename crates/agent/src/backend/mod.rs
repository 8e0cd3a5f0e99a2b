//! The engines that VMs run in. One so far: what is peculiar to it and its versions stays in its module.

pub mod gvisor;
