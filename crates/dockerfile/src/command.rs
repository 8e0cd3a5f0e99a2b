//! An instruction as what it means, with nothing expanded: all that can be refused without knowing a value is refused
//! here, in stages that are not needed too.

use crate::config::Healthcheck;
use crate::copy::CopyCommand;
use crate::fault::{Refusal, invalid, shown, unsupported};
use crate::flag::Flags;
use crate::healthcheck;
use crate::run::RunCommand;
use crate::text::{Instruction, SPACES, json};

/// What an instruction of a stage asks for.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    /// Names, and values where they have one.
    Arg(Vec<(String, Option<String>)>),
    Cmd(Line),
    Copy(CopyCommand),
    Entrypoint(Line),
    Env(Vec<(String, String)>),
    Expose(Vec<String>),
    Healthcheck(Healthcheck),
    Label(Vec<(String, String)>),
    Maintainer(String),
    Run(RunCommand),
    Shell(Vec<String>),
    StopSignal(String),
    User(String),
    Volume(Vec<String>),
    Workdir(String),
}

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// A list in JSON: program and arguments.
    Exec(Vec<String>),
    /// What the shell reads.
    Shell(String),
}

impl Line {
    /// Reads the words of an instruction.
    pub fn parse(keyword: &str, rest: &str) -> Result<Self, Refusal> {
        if rest.is_empty() {
            return Err(invalid(format!("{keyword} needs a command.")));
        }
        Ok(list(rest)?.map_or_else(|| Self::Shell(rest.to_owned()), Self::Exec))
    }

    /// Program and arguments, where a shell is known.
    pub fn args(&self, shell: Option<&[String]>) -> Vec<String> {
        match self {
            Self::Exec(words) => words.clone(),
            Self::Shell(text) => {
                let mut args = shell.map_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()], <[String]>::to_vec);
                args.push(text.clone());
                args
            }
        }
    }
}

impl Command {
    /// Reads an instruction that is not FROM.
    pub fn parse(instruction: &Instruction, escape: char) -> Result<Self, Refusal> {
        let Instruction { keyword, flags, rest, .. } = instruction;
        let mut flags = Flags::new(flags);
        let command = match keyword.as_str() {
            "ARG" => Self::Arg(arguments(rest, escape)?),
            "CMD" => Self::Cmd(Line::parse(keyword, rest)?),
            "ADD" | "COPY" => Self::Copy(CopyCommand::parse(instruction, &mut flags)?),
            "ENTRYPOINT" => Self::Entrypoint(Line::parse(keyword, rest)?),
            "ENV" => Self::Env(pairs(keyword, rest, escape)?),
            "EXPOSE" => Self::Expose(
                some(keyword, rest)?.split(SPACES).filter(|word| !word.is_empty()).map(str::to_owned).collect(),
            ),
            "HEALTHCHECK" => Self::Healthcheck(healthcheck::parse(rest, &mut flags)?),
            "LABEL" => Self::Label(pairs(keyword, rest, escape)?),
            "MAINTAINER" => Self::Maintainer(some(keyword, rest)?.to_owned()),
            "RUN" => Self::Run(RunCommand::parse(instruction, &mut flags)?),
            "SHELL" => match list(rest)? {
                Some(words) if !words.is_empty() => Self::Shell(words),
                _ => return Err(invalid("SHELL needs a list in JSON, such as [\"/bin/bash\", \"-c\"].")),
            },
            "STOPSIGNAL" => Self::StopSignal(some(keyword, rest)?.to_owned()),
            "USER" => Self::User(some(keyword, rest)?.to_owned()),
            "VOLUME" => {
                let paths = words(some(keyword, rest)?)?;
                if paths.iter().any(|path| path.trim().is_empty()) {
                    return Err(invalid("VOLUME has an empty path. Remove it."));
                }
                Self::Volume(paths)
            }
            "WORKDIR" => Self::Workdir(some(keyword, rest)?.to_owned()),
            "ONBUILD" => {
                return Err(unsupported(
                    "ONBUILD is not supported. Write the instruction into the Dockerfiles that build on this one.",
                ));
            }
            _ => {
                return Err(invalid(format!(
                    "There is no instruction {}. A line that continues the one before needs `\\` at that one's end.",
                    shown(keyword)
                )));
            }
        };
        flags.end(keyword)?;
        Ok(command)
    }
}

