//! Dockerfiles: what they say, which stages a build needs, what each step does, and by which key its result is found
//! again. Pure: no file, no clock, no network; whoever executes steps does that.
//!
//! ```text
//! text --parse--> instructions --plan--> Plan (stages in order, images needed)
//!                                          | Walker: base configuration in, one expanded Step after the other out
//!                                          v
//!                               Step --key(parent, content)--> Key
//! ```
//! Invariant: a Dockerfile is a stranger's text. Every size is bounded, no input panics, and an instruction or flag that
//! is not supported is a [`Fault`] with its line, never left out in silence.

mod command;
mod config;
mod configure;
mod copy;
mod directive;
mod fault;
mod flag;
mod glob;
mod healthcheck;
mod heredoc;
mod ignore;
mod key;
mod material;
mod mount;
mod path;
mod plan;
mod port;
mod run;
mod scope;
mod stage;
mod step;
mod substitute;
mod text;
mod walker;
mod words;

pub use config::{Config, Empty, Healthcheck};
pub use fault::{Fault, FaultCode};
pub use ignore::{Ignore, Pattern};
pub use key::Key;
pub use plan::{Base, Inputs, Plan, Stage, plan};
pub use step::{Action, Copy, Mount, MountKind, Run, Script, Sharing, Source, Step, Tree};
pub use walker::Walker;
