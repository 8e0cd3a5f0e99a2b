//! `.dockerignore`, and the patterns of COPY and ADD, with moby's meaning (`patternmatcher` of moby, `filepath.Match` of
//! Go): not git's.

use cakework_core::limit::DOCKERFILE_MAX_BYTES;

use crate::fault::{Fault, Place, Refusal, invalid, shown};
use crate::glob::{Glob, PATTERN_MAX_BYTES};
use crate::path;

/// Patterns of one list: each file of a context is held against all of them.
const PATTERNS_MAX: usize = 1_000;

/// What of a context is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignore {
    /// The last one that means a path decides.
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    glob: Glob,
    /// `!`: what is meant stays.
    exception: bool,
}

impl Ignore {
    /// Reads the text of a `.dockerignore`, or the values of `--exclude`, one a line.
    ///
    /// # Errors
    /// A pattern that is none, or too many of them.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        if text.len() > DOCKERFILE_MAX_BYTES {
            return Err(Place::line(1)
                .fault(invalid(format!("The .dockerignore has more than {DOCKERFILE_MAX_BYTES} bytes. Shorten it."))));
        }
        let mut ignore = Self::default();
        for (line, number) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().zip(1..) {
            if !line.starts_with('#') {
                ignore.add(line, true).map_err(|refusal| Place::of(line, number).fault(refusal))?;
            }
        }
        Ok(ignore)
    }

    /// Reads patterns one by one, where no line is a comment.
    pub(crate) fn patterns<'a>(patterns: impl Iterator<Item = &'a str>) -> Result<Self, Refusal> {
        let mut ignore = Self::default();
        for pattern in patterns {
            ignore.add(pattern, false)?;
        }
        Ok(ignore)
    }

    fn add(&mut self, line: &str, rooted: bool) -> Result<(), Refusal> {
        let pattern = line.trim();
        if pattern.is_empty() {
            return Ok(());
        }
        let (exception, pattern) = match pattern.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, pattern),
        };
        if pattern.is_empty() {
            return Err(invalid("After `!` comes a pattern."));
        }
        if self.rules.len() == PATTERNS_MAX {
            return Err(invalid(format!("There are more than {PATTERNS_MAX} patterns. Use wildcards.")));
        }
        let cleaned = path::clean(pattern);
        let cleaned = if rooted && cleaned.len() > 1 { cleaned.trim_start_matches('/') } else { &cleaned };
        let glob = Glob::ignore(cleaned).ok_or_else(|| {
            invalid(format!(
                "{} is no pattern: a `[` has no `]`, nothing is escaped, or it has more than {PATTERN_MAX_BYTES} bytes.",
                shown(pattern)
            ))
        })?;
        self.rules.push(Rule { glob, exception });
        Ok(())
    }

    /// Whether a path, relative and without a trailing `/`, is left out, by itself or by a directory above it.
    pub fn excludes(&self, path: &str) -> bool {
        self.decided_by(path).is_some()
    }

    /// Whether a directory may be passed over with all that is in it: it is left out, and no later exception can name
    /// something below it.
    pub fn prunes(&self, directory: &str) -> bool {
        self.decided_by(directory).is_some_and(|rule| {
            self.rules[rule..].iter().all(|later| !later.exception || !later.glob.reaches_below(directory))
        })
    }

    /// The last rule by which a path is left out.
    fn decided_by(&self, path: &str) -> Option<usize> {
        let (at, rule) = self.rules.iter().enumerate().rev().find(|(_, rule)| rule.glob.covers(path))?;
        (!rule.exception).then_some(at)
    }
}

/// A source of COPY: a path whose components may hold `*`, `?` and `[…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    glob: Glob,
    literal: Option<String>,
}

impl Pattern {
    /// Reads a pattern; `None` where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let glob = Glob::path(text)?;
        Some(Self { literal: glob.literal(), glob })
    }

    /// It holds no wildcard: it is this path.
    pub fn literal(&self) -> Option<&str> {
        self.literal.as_deref()
    }

    /// Whether a path, relative and without a trailing `/`, is meant; `*` does not match `/`.
    pub fn matches(&self, path: &str) -> bool {
        self.glob.matches(path)
    }
}

#[cfg(test)]
#[path = "ignore_tests.rs"]
mod tests;
