//! Words: how quotes, escapes and variables in an instruction are read, as BuildKit's `shell` package does it.
//!
//! Expansion is where a short text can become a long one, so all that an instruction expands to is paid from one
//! [`Budget`], and braces nest to a fixed depth.

use std::cell::Cell;

use crate::fault::{Refusal, invalid};
use crate::substitute;

/// Bytes to which one instruction may expand.
pub(crate) const EXPANDED_MAX_BYTES: usize = 1024 * 1024;
/// How deep `${a:-${b:-…}}` may go.
const NESTING_MAX: u32 = 32;

/// Where values come from.
pub(crate) trait Variables {
    /// The value, where there is such a variable.
    fn get(&self, name: &str) -> Option<&str>;
}

/// No variables.
pub(crate) struct Nothing;

impl Variables for Nothing {
    fn get(&self, _: &str) -> Option<&str> {
        None
    }
}

/// What is left of [`EXPANDED_MAX_BYTES`].
#[derive(Debug)]
pub(crate) struct Budget(Cell<usize>);

impl Budget {
    pub const fn new() -> Self {
        Self(Cell::new(EXPANDED_MAX_BYTES))
    }

    pub fn spend(&self, bytes: usize) -> Result<(), Refusal> {
        let left = self.0.get().checked_sub(bytes).ok_or_else(|| {
            invalid(format!("It expands to more than {EXPANDED_MAX_BYTES} bytes. Use shorter values or split it."))
        })?;
        self.0.set(left);
        Ok(())
    }
}

/// How words are read.
#[derive(Clone, Copy)]
pub(crate) struct Lex<'a> {
    /// What takes the meaning from the next character.
    pub escape: char,
    /// Quotes stay.
    pub raw_quotes: bool,
    /// Escapes stay.
    pub raw_escapes: bool,
    /// Quotes are characters like others.
    pub plain_quotes: bool,
    /// What names a variable that is not set stays as it is written.
    pub keep_unset: bool,
    /// Where values come from.
    pub variables: &'a dyn Variables,
    /// What all results are paid from.
    pub budget: &'a Budget,
}

impl<'a> Lex<'a> {
    pub const fn new(escape: char, variables: &'a dyn Variables, budget: &'a Budget) -> Self {
        Self {
            escape,
            raw_quotes: false,
            raw_escapes: false,
            plain_quotes: false,
            keep_unset: false,
            variables,
            budget,
        }
    }

    /// One word: what is between its spaces belongs to it.
    pub fn word(self, text: &str) -> Result<String, Refusal> {
        Ok(self.read(text)?.0)
    }

    /// The words that it is after expansion; spaces in quotes do not part them.
    pub fn words(self, text: &str) -> Result<Vec<String>, Refusal> {
        Ok(self.read(text)?.1)
    }

    fn read(self, text: &str) -> Result<(String, Vec<String>), Refusal> {
        let mut reader = Reader { lex: self, letters: text.chars().collect(), at: 0, depth: 0 };
        let raw_escapes = self.raw_escapes;
        let output = reader.until(None, raw_escapes)?;
        Ok((output.text, output.words.finish()))
    }
}

struct Reader<'a> {
    lex: Lex<'a>,
    letters: Vec<char>,
    at: usize,
    depth: u32,
}

#[derive(Default)]
struct Output {
    text: String,
    words: Words,
}

/// Words parted by spaces, where only some spaces part.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    open: String,
}

impl Words {
    fn push(&mut self, letter: char) {
        if !letter.is_whitespace() {
            self.open.push(letter);
        } else if !self.open.is_empty() {
            self.done.push(std::mem::take(&mut self.open));
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.open.is_empty() {
            self.done.push(self.open);
        }
        self.done
    }
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.letters.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.peek()?;
        self.at += 1;
        Some(letter)
    }

