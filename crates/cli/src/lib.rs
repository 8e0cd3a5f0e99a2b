//! The commands of builders and their end users. They know the server by its public API alone.
//!
//! Data goes to stdout; progress, facts and errors to stderr. Whatever comes from a VM, a build or a server is shown without
//! control characters, so that a log can do nothing to the terminal that it is read in.
//!
//! Invariant: a key is read from a profile or the environment, never from an argument, and is in no message.

pub mod args;
mod client;
mod commands;
mod failure;
mod follow;
mod profile;
mod progress;
mod project;
mod show;
mod terminal;
mod upload;

use std::process::ExitCode;

pub use args::ClientCommand;

/// Runs a command to its end and says how it went.
pub fn run(command: ClientCommand) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            show::fact(&format!("error: the program can't start its threads: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(terminal::until_interrupted(commands::run(command)));
    // A read of stdin that nobody waits for any more is left to the process's end.
    runtime.shutdown_background();
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.say();
            failure.exit.into()
        }
    }
}
