//! The binary: one program, a role for each trust level.
//!
//! Invariant: the roles `monitor` and `unpack` are dispatched before anything is set up, because a monitor runs
//! beside each VM and has a memory budget of 1 MiB, and an unpacker confines itself first of all.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match cli.command {
        _ => ExitCode::from(2),
    }
}
