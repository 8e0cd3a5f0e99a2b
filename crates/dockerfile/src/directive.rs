//! Parser directives: `# syntax=`, `# escape=`, `# check=` on the first lines.

use crate::fault::{Refusal, invalid, shown, unsupported};

/// What the first lines say.
#[derive(Debug)]
pub(crate) struct Directives {
    /// `\` or a backtick.
    pub escape: char,
    seen: Vec<&'static str>,
    over: bool,
}

impl Default for Directives {
    fn default() -> Self {
        Self { escape: '\\', seen: Vec::new(), over: false }
    }
}

/// What a line is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Directive,
    Nothing,
}

impl Directives {
    /// Reads a line. With the first one that is no directive they are over.
    pub fn read(&mut self, line: &str) -> Result<Found, Refusal> {
        let Some((name, value)) = (if self.over { None } else { split(line) }) else {
            self.over = true;
            return Ok(Found::Nothing);
        };
        if self.seen.contains(&name) {
            return Err(invalid(format!("There are two `# {name}=` directives. Remove one.")));
        }
        self.seen.push(name);
        match name {
            "escape" => {
                self.escape = match value {
                    "\\" => '\\',
                    "`" => '`',
                    _ => return Err(invalid("`# escape=` is `\\` or a backtick.")),
                };
            }
            "syntax" => check_frontend(value)?,
            _ => {}
        }
        Ok(Found::Directive)
    }
}

/// `# name = value`, where it is a name that counts.
fn split(line: &str) -> Option<(&'static str, &str)> {
    let (name, value) = line.strip_prefix('#')?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let known = ["syntax", "escape", "check"].into_iter().find(|known| name.eq_ignore_ascii_case(known))?;
    (!value.is_empty()).then_some((known, value))
}

/// Only Docker's own frontend is followed, whatever its version: an instruction or flag that is too new says so itself.
fn check_frontend(value: &str) -> Result<(), Refusal> {
    let reference = value.split_whitespace().next().unwrap_or_default();
    let repository = ["docker.io/", "index.docker.io/"]
        .iter()
        .find_map(|host| reference.strip_prefix(host))
        .unwrap_or(reference)
        .split([':', '@'])
        .next();
    if repository == Some("docker/dockerfile") {
        return Ok(());
    }
    Err(unsupported(format!(
        "The frontend {} is not supported. Use docker/dockerfile:1, or leave `# syntax=` out.",
        shown(reference)
    )))
}
