//! Which variables an instruction sees, and what a build is given beside its own.

use crate::config::Config;
use crate::fault::{Refusal, invalid, shown};
use crate::plan::Inputs;
use crate::words::{Budget, Lex, Variables};

/// Bytes of all variables of a stage, names and values: what an `execve` takes with room for arguments.
const VARIABLES_MAX_BYTES: usize = 256 * 1024;
/// Variables of a stage.
const VARIABLES_MAX: usize = 1_000;
/// ARGs that a RUN sees though nothing declares them, and that then are no part of its key: proxies do not change what a
/// command makes.
pub(crate) const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// The ARGs before the first FROM, and those that every build has.
#[derive(Debug, Clone)]
pub(crate) struct Globals(Vec<String>);

impl Globals {
    pub fn new(inputs: &Inputs, stage: &str) -> Self {
        let architecture = inputs.architecture.as_str();
        let mut globals = Self(Vec::new());
        for (name, value) in [
            ("PLATFORM", format!("linux/{architecture}")),
            ("OS", "linux".to_owned()),
            ("OSVERSION", String::new()),
            ("ARCH", architecture.to_owned()),
            ("VARIANT", String::new()),
        ] {
            for side in ["BUILD", "TARGET"] {
                let name = format!("{side}{name}");
                let given = inputs.build_args.get(&name);
                set(&mut globals.0, &name, given.unwrap_or(&value));
            }
        }
        let stage = inputs.build_args.get("TARGETSTAGE").map_or(stage, String::as_str);
        set(&mut globals.0, "TARGETSTAGE", stage);
        globals
    }

    /// Takes in an ARG that stands before the first FROM.
    pub fn declare(
        &mut self,
        arguments: &[(String, Option<String>)],
        inputs: &Inputs,
        escape: char,
    ) -> Result<(), Refusal> {
        let budget = Budget::new();
        for (name, default) in arguments {
            let value = match (inputs.build_args.get(name), default) {
                (Some(given), _) => given.clone(),
                (None, Some(default)) => Lex::new(escape, self, &budget).word(default)?,
                (None, None) => continue,
            };
            set_within_limits(&mut self.0, name, &value)?;
        }
        Ok(())
    }
}

impl Variables for Globals {
    fn get(&self, name: &str) -> Option<&str> {
        get(&self.0, name)
    }
}

/// The variables of a stage: ENV wins over ARG.
pub(crate) struct Scope<'a> {
    pub config: &'a Config,
    pub escape: char,
    budget: Budget,
}

impl<'a> Scope<'a> {
    pub const fn new(config: &'a Config, escape: char) -> Self {
        Self { config, escape, budget: Budget::new() }
    }

    /// A word of an instruction.
    pub fn word(&self, text: &str) -> Result<String, Refusal> {
        Lex::new(self.escape, self, &self.budget).word(text)
    }

    /// The words that it is after expansion.
    pub fn words(&self, text: &str) -> Result<Vec<String>, Refusal> {
        Lex::new(self.escape, self, &self.budget).words(text)
    }

    /// The content of a here-document: quotes mean nothing there, and the escape is always `\`.
    pub fn content(&self, text: &str) -> Result<String, Refusal> {
        Lex { plain_quotes: true, ..Lex::new('\\', self, &self.budget) }.word(text)
    }

    /// A word that becomes a path, a user or the like.
    pub fn plain(&self, text: &str) -> Result<String, Refusal> {
        let word = self.word(text)?;
        if word.contains(char::is_control) {
            return Err(invalid(format!("{} has a control character. Remove it.", shown(&word))));
        }
        Ok(word)
    }
}

impl Variables for Scope<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.config.env(name).or_else(|| get(&self.config.args, name))
    }
}

/// The value of a variable in a list of `NAME=value`.
pub(crate) fn get<'a>(list: &'a [String], name: &str) -> Option<&'a str> {
    list.iter().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// Sets a variable in a list of `NAME=value`.
pub(crate) fn set(list: &mut Vec<String>, name: &str, value: &str) {
    let pair = format!("{name}={value}");
    match list.iter().position(|other| other.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))) {
        Some(at) => list[at] = pair,
        None => list.push(pair),
    }
}

/// As [`set`], for a variable that comes from outside.
pub(crate) fn set_within_limits(list: &mut Vec<String>, name: &str, value: &str) -> Result<(), Refusal> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(invalid(format!("{} can't be a variable's name.", shown(name))));
    }
    if value.contains('\0') {
        return Err(invalid(format!("The value of {} has a NUL character.", shown(name))));
    }
    set(list, name, value);
    let bytes: usize = list.iter().map(String::len).sum();
    if list.len() > VARIABLES_MAX || bytes > VARIABLES_MAX_BYTES {
        return Err(invalid(format!(
            "There are more than {VARIABLES_MAX} variables or {VARIABLES_MAX_BYTES} bytes of them. Use a file instead."
        )));
    }
    Ok(())
}
