//! The VMs of this host: one task per VM owns its state, from admission to the last file removed.
//!
//! ```text
//! host protocol ── Registry ── asks ──> Driver ── prepare ── watch ── clean ──> record.json, board
//!                     └ admission, slots, assignment.json
//! ```
//! Invariants: a phase changes only by [`cakework_core::phase::advance`], in the driver, which writes it down before it
//! acts on it; what a VM takes from the host has a name that derives from its id or its record, so that the next start
//! of the agent finds it; memory, disk and slots are reserved before an admission is answered.

pub mod clean;
mod collect;
mod dir;
mod driver;
mod exit;
mod kept;
mod live;
mod networks;
pub mod prepare;
mod record;
mod recover;
mod registry;
mod spares;
mod stop_signal;
mod unsupported;
mod watcher;

pub use collect::collect_for_ever;
pub use dir::VmDir;
pub use driver::Parts;
pub use exit::{Known, classify};
pub use networks::look_after_networks;
pub use prepare::PIDS_MAX;
pub use record::{Ask, Assignment, Cause};
pub use recover::recover;
pub use registry::Registry;
pub use stop_signal::stop_signal;
pub use watcher::{Begin, all as monitors, answer, exited, last_words, start as start_monitor};