    /// Reads to a letter, which is consumed, or to the end.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<Output, Refusal> {
        let mut output = Output::default();
        while let Some(letter) = self.peek() {
            if Some(letter) == stop {
                self.at += 1;
                return Ok(output);
            }
            match letter {
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|letter| output.words.push(letter));
                    output.text.push_str(&value);
                }
                '\'' if !self.lex.plain_quotes => {
                    let quoted = self.single()?;
                    self.put_whole(&mut output, &quoted)?;
                }
                '"' if !self.lex.plain_quotes => {
                    let quoted = self.double(raw_escapes)?;
                    self.put_whole(&mut output, &quoted)?;
                }
                '<' => {
                    let start = self.start_of_here_document();
                    self.put_whole(&mut output, &start)?;
                }
                _ => {
                    self.at += 1;
                    self.lex.budget.spend(letter.len_utf8())?;
                    if letter == self.lex.escape {
                        if raw_escapes {
                            output.text.push(letter);
                            output.words.open.push(letter);
                        }
                        let Some(escaped) = self.next() else { break };
                        self.lex.budget.spend(escaped.len_utf8())?;
                        output.text.push(escaped);
                        output.words.open.push(escaped);
                    } else {
                        output.text.push(letter);
                        output.words.push(letter);
                    }
                }
            }
        }
        match stop {
            Some('}') => Err(invalid("A `${` has no `}`.")),
            Some(stop) => Err(invalid(format!("A `${{` has no `{stop}`."))),
            None => Ok(output),
        }
    }

    fn put_whole(&self, output: &mut Output, text: &str) -> Result<(), Refusal> {
        self.lex.budget.spend(text.len())?;
        output.text.push_str(text);
        output.words.open.push_str(text);
        Ok(())
    }

    /// `<<` and the spaces after it are one with the word that follows.
    fn start_of_here_document(&mut self) -> String {
        self.at += 1;
        let mut start = String::from("<");
        if self.peek() == Some('<') {
            self.at += 1;
            start.push('<');
            while let Some(space @ (' ' | '\t' | '\r')) = self.peek() {
                self.at += 1;
                start.push(space);
            }
        }
        start
    }

    fn single(&mut self) -> Result<String, Refusal> {
        self.at += 1;
        let mut quoted = String::new();
        loop {
            match self.next() {
                None => return Err(invalid("A single quote has no end. Close it, or escape it.")),
                Some('\'') => break,
                Some(letter) => quoted.push(letter),
            }
        }
        Ok(if self.lex.raw_quotes { format!("'{quoted}'") } else { quoted })
    }

    fn double(&mut self, raw_escapes: bool) -> Result<String, Refusal> {
        self.at += 1;
        let mut quoted = String::new();
        loop {
            match self.peek() {
                None => return Err(invalid("A double quote has no end. Close it, or escape it.")),
                Some('"') => {
                    self.at += 1;
                    break;
                }
                Some('$') => quoted.push_str(&self.dollar()?),
                Some(letter) => {
                    self.at += 1;
                    if letter != self.lex.escape {
                        quoted.push(letter);
                        continue;
                    }
                    if raw_escapes {
                        quoted.push(letter);
                    }
                    match self.peek() {
                        None => {}
                        // Only these lose their meaning by an escape; before all else it is itself.
                        Some(next) if next == '"' || next == '$' || next == self.lex.escape => {
                            self.at += 1;
                            quoted.push(next);
                        }
                        Some(_) => quoted.push(letter),
                    }
                }
            }
        }
        Ok(if self.lex.raw_quotes { format!("\"{quoted}\"") } else { quoted })
    }

    fn dollar(&mut self) -> Result<String, Refusal> {
        self.at += 1;
        if self.peek() != Some('{') {
            let name = self.name();
            let value = match self.lex.variables.get(&name) {
                _ if name.is_empty() => "$".to_owned(),
                None if self.lex.keep_unset => format!("${name}"),
                None => String::new(),
                Some(value) => value.to_owned(),
            };
            self.lex.budget.spend(value.len())?;
            return Ok(value);
        }
        self.at += 1;
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(invalid(format!("`${{…}}` is nested more than {NESTING_MAX} deep.")));
        }
        let value = self.braces()?;
        self.depth -= 1;
        self.lex.budget.spend(value.len())?;
        Ok(value)
    }

    /// What follows `${`.
    fn braces(&mut self) -> Result<String, Refusal> {
        match self.peek() {
            None => return Err(invalid("A `${` has no `}`.")),
            Some('{' | '}' | ':') => return Err(invalid("After `${` comes a variable's name.")),
            Some(_) => {}
        }
        let name = self.name();
        let value = self.lex.variables.get(&name).map(str::to_owned);
        let unset = self.lex.keep_unset && value.is_none();
        let Some(mut modifier) = self.next() else { return Err(invalid("A `${` has no `}`.")) };
        match modifier {
            '}' if unset => return Ok(format!("${{{name}}}")),
            '}' => return Ok(value.unwrap_or_default()),
            '/' => return self.replacement(&name, value),
            _ => {}
        }
        let empty_is_unset = modifier == ':';
        if empty_is_unset {
            modifier = self.next().ok_or_else(|| invalid("A `${` has no `}`."))?;
        }
        if !matches!((modifier, empty_is_unset), ('+' | '-' | '?', _) | ('#' | '%', false)) {
            let colon = if empty_is_unset { ":" } else { "" };
            return Err(invalid(format!("`{colon}{modifier}` in `${{{name}…}}` is no modifier that is known.")));
        }
        let word = self.until(Some('}'), matches!(modifier, '#' | '%'))?.text;
        if unset {
            let colon = if empty_is_unset { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let usable = value.as_deref().filter(|value| !(empty_is_unset && value.is_empty()));
        match (modifier, usable) {
            ('-', None) | ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            ('-' | '?', Some(value)) => Ok(value.to_owned()),
            ('?', None) => {
                let state = if value.is_none() { "is not set" } else { "is empty" };
                Err(invalid(if word.is_empty() {
                    format!("The variable {name} {state}.")
                } else {
                    format!("The variable {name} {state}: {}", crate::fault::shown(&word))
                }))
            }
            _ => {
                let (greedy, pattern) = match word.strip_prefix(modifier) {
                    Some(rest) => (true, rest),
                    None => (false, word.as_str()),
                };
                let value = value.unwrap_or_default();
                substitute::trim(pattern, &value, modifier == '%', greedy, self.lex.budget)
            }
        }
    }

    /// What follows `${name/`.
    fn replacement(&mut self, name: &str, value: Option<String>) -> Result<String, Refusal> {
        let all = self.peek() == Some('/');
        if all {
            self.at += 1;
        }
        let pattern = self.until(Some('/'), true)?.text;
        let replacement = self.until(Some('}'), true)?.text;
        match value {
            None if self.lex.keep_unset => Ok(format!("${{{name}/{pattern}/{replacement}}}")),
            value => substitute::replace(&pattern, &value.unwrap_or_default(), &replacement, all, self.lex.budget),
        }
    }

    /// A name: letters, digits and `_`; a number; or one of the shell's own.
    fn name(&mut self) -> String {
        let start = self.at;
        match self.peek() {
            Some(letter) if letter.is_numeric() => {
                while self.peek().is_some_and(char::is_numeric) {
                    self.at += 1;
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => self.at += 1,
            _ => {
                while self.peek().is_some_and(|letter| letter.is_alphanumeric() || letter == '_') {
                    self.at += 1;
                }
            }
        }
        self.letters[start..self.at].iter().collect()
    }
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
