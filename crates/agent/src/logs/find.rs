//! Case-insensitive substrings.
//!
//! Letters are compared by Unicode's lower case, character by character; there is no normalisation. A search string of
//! ASCII alone finds ASCII alone, so that the usual query never decodes a line.

use memchr::{memchr_iter, memchr2_iter};

/// A search string, ready for many lines.
#[derive(Debug)]
pub enum Needle {
    /// Every line has it.
    Empty,
    /// In lower case; the place and both cases of its byte that lines rarely have.
    Ascii {
        /// The text.
        text: Vec<u8>,
        /// The byte to look for first: its place in `text`.
        rare_at: usize,
    },
    /// In lower case.
    Unicode(String),
}

impl Needle {
    /// Prepares a search string.
    pub fn new(contains: &str) -> Self {
        if contains.is_empty() {
            return Self::Empty;
        }
        if contains.is_ascii() {
            let text = contains.to_ascii_lowercase().into_bytes();
            let rare_at = (0..text.len()).min_by_key(|&at| commonness(text[at])).unwrap_or(0);
            return Self::Ascii { text, rare_at };
        }
        Self::Unicode(lower(contains))
    }

    /// Whether `line` has it. Bytes that are not UTF-8 are read as U+FFFD.
    pub fn is_in(&self, line: &[u8]) -> bool {
        match self {
            Self::Empty => true,
            Self::Ascii { text, rare_at } => {
                let Some(last_start) = line.len().checked_sub(text.len()) else { return false };
                let at = |found: usize| {
                    let start = found.checked_sub(*rare_at)?;
                    (start <= last_start).then(|| &line[start..start + text.len()])
                };
                let matches = |found| at(found).is_some_and(|window| window.eq_ignore_ascii_case(text));
                let rare = text[*rare_at];
                if rare.is_ascii_alphabetic() {
                    memchr2_iter(rare, rare.to_ascii_uppercase(), line).any(matches)
                } else {
                    memchr_iter(rare, line).any(matches)
                }
            }
            Self::Unicode(text) => lower(&String::from_utf8_lossy(line)).contains(text.as_str()),
        }
    }
}

fn lower(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// How common a byte is in logs, roughly: letters of English by frequency, and what every line has.
fn commonness(byte: u8) -> usize {
    const COMMON: &[u8] = b"zqjxkvbpygfwmucldrhsnioate";
    match byte {
        b'a'..=b'z' => 1 + COMMON.iter().position(|&common| common == byte).unwrap_or(0),
        b'0'..=b'9' | b' ' => 40,
        b':' | b'.' | b'-' | b'"' | b',' | b'/' | b'=' => 30,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn case_does_not_matter_in_any_alphabet() {
        for (contains, line, found) in [
            ("", "", true),
            ("error", "an ErRoR here", true),
            ("ERROR", "error", true),
            ("error", "erro", false),
            ("straße", "STRASSE", false),
            ("ÄPFEL", "fünf äpfel", true),
            ("привет", "ПРИВЕТ, мир", true),
            ("k", "\u{212a}elvin", false),
            ("aab", "aaab", true),
            ("x", "é x", true),
        ] {
            assert_eq!(Needle::new(contains).is_in(line.as_bytes()), found, "{contains:?} in {line:?}");
        }
        assert!(Needle::new("ok").is_in(b"\xff\xfeOK\xff"));
        assert!(Needle::new("\u{fffd}").is_in(b"\xff"));
    }

    proptest! {
        #[test]
        fn a_part_in_another_case_is_found(line in "[ -~]{1,60}", a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()) {
            let (a, b) = (a.index(line.len()), b.index(line.len()));
            let part = line[a.min(b)..=a.max(b)].to_ascii_uppercase();
            prop_assert!(Needle::new(&part).is_in(line.as_bytes()));
        }

        #[test]
        fn the_fast_way_finds_what_the_plain_one_does(line in "[abAB:]{0,20}", contains in "[abAB:]{0,4}") {
            let plain = line.to_lowercase().contains(&contains.to_lowercase());
            prop_assert_eq!(Needle::new(&contains).is_in(line.as_bytes()), plain);
        }
    }
}
