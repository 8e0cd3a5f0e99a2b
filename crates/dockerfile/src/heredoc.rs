//! Here-documents: `<<NAME`, `<<-NAME`, `<<"NAME"`.

use crate::fault::Refusal;
use crate::words::{Budget, Lex, Nothing};

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heredoc {
    /// What ends it.
    pub name: String,
    /// Its name was not quoted: variables in it are expanded.
    pub expand: bool,
    /// `<<-`: tabs at the start of its lines are not part of it.
    pub chomp: bool,
    /// Its lines, with their ends, as they are written.
    pub content: String,
}

impl Heredoc {
    /// Its content, without the tabs that `<<-` takes away.
    pub fn chomped(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// The here-documents that an instruction begins.
pub(crate) fn starts(instruction: &str) -> Result<Vec<Heredoc>, Refusal> {
    let budget = Budget::new();
    let lex = Lex { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Lex::new('\\', &Nothing, &budget) };
    // What the shell would not read as words, such as one quote alone, has no here-documents either.
    let words = lex.words(instruction).unwrap_or_default();
    words.iter().filter_map(|word| start(word).transpose()).collect()
}

/// Whether a word begins a here-document, and which.
pub(crate) fn start(word: &str) -> Result<Option<Heredoc>, Refusal> {
    let Some(rest) = word.trim_start_matches(|digit: char| digit.is_ascii_digit()).strip_prefix("<<") else {
        return Ok(None);
    };
    let (chomp, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    let rest = rest.trim_start();
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let budget = Budget::new();
    let lex = Lex { keep_unset: true, ..Lex::new('\\', &Nothing, &budget) };
    let [name] = <[String; 1]>::try_from(lex.words(rest)?).unwrap_or_default();
    if name.is_empty() {
        return Ok(None);
    }
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    let raw = Lex { raw_quotes: true, ..lex }.word(rest)?;
    Ok(Some(Heredoc { expand: quotes(&name) == quotes(&raw), chomp, content: String::new(), name }))
}
