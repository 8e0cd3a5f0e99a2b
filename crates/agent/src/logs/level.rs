//! The level of a line: what the line says of itself, else its stream's.
//!
//! A line that is a JSON object with a `level`, `severity` or `lvl` (in this order) keeps that: a word in lower case, or
//! one of pino's numbers. The line itself stays as it is.

use std::borrow::Cow;

use cakework_wire::segment::Stream;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Longest word that is taken for a level.
const LEVEL_MAX_BYTES: usize = 32;

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    level: Option<Said<'a>>,
    #[serde(borrow)]
    severity: Option<Said<'a>>,
    #[serde(borrow)]
    lvl: Option<Said<'a>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Said<'a> {
    Number(u64),
    Word(#[serde(borrow)] Cow<'a, str>),
    Other(IgnoredAny),
}

/// The level of a whole line.
pub fn of_line(stream: Stream, text: &[u8]) -> Cow<'static, str> {
    said(text).unwrap_or(Cow::Borrowed(of_stream(stream)))
}

/// The level of a line that can't speak for itself: a piece of a longer one.
pub const fn of_stream(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "info",
        Stream::Stderr => "error",
    }
}

fn said(text: &[u8]) -> Option<Cow<'static, str>> {
    if text.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let head: Head<'_> = serde_json::from_slice(text).ok()?;
    [head.level, head.severity, head.lvl].into_iter().flatten().find_map(word)
}

fn word(said: Said<'_>) -> Option<Cow<'static, str>> {
    match said {
        // https://getpino.io/#/docs/api?id=loggerlevel-string-gettersetter
        Said::Number(10) => Some("trace".into()),
        Said::Number(20) => Some("debug".into()),
        Said::Number(30) => Some("info".into()),
        Said::Number(40) => Some("warn".into()),
        Said::Number(50) => Some("error".into()),
        Said::Number(60) => Some("fatal".into()),
        Said::Word(word) => {
            let word = word.trim();
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            let usable = !word.is_empty() && word.len() <= LEVEL_MAX_BYTES && word.bytes().all(plain);
            usable.then(|| word.to_ascii_lowercase().into())
        }
        Said::Number(_) | Said::Other(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_line_keeps_its_level() {
        for (line, level) in [
            (r#"{"level":"WARNING","msg":"x"}"#, "warning"),
            (r#"  {"msg":"x","severity":"Debug"}  "#, "debug"),
            (r#"{"lvl":"fatal"}"#, "fatal"),
            (r#"{"lvl":"a","severity":"b","level":"c"}"#, "c"),
            (r#"{"level":null,"severity":"notice"}"#, "notice"),
            (r#"{"level":30,"time":1}"#, "info"),
            (r#"{"level":60}"#, "fatal"),
            (r#"{"level":"\u0057arn"}"#, "warn"),
        ] {
            assert_eq!(of_line(Stream::Stderr, line.as_bytes()), level, "{line}");
        }
    }

    #[test]
    fn every_other_line_has_its_streams() {
        let long = format!(r#"{{"level":"{}"}}"#, "x".repeat(33));
        let deep = format!(r#"{{"a":{}"#, "[".repeat(60_000));
        for line in [
            "",
            "plain",
            "{",
            r#"{"level":"warn""#,
            r#"["level","warn"]"#,
            r#"{"level":31}"#,
            r#"{"level":-10}"#,
            r#"{"level":1e300}"#,
            r#"{"level":["warn"]}"#,
            r#"{"level":""}"#,
            r#"{"level":"two words"}"#,
            r#"{"level":"a\nb"}"#,
            r#"{"nested":{"level":"warn"}}"#,
            &long,
            &deep,
        ] {
            assert_eq!(of_line(Stream::Stdout, line.as_bytes()), "info", "{line:.60}");
            assert_eq!(of_line(Stream::Stderr, line.as_bytes()), "error", "{line:.60}");
        }
        assert_eq!(of_line(Stream::Stdout, b"{\"level\":\"\xff\"}"), "info");
    }
}
