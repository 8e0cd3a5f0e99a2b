//! The binary: one program, a role for each level of trust.
//!
//! Invariant: the roles `monitor`, `guest` and `unpack` are dispatched before anything is set up, because a monitor lives
//! beside each VM with 1 MiB of its own memory, a guest runs in a VM, and an unpacker confines itself before it reads a byte.

mod backup;
mod cli;
mod config;
mod doctor;
mod identity;
mod instance;
mod inventory;
mod keys;
mod logging;
mod pages;
mod pool;
mod privilege;
mod purge;
mod role;
mod serve;
mod supervisor;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use cakework_agent::monitor;
use clap::Parser as _;

use crate::cli::{Cli, Command};

cakework_guest::starts_from_an_open_file!();

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(role) if role == "monitor" => run_monitor(args),
        Some(role) if role == "guest" => cakework_guest::main(args),
        Some(role) if role == "unpack" => cakework_image::unpack::child_main(),
        _ => run_command(Cli::parse()),
    }
}

/// `monitor --vm-dir DIR boot|attach`: only the agent types it, so its form is fixed.
fn run_monitor(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(flag), Some(dir), Some(mode), None) = (args.next(), args.next(), args.next(), args.next()) else {
        return ExitCode::from(2);
    };
    let mode = match mode.to_str() {
        Some("boot") => monitor::Mode::Boot,
        Some("attach") => monitor::Mode::Attach,
        _ => return ExitCode::from(2),
    };
    if flag != "--vm-dir" {
        return ExitCode::from(2);
    }
    monitor::main(Path::new(&dir), mode)
}

fn run_command(cli: Cli) -> ExitCode {
    let logs = logging::Options { filter: cli.log, format: cli.log_format.into() };
    let done = match cli.command {
        Command::Agent => return role::agent(),
        Command::Api => return role::api(),
        Command::Dns => return role::dns(),
        Command::Serve(options) => serve::run(options, logs),
        Command::Doctor(options) => doctor::run(&options),
        Command::Key(command) => keys::run(command),
        Command::Config(cli::Config::Check(options)) => config::check(&options.overrides, &options.addresses),
        Command::Backup(options) => backup::save(&options),
        Command::Restore(options) => backup::restore(&options),
        Command::RotateKey(options) => keys::rotate(&options.overrides),
        Command::Purge(options) => purge::run(&options),
        Command::Client(command) => return cakework_cli::run(command),
        Command::Completions(options) => pages::completions(options.shell),
        Command::Man(options) => pages::man(&options.dir),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// The one place that writes to stdout: what a command answers. A reader that is gone wants no more.
fn print_line(line: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// The one place that tells a person about a failure: the sentence, then its causes.
#[allow(clippy::print_stderr)]
fn complain(error: &anyhow::Error) {
    eprintln!("cakework: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
}
