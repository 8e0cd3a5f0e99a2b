//! What is wrong with a Dockerfile, with the instruction and its line.

/// Why a Dockerfile can't be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct Fault {
    /// What kind of wrong.
    pub code: FaultCode,
    /// A sentence for its author.
    pub message: String,
    /// The instruction as it is written, on one line, cut to a readable length; empty where none is to blame.
    pub instruction: String,
    /// Its first line, from 1.
    pub line: u32,
}

/// Kinds of faults that callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultCode {
    /// It is not a Dockerfile, or names something that it does not have.
    Invalid,
    /// It is one, and asks for something that is not supported.
    Unsupported,
}

/// A fault whose instruction is not said yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub code: FaultCode,
    pub message: String,
}

/// See [`FaultCode::Invalid`].
pub(crate) fn invalid(message: impl Into<String>) -> Refusal {
    Refusal { code: FaultCode::Invalid, message: message.into() }
}

/// See [`FaultCode::Unsupported`].
pub(crate) fn unsupported(message: impl Into<String>) -> Refusal {
    Refusal { code: FaultCode::Unsupported, message: message.into() }
}

/// Where an instruction is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// As [`Fault::instruction`].
    pub text: String,
    /// As [`Fault::line`].
    pub line: u32,
}

impl Place {
    /// Of the whole text.
    pub const fn line(line: u32) -> Self {
        Self { text: String::new(), line }
    }

    /// Of an instruction: on one line, without control characters, since it is shown in logs.
    pub fn of(text: &str, line: u32) -> Self {
        const SHOWN_MAX_CHARS: usize = 200;
        let mut shown = String::new();
        let mut count = 0;
        for word in text.split(|letter: char| letter.is_whitespace() || letter.is_control()) {
            if word.is_empty() {
                continue;
            }
            for letter in (!shown.is_empty()).then_some(' ').into_iter().chain(word.chars()) {
                if count == SHOWN_MAX_CHARS {
                    shown.push('…');
                    return Self { text: shown, line };
                }
                shown.push(letter);
                count += 1;
            }
        }
        Self { text: shown, line }
    }

    /// The refusal of the instruction that is here.
    pub fn fault(&self, refusal: Refusal) -> Fault {
        // Every message passes here, whoever wrote it and whatever letter of the author's it quotes.
        let message = refusal.message.chars().map(readable).collect();
        Fault { code: refusal.code, message, instruction: self.text.clone(), line: self.line }
    }
}

/// The letter as it may stand in logs and terminals.
fn readable(letter: char) -> char {
    if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter }
}

/// A stranger's word in a message: short, and without control characters.
pub(crate) fn shown(word: &str) -> String {
    const WORD_MAX_CHARS: usize = 80;
    let mut text: String = word.chars().take(WORD_MAX_CHARS).map(readable).collect();
    if word.chars().nth(WORD_MAX_CHARS).is_some() {
        text.push('…');
    }
    text
}
