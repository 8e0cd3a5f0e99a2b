//! Reads the file: TOML, where every key must be known. Finds all errors, not just the first.
//!
//! After an error the entry that it lies in is blanked out and the rest is read again, so that one run tells an
//! operator everything that is wrong.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problem;
use super::settings::Settings;

/// More errors than anyone reads at once.
const PROBLEMS_MAX: usize = 50;

/// Reads settings from TOML text; the problems come with their lines.
pub fn parse(text: &str) -> (Settings, Vec<Problem>) {
    let mut rest = text.to_owned();
    let mut problems = Vec::new();
    loop {
        let error = match toml::from_str::<Settings>(&rest) {
            Ok(settings) => return (settings, problems),
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..0);
        let entry = entry_around(&rest, &span);
        problems.push(Problem {
            line: Some(line_of(text, span.start)),
            key: entry.as_ref().map(|entry| entry.key.clone()),
            message: sentence(error.message()),
            fix: fix(error.message()),
        });
        match entry {
            Some(entry) if problems.len() < PROBLEMS_MAX => blank(&mut rest, entry.range),
            // A syntax error: nothing after it can be trusted.
            _ => return (Settings::default(), problems),
        }
    }
}

/// The line of a key such as `network.pool`, from 1.
pub fn line_of_key(text: &str, key: &str) -> Option<usize> {
    let mut table = DeTable::parse(text).ok()?.into_inner();
    let mut parts = key.split('.').peekable();
    while let Some(part) = parts.next() {
        let (name, value) = table.into_iter().find(|(name, _)| name.get_ref() == part)?;
        if parts.peek().is_none() {
            return Some(line_of(text, name.span().start));
        }
        match value.into_inner() {
            DeValue::Table(inner) => table = inner,
            _ => return None,
        }
    }
    None
}

struct Entry {
    key: String,
    range: Range<usize>,
}

/// The innermost `key = value` or `[table]` that contains the span.
fn entry_around(text: &str, span: &Range<usize>) -> Option<Entry> {
    let table = DeTable::parse(text).ok()?;
    find(table.get_ref(), "", span)
}

fn find(table: &DeTable<'_>, prefix: &str, span: &Range<usize>) -> Option<Entry> {
    let within = |outer: &Range<usize>| outer.start <= span.start && span.end <= outer.end;
    table.iter().find_map(|(name, value)| {
        let key = format!("{prefix}{}", name.get_ref());
        if within(&name.span()) {
            return Some(Entry { key, range: range(name, value) });
        }
        if let DeValue::Table(inner) = value.get_ref()
            && let Some(found) = find(inner, &format!("{key}."), span)
        {
            return Some(found);
        }
        within(&value.span()).then(|| Entry { key, range: range(name, value) })
    })
}

/// The bytes of an entry: the key, the value and, for a `[table]`, all that stands in it.
fn range(name: &Spanned<std::borrow::Cow<'_, str>>, value: &Spanned<DeValue<'_>>) -> Range<usize> {
    let (mut start, mut end) = (name.span().start.min(value.span().start), name.span().end.max(value.span().end));
    if let DeValue::Table(inner) = value.get_ref() {
        for (name, value) in inner {
            let part = range(name, value);
            (start, end) = (start.min(part.start), end.max(part.end));
        }
    }
    start..end
}

/// Makes it spaces, so that all lines keep their numbers.
fn blank(text: &mut String, range: Range<usize>) {
    let spaces: String =
        text[range.clone()].chars().map(|c| if c == '\n' { "\n".into() } else { " ".repeat(c.len_utf8()) }).collect();
    text.replace_range(range, &spaces);
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// The parser's message on one line.
fn sentence(message: &str) -> String {
    message.lines().next().unwrap_or_default().split(", expected ").next().unwrap_or_default().trim().to_owned()
}

fn fix(message: &str) -> String {
    match message.lines().next().unwrap_or_default().split_once(", expected ") {
        Some((unknown, expected)) if unknown.starts_with("unknown field") => {
            format!("the keys here are {}", expected.trim_start_matches("one of "))
        }
        Some((_, "u16" | "u32" | "u64" | "usize")) => "write a whole number".to_owned(),
        Some((_, expected)) => format!("write {expected}"),
        None => "see docs/config.example.toml".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_found_with_its_line_and_key() {
        let text = "listen = \"127.0.0.1:9\"\nlissten = 3\n\n[network]\ndeny = [\"10.0.0.0/8\", \"x\"]\ncolour = 1\n\n\
                    [nettwork]\na = 1\n[capacity]\nslots = -1\n";
        let (_, problems) = parse(text);
        let found: Vec<_> = problems.iter().map(|problem| (problem.line, problem.key.as_deref())).collect();
        let mut sorted = found.clone();
        sorted.sort_unstable();
        assert_eq!(
            sorted,
            [
                (Some(2), Some("lissten")),
                (Some(5), Some("network.deny")),
                (Some(6), Some("network.colour")),
                (Some(8), Some("nettwork")),
                (Some(11), Some("capacity.slots")),
            ],
            "{problems:#?}"
        );
    }

    #[test]
    fn a_syntax_error_has_its_line() {
        let (_, problems) = parse("listen = \"127.0.0.1:9\"\nbase_domain = \n");
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].line, Some(2));
    }

    #[test]
    fn a_keys_line_is_found() {
        let text = "listen = \"127.0.0.1:9\"\n[network]\n\npool = \"10.1.0.0/16\"\n";
        assert_eq!(line_of_key(text, "network.pool"), Some(4));
        assert_eq!(line_of_key(text, "listen"), Some(1));
        assert_eq!(line_of_key(text, "network.allow"), None);
    }

    /// The example is what an operator starts from: it lists every key, and its values are the defaults.
    #[test]
    fn the_example_is_complete_and_true() {
        let example = include_str!("../../../../docs/config.example.toml");
        let (settings, problems) = parse(example);
        assert_eq!(problems, []);
        assert_eq!(settings, Settings::default());

        // With `#key = value` switched on too, every key is there, and still nothing is wrong.
        let is_setting = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line.contains(" = ");
        let on: String = example
            .lines()
            .map(|line| if is_setting(line) { format!("{}\n", &line[1..]) } else { format!("{line}\n") })
            .collect();
        let (settings, problems) = parse(&on);
        assert_eq!(problems, []);
        assert_eq!(super::super::rules::broken(&settings), []);
        let all = serde_json::to_value(Settings::default()).expect("plain data");
        for key in keys("", &all) {
            assert!(line_of_key(&on, &key).is_some(), "docs/config.example.toml does not list {key}");
        }
    }

    fn keys(prefix: &str, value: &serde_json::Value) -> Vec<String> {
        let inner = |(name, value)| keys(&format!("{prefix}{}{name}", if prefix.is_empty() { "" } else { "." }), value);
        match value {
            serde_json::Value::Object(fields) if !fields.is_empty() => fields.iter().flat_map(inner).collect(),
            _ => vec![prefix.to_owned()],
        }
    }
}
