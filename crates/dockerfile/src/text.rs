//! From text to instructions: directives, comments, continued lines, here-documents.
//!
//! Lines are read as BuildKit's `parser` package reads them. `parse-dockerfile`, the parser that the rest of Rust uses,
//! knows a here-document only as the first word of a RUN and drops its name in COPY, so it stands in the tests only: where
//! there are no here-documents, both must see the same instructions.

use cakework_core::limit::{DOCKERFILE_INSTRUCTIONS_MAX, DOCKERFILE_MAX_BYTES};

use crate::directive::{Directives, Found};
use crate::fault::{Fault, Place, invalid, shown};
use crate::flag;
use crate::heredoc::{self, Heredoc};

/// A Dockerfile's instructions.
#[derive(Debug)]
pub(crate) struct Document {
    /// What takes the meaning from the next character.
    pub escape: char,
    pub instructions: Vec<Instruction>,
}

/// An instruction, with nothing expanded.
#[derive(Debug)]
pub(crate) struct Instruction {
    /// In upper case.
    pub keyword: String,
    /// `--name` or `--name=value`, without their quotes.
    pub flags: Vec<String>,
    /// What follows, on one line, without spaces around it.
    pub rest: String,
    pub heredocs: Vec<Heredoc>,
    pub place: Place,
}

/// Reads a Dockerfile.
pub(crate) fn read(text: &str) -> Result<Document, Fault> {
    if text.len() > DOCKERFILE_MAX_BYTES {
        return Err(Place::line(1).fault(invalid(format!(
            "The Dockerfile has more than {DOCKERFILE_MAX_BYTES} bytes. Put long scripts into files of their own."
        ))));
    }
    if let Some(at) = text.find('\0') {
        let line = text[..at].bytes().filter(|byte| *byte == b'\n').count() + 1;
        return Err(Place::line(number(line)).fault(invalid("There is a NUL character. A Dockerfile is plain text.")));
    }
    let mut reader = Reader {
        lines: text.strip_prefix('\u{feff}').unwrap_or(text).split_inclusive('\n'),
        line: 0,
        directives: Directives::default(),
    };
    let mut instructions = Vec::new();
    while let Some(instruction) = reader.instruction()? {
        if instructions.len() == DOCKERFILE_INSTRUCTIONS_MAX {
            return Err(instruction.place.fault(invalid(format!(
                "The Dockerfile has more than {DOCKERFILE_INSTRUCTIONS_MAX} instructions. Join some of them."
            ))));
        }
        instructions.push(instruction);
    }
    Ok(Document { escape: reader.directives.escape, instructions })
}

struct Reader<'a> {
    lines: std::str::SplitInclusive<'a, char>,
    /// Lines read so far.
    line: usize,
    directives: Directives,
}

impl<'a> Reader<'a> {
    /// The next line, with its end.
    fn next(&mut self) -> Option<&'a str> {
        let line = self.lines.next()?;
        self.line += 1;
        Some(line)
    }

    fn instruction(&mut self) -> Result<Option<Instruction>, Fault> {
        loop {
            let Some(line) = self.next() else { return Ok(None) };
            let line = trim_end(line).trim_start();
            let start = self.line;
            let directive =
                self.directives.read(line).map_err(|refusal| Place::of(line, number(start)).fault(refusal))?;
            if directive == Found::Directive || line.starts_with('#') {
                continue;
            }
            let logical = self.continued(line);
            if logical.trim().is_empty() {
                continue;
            }
            return self.parts(&logical, number(start)).map(Some);
        }
    }

    /// A line with those that continue it; comments and empty lines between them are not part of it.
    fn continued(&mut self, first: &str) -> String {
        let (head, mut open) = self.without_continuation(first);
        let mut logical = head.to_owned();
        while open {
            let Some(line) = self.next() else { break };
            let line = trim_end(line);
            let content = line.trim_start();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let (part, more) = self.without_continuation(line);
            logical.push_str(part);
            open = more;
        }
        logical
    }

    /// An escape at a line's end continues it, unless another one is before it.
    fn without_continuation<'b>(&self, line: &'b str) -> (&'b str, bool) {
        let escape = self.directives.escape;
        match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
            Some(head) if !head.ends_with(escape) => (head, true),
            _ => (line, false),
        }
    }

    fn parts(&mut self, logical: &str, line: u32) -> Result<Instruction, Fault> {
        let place = Place::of(logical, line);
        let logical = logical.trim();
        let (keyword, rest) = logical.split_once(SPACES).unwrap_or((logical, ""));
        let keyword = keyword.to_ascii_uppercase();
        let (flags, rest) = flag::split(rest, self.directives.escape);
        let mut heredocs = Vec::new();
        if matches!(keyword.as_str(), "RUN" | "COPY" | "ADD") && logical.contains("<<") && json(rest).is_none() {
            for mut heredoc in heredoc::starts(logical).map_err(|refusal| place.fault(refusal))? {
                self.content(&mut heredoc, &place)?;
                heredocs.push(heredoc);
            }
        }
        let rest = rest.trim().to_owned();
        Ok(Instruction { keyword, flags, rest, heredocs, place })
    }

    fn content(&mut self, heredoc: &mut Heredoc, place: &Place) -> Result<(), Fault> {
        while let Some(line) = self.next() {
            let end = trim_end(line);
            let end = if heredoc.chomp { end.trim_start_matches('\t') } else { end };
            if end == heredoc.name {
                return Ok(());
            }
            heredoc.content.push_str(line);
        }
        Err(place.fault(invalid(format!(
            "The here-document {0} has no end. Put a line with nothing but {0} after it.",
            shown(&heredoc.name)
        ))))
    }
}

/// What parts an instruction's words.
pub(crate) const SPACES: [char; 5] = [' ', '\t', '\x0b', '\x0c', '\r'];

/// Reads a list of words in JSON; `None` where it is none.
pub(crate) fn json(text: &str) -> Option<Vec<serde_json::Value>> {
    if !text.trim_start().starts_with('[') {
        return None;
    }
    serde_json::from_str(text).ok()
}

fn trim_end(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
}

fn number(line: usize) -> u32 {
    u32::try_from(line).expect("a text within its limit has fewer lines")
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
