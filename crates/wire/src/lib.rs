//! What crosses a process boundary inside Cakework: the host protocol between api and agent, and the log segments
//! between monitor and agent. Both are frozen contracts.
//!
//! Rules: a message carries no host path, no raw OCI runtime spec and no argument of a host program; no absolute
//! time (durations travel as `remaining_ms`); a field is only ever added, as an option. [`host::PROTOCOL`] and the
//! one before it interoperate.

pub mod build;
pub mod exec;
pub mod files;
pub mod host;
pub mod segment;
