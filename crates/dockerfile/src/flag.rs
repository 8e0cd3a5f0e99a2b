//! Flags of an instruction: `--name`, `--name=value`.

use crate::fault::{Refusal, invalid, shown, unsupported};

/// Splits the flags from what follows them. Quotes and escapes in a flag are resolved.
pub(crate) fn split(text: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = text.trim_start();
    while rest.starts_with("--") {
        let (word, after) = word(rest, escape);
        rest = after.trim_start();
        if word == "--" {
            break;
        }
        flags.push(word);
    }
    (flags, rest)
}

/// The first word, and what follows it.
fn word(text: &str, escape: char) -> (String, &str) {
    let mut word = String::new();
    let mut quote = None;
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match quote {
            _ if letter == escape => word.extend(letters.next().map(|(_, letter)| letter)),
            None if letter.is_whitespace() => return (word, &text[at..]),
            None if matches!(letter, '\'' | '"') => quote = Some(letter),
            Some(open) if letter == open => quote = None,
            _ => word.push(letter),
        }
    }
    (word, "")
}

/// The flags of one instruction, taken one after the other.
#[derive(Debug)]
pub(crate) struct Flags(Vec<(String, Option<String>)>);

impl Flags {
    pub fn new(flags: &[String]) -> Self {
        Self(
            flags
                .iter()
                .map(|flag| {
                    let flag = flag.strip_prefix("--").unwrap_or(flag);
                    match flag.split_once('=') {
                        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                        None => (flag.to_owned(), None),
                    }
                })
                .collect(),
        )
    }

    /// All values of a flag that may stand more than once.
    pub fn all(&mut self, name: &str) -> Result<Vec<String>, Refusal> {
        let (found, left) = std::mem::take(&mut self.0).into_iter().partition(|(other, _)| other == name);
        self.0 = left;
        let found: Vec<(String, Option<String>)> = found;
        found.into_iter().map(|(_, value)| value.ok_or_else(|| no_value(name))).collect()
    }

    /// The value of a flag that stands once.
    pub fn one(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        let mut values = self.all(name)?;
        if values.len() > 1 {
            return Err(invalid(format!("The flag --{name} is there twice. Remove one.")));
        }
        Ok(values.pop())
    }

    /// Whether a flag that is yes or no is there.
    pub fn switch(&mut self, name: &str) -> Result<bool, Refusal> {
        for (other, value) in &mut self.0 {
            if other == name && value.is_none() {
                *value = Some("true".to_owned());
            }
        }
        match self.one(name)?.map(|value| value.to_ascii_lowercase()).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(invalid(format!("The flag --{name} is `true` or `false`."))),
        }
    }

    /// Refuses a flag that BuildKit has and this does not, whatever its value.
    pub fn refuse(&self, name: &str, instead: &str) -> Result<(), Refusal> {
        if self.0.iter().any(|(other, _)| other == name) {
            return Err(unsupported(format!("The flag --{name} is not supported. {instead}")));
        }
        Ok(())
    }

    /// As [`Self::refuse`], for a switch that may be off.
    pub fn refuse_on(&mut self, name: &str, instead: &str) -> Result<(), Refusal> {
        if self.switch(name)? {
            return Err(unsupported(format!("The flag --{name} is not supported. {instead}")));
        }
        Ok(())
    }

    /// Refuses what is left.
    pub fn end(self, keyword: &str) -> Result<(), Refusal> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(unsupported(format!(
                "{keyword} has no flag --{}. Remove it; what begins with `--` and is no flag stands after a lone `--`.",
                shown(name)
            ))),
        }
    }
}

fn no_value(name: &str) -> Refusal {
    invalid(format!("The flag --{name} needs a value: --{name}=…"))
}