/// What must follow a keyword.
fn some<'a>(keyword: &str, rest: &'a str) -> Result<&'a str, Refusal> {
    if rest.is_empty() { Err(invalid(format!("{keyword} needs an argument."))) } else { Ok(rest) }
}

/// A list in JSON; `None` where it is none.
pub(crate) fn list(rest: &str) -> Result<Option<Vec<String>>, Refusal> {
    let Some(values) = json(rest) else { return Ok(None) };
    let mut words = Vec::with_capacity(values.len());
    for value in values {
        match value {
            serde_json::Value::String(word) if word.contains('\0') => {
                return Err(invalid("A word has a NUL character. Remove it."));
            }
            serde_json::Value::String(word) => words.push(word),
            _ => return Err(invalid("A list in JSON holds strings only. Put each word into double quotes.")),
        }
    }
    Ok(Some(words))
}

/// A list in JSON, or words parted by spaces.
pub(crate) fn words(rest: &str) -> Result<Vec<String>, Refusal> {
    Ok(match list(rest)? {
        Some(words) => words,
        None => rest.split(SPACES).filter(|word| !word.is_empty()).map(str::to_owned).collect(),
    })
}

/// `NAME` and `NAME=value`.
fn arguments(rest: &str, escape: char) -> Result<Vec<(String, Option<String>)>, Refusal> {
    let words = quoted_words(some("ARG", rest)?, escape);
    words
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some(("", _)) => Err(invalid("An ARG has no name. Write NAME=value.")),
            Some((name, value)) => Ok((name.to_owned(), Some(value.to_owned()))),
            None => Ok((word, None)),
        })
        .collect()
}

/// `NAME=value …`, or `NAME value` as it was written once.
fn pairs(keyword: &str, rest: &str, escape: char) -> Result<Vec<(String, String)>, Refusal> {
    let words = quoted_words(some(keyword, rest)?, escape);
    if words.first().is_none_or(|word| !word.contains('=')) {
        return match rest.split_once(SPACES) {
            Some((name, value)) => Ok(vec![(name.to_owned(), value.trim_start_matches(SPACES).to_owned())]),
            None => Err(invalid(format!("{keyword} needs a name and a value: NAME=value."))),
        };
    }
    words
        .iter()
        .map(|word| match word.split_once('=') {
            None => Err(invalid(format!(
                "There is no `=` in {}. Write NAME=value, with quotes around a value that has spaces.",
                shown(word)
            ))),
            Some(("", _)) => Err(invalid(format!("A {keyword} has no name. Write NAME=value."))),
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        })
        .collect()
}

/// Words parted by spaces that are neither quoted nor escaped; quotes and escapes stay.
fn quoted_words(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if quote.is_none() && letter.is_whitespace() {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            continue;
        }
        if letter == escape && quote != Some('\'') {
            // An escape at the end escapes nothing.
            if let Some(escaped) = letters.next() {
                word.extend([letter, escaped]);
            }
            continue;
        }
        match quote {
            None if matches!(letter, '\'' | '"') => quote = Some(letter),
            Some(open) if letter == open => quote = None,
            _ => {}
        }
        word.push(letter);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_quotes() {
        for (text, expected) in [
            ("a=1  b='2 3' c=\"4 \\\" 5\"", vec!["a=1", "b='2 3'", "c=\"4 \\\" 5\""]),
            ("a=1\\ 2 b", vec!["a=1\\ 2", "b"]),
            ("a='\\' b", vec!["a='\\'", "b"]),
            ("a=\\\" b", vec!["a=\\\"", "b"]),
            ("a=\"\"", vec!["a=\"\""]),
            ("a\\", vec!["a"]),
        ] {
            assert_eq!(quoted_words(text, '\\'), expected, "{text}");
        }
    }
}
