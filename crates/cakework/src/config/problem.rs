//! What is wrong with a configuration, and how it is said.

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line in the file, from 1, where the file is to blame.
    pub line: Option<usize>,
    /// The key, such as `network.pool`.
    pub key: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub fix: String,
}

/// All that is wrong.
#[derive(Debug, thiserror::Error)]
pub struct Invalid {
    /// The file that was read, if one was.
    pub file: Option<PathBuf>,
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration can't be used")?;
        for problem in &self.problems {
            f.write_str("\n  ")?;
            match (&self.file, problem.line) {
                (Some(file), Some(line)) => write!(f, "{}:{line}: ", file.display())?,
                (Some(file), None) if problem.key.is_none() => write!(f, "{}: ", file.display())?,
                _ => {}
            }
            if let Some(key) = &problem.key {
                write!(f, "{key}: ")?;
            }
            write!(f, "{}\n    hint: {}", problem.message, problem.fix)?;
        }
        Ok(())
    }
}
