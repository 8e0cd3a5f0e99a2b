//! `${name#pattern}`, `${name%pattern}`, `${name/pattern/replacement}`: `*` is any text, `?` any letter, `\` escapes.

use regex::Regex;

use crate::fault::{Refusal, invalid, shown};
use crate::words::Budget;

/// Characters of a pattern: it is compiled each time it is met.
const PATTERN_MAX_BYTES: usize = 1024;
/// Bytes that one use of a pattern costs beside its value's, so that the uses in an instruction are bounded.
const PATTERN_COST_BYTES: usize = 256;

/// The value without the shortest or (greedy) longest text at its start or end that the pattern means.
pub(crate) fn trim(pattern: &str, value: &str, at_end: bool, greedy: bool, budget: &Budget) -> Result<String, Refusal> {
    budget.spend(PATTERN_COST_BYTES + value.len())?;
    let pieces = pieces(pattern)?;
    if !at_end {
        let regex = compile(pieces.iter(), pattern, greedy, true)?;
        return Ok(value[regex.find(value).map_or(0, |found| found.end())..].to_owned());
    }
    // A regular expression finds what is leftmost; backwards that is what is rightmost.
    let regex = compile(pieces.iter().rev(), pattern, greedy, true)?;
    let backwards: String = value.chars().rev().collect();
    let kept = backwards.len() - regex.find(&backwards).map_or(0, |found| found.end());
    Ok(value[..kept].to_owned())
}

/// The value with the first or every text that the pattern means replaced.
pub(crate) fn replace(
    pattern: &str,
    value: &str,
    replacement: &str,
    all: bool,
    budget: &Budget,
) -> Result<String, Refusal> {
    budget.spend(PATTERN_COST_BYTES + value.len())?;
    let regex = compile(pieces(pattern)?.iter(), pattern, true, false)?;
    let mut result = String::new();
    let mut kept = 0;
    for found in regex.find_iter(value).take(if all { usize::MAX } else { 1 }) {
        budget.spend(replacement.len())?;
        result.push_str(&value[kept..found.start()]);
        result.push_str(replacement);
        kept = found.end();
    }
    result.push_str(&value[kept..]);
    Ok(result)
}

enum Piece {
    Text,
    Letter,
    Exactly(char),
}

fn pieces(pattern: &str) -> Result<Vec<Piece>, Refusal> {
    if pattern.len() > PATTERN_MAX_BYTES {
        return Err(invalid(format!("A pattern in `${{…}}` has more than {PATTERN_MAX_BYTES} bytes.")));
    }
    let mut pieces = Vec::new();
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        pieces.push(match letter {
            '*' => Piece::Text,
            '?' => Piece::Letter,
            '\\' => match letters.next() {
                Some(escaped @ ('}' | '/' | '*' | '?' | '\\')) => Piece::Exactly(escaped),
                _ => {
                    return Err(invalid(format!(
                        "In the pattern {}, `\\` can only be before `*`, `?`, `/`, `}}` and `\\`.",
                        shown(pattern)
                    )));
                }
            },
            other => Piece::Exactly(other),
        });
    }
    Ok(pieces)
}

fn compile<'a>(
    pieces: impl Iterator<Item = &'a Piece>,
    pattern: &str,
    greedy: bool,
    anchored: bool,
) -> Result<Regex, Refusal> {
    let mut text = String::from(if anchored { "^" } else { "" });
    for piece in pieces {
        match piece {
            Piece::Text if greedy => text.push_str(".*"),
            Piece::Text => text.push_str(".*?"),
            Piece::Letter => text.push('.'),
            Piece::Exactly(letter) => text.push_str(&regex::escape(letter.encode_utf8(&mut [0; 4]))),
        }
    }
    Regex::new(&text).map_err(|_| invalid(format!("The pattern {} can't be used.", shown(pattern))))
}
