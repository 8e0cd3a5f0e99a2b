//! Fixtures of tests: real registries, real images, real repositories, a real server, and a census of the kernel.
//!
//! Nothing here stands in for a part of Cakework: a fixture starts the real thing, or builds what a
//! user would bring. Whatever a fixture takes it gives back when it is dropped, also on a panic.

pub mod certificate;
pub mod git;
pub mod http;
pub mod images;
pub mod kernel;
pub mod process;
pub mod registry;
pub mod remote;
pub mod scarce;
pub mod server;

pub use git::GitServer;
pub use registry::{Auth, Registry};
pub use remote::Remote;
pub use server::{Answer, Server};
