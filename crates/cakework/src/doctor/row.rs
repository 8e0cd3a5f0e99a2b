//! One line of a doctor's report.

use std::io::IsTerminal as _;

use serde::Serialize;

use crate::print_line;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is as it should be.
    Ok,
    /// VMs run, and something could be better.
    Warn,
    /// VMs can't run.
    Gap,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What was looked at.
    pub name: &'static str,
    /// How it is.
    pub status: Status,
    /// What was seen.
    pub detail: String,
    /// The command that repairs it.
    pub fix: Option<String>,
}

impl Row {
    pub fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, detail: detail.into(), fix: None }
    }

    pub fn warn(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, status: Status::Warn, detail: detail.into(), fix: Some(fix.into()) }
    }

    pub fn gap(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, status: Status::Gap, detail: detail.into(), fix: Some(fix.into()) }
    }

    /// For a terminal or a pipe.
    pub fn print(&self) {
        let (word, colour) = match self.status {
            Status::Ok => ("ok", 32),
            Status::Warn => ("warn", 33),
            Status::Gap => ("gap", 31),
        };
        let word = if std::io::stdout().is_terminal() {
            format!("\x1b[{colour}m{word:4}\x1b[0m")
        } else {
            format!("{word:4}")
        };
        print_line(&format!("{word}  {:10}  {}", self.name, self.detail));
        if let Some(fix) = &self.fix {
            print_line(&format!("                  fix: {fix}"));
        }
    }

    /// For a server's log, where only what is wrong is of interest.
    pub fn log(&self) {
        let fix = self.fix.as_deref().unwrap_or_default();
        match self.status {
            Status::Ok => tracing::debug!(check = self.name, "{}", self.detail),
            Status::Warn => tracing::warn!(check = self.name, fix, "{}", self.detail),
            Status::Gap => tracing::error!(check = self.name, fix, "{}", self.detail),
        }
    }
}
