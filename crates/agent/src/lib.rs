//! The agent role and its per-VM monitor: VMs, builds, engines, networks, logs.
//!
//! The agent is the only role that is root. It holds no truth but its own host's: what was put here, what is, and what
//! the kernel has. Invariant: it may be killed at any line; its VMs run on, and its next start adopts or destroys all
//! that bears its instance's name.

mod backend;
mod board;
mod build;
mod cached;
mod capacity;
mod config;
pub mod engine;
mod exec;
#[cfg(fuzzing)]
pub mod fuzzing;
mod host;
pub mod logs;
pub mod monitor;
pub mod net;
mod purge;
mod run;
mod serve;
mod sys;
mod vm;

pub use build::BuildConfig;
#[doc(hidden)]
pub use build::git;
pub use config::{AgentConfig, CachedConfig, CapacityConfig};
pub use purge::purge;
pub use run::run;
