//! Cached VMs: one that starts again and again, from its prepared state, and sleeps and wakes within a run.
//!
//! ```text
//! Registry ── wishes, commands ──> Driver ── make, engine ──> one sandbox
//!                                     |
//!              Held: prepare, make ready    Running: watch    asleep: paused, spilled
//! ```
//! Invariants: a cached VM has one sandbox at most, so that all it takes from the host has the VM's own name; its stage
//! changes only by [`stage::advance`], in its driver, which writes it down before it acts on it; a memory image is only
//! ever restored over exactly the bytes of the disk that it was taken with; a start that is faster than a cold one is
//! given up for a slower one, never for an error.

mod activity;
mod decide;
mod driver;
mod key;
mod make;
mod over;
mod pool;
mod prepare;
mod ready;
mod record;
mod shared;
mod sleep;
mod stage;
mod start;
mod turns;
mod watch;

pub use driver::{Command, Driver, Handle, Wish};
pub use key::HostKey;
pub use pool::{Caps, Waits};
pub use ready::SANDBOX_MIB;
pub use record::Record;
pub use shared::Shared;
pub use stage::Stage;
