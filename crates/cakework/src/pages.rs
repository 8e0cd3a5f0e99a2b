//! What is made of the command line's own description: completions for shells, and manual pages.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;

/// Writes a shell's completions to stdout.
///
/// # Errors
/// A stdout that takes no more.
pub fn completions(shell: Shell) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cakework", &mut text);
    std::io::stdout().lock().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a page for each command into a directory: `cakework.1`, `cakework-vm-list.1`.
///
/// # Errors
/// A directory that can't be written to.
pub fn man(dir: &Path) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(dir).with_context(|| format!("{} can't be made", dir.display()))?;
    clap_mangen::generate_to(Cli::command(), dir).with_context(|| format!("{} can't be written to", dir.display()))?;
    Ok(ExitCode::SUCCESS)
}
