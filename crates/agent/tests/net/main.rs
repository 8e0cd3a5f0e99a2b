//! The deny matrix and the allowed ways of a VM's network, with real packets through the real kernel.
//!
//! Each test plays on a host of its own: a network namespace with an uplink to a fake internet and a link to a fake
//! LAN, each a namespace too. The machine's own network is not touched, and the namespaces end with the test. Guests
//! are plain processes in the VM's namespace: the same packets as from a sandbox. One test runs a real sandbox.
//!
//! Needs root, `ip`, `nft`; the sandbox's test needs `runsc` and a static `busybox`.

mod allowed;
mod denied;
mod probe;
mod sandbox;
mod world;
