//! Words on stdout and stderr: tables, colours, JSON. Colours only on a terminal, and not with `NO_COLOR`.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use console::Style;
use serde::Serialize;

use crate::failure::{Failure, Result};

/// A line of the answer, on stdout. A reader that is gone wants no more.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// A line for a person, on stderr.
#[allow(clippy::print_stderr)]
pub(crate) fn fact(text: &str) {
    eprintln!("{text}");
}

/// A thing that is done: what, and what of it a person wants to know.
pub(crate) fn done(what: &str, rest: &str) {
    fact(&done_line(what, rest));
}

/// The same, not yet said.
pub(crate) fn done_line(what: &str, rest: &str) -> String {
    format!("{} {what:<10} {rest}", stderr_style(Style::new().green()).apply_to("✓"))
}

/// An answer for programs.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::from(std::io::Error::other(error)))?;
    line(&text);
    Ok(())
}

/// Rows below their heads; on a terminal not wider than it.
pub(crate) fn table(head: &[&str], rows: Vec<Vec<String>>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|cell| plain(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    if std::io::stdout().is_terminal() {
        let (_, columns) = console::Term::stdout().size();
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns);
    }
    for row in table.lines() {
        line(row.trim_end());
    }
}

/// A text of somebody else's, with nothing in it that a terminal would obey.
pub(crate) fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in console::strip_ansi_codes(text).chars() {
        if is_shown(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_unicode());
        }
    }
    shown
}

/// Control characters and those that turn the direction of text (Unicode TR 36) are not.
fn is_shown(c: char) -> bool {
    c == '\t'
        || !(c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
}

fn stderr_style(style: Style) -> Style {
    style.for_stderr()
}

pub(crate) fn red(text: &str) -> String {
    stderr_style(Style::new().red().bold()).apply_to(text).to_string()
}

pub(crate) fn dim(text: &str) -> String {
    stderr_style(Style::new().dim()).apply_to(text).to_string()
}

/// On stdout: a line of a log that is an error.
pub(crate) fn red_out(text: &str) -> String {
    Style::new().red().apply_to(text).to_string()
}

/// On stdout: what stands beside the text.
pub(crate) fn dim_out(text: &str) -> String {
    Style::new().dim().apply_to(text).to_string()
}

/// Bytes as people say them.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// How long ago a moment was, such as `5 minutes ago`; the text itself where it is none.
pub(crate) fn ago(moment: &str, now: jiff::Timestamp) -> String {
    let Ok(then) = moment.parse::<jiff::Timestamp>() else { return moment.to_owned() };
    let seconds = now.duration_since(then).as_secs();
    let (count, unit) = match seconds {
        ..=0 => return "now".to_owned(),
        1..=119 => (seconds, "s"),
        120..=7_199 => (seconds / 60, "min"),
        7_200..=172_799 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{count} {unit} ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_a_strangers_does_nothing_to_a_terminal() {
        assert_eq!(plain("plain\ttext ü 🎂"), "plain\ttext ü 🎂");
        assert_eq!(plain("\u{1b}[31mred\u{1b}[0m"), "red");
        assert_eq!(plain("a\rb\u{7}\u{1b}]0;title\u{7}c"), "a\\u{d}b\\u{7}c");
        assert_eq!(plain("\u{202e}txt.exe\n"), "\\u{202e}txt.exe\\u{a}");
        for hostile in ["\u{1b}", "\u{1b}[", "\u{9b}31m", "\u{1b}]8;;http://x\u{1b}\\y", "\u{1b}P+q\u{1b}\\"] {
            assert!(plain(hostile).chars().all(is_shown), "{hostile:?}");
        }
    }

    #[test]
    fn moments_are_said_as_people_say_them() {
        let now = "2026-01-02T00:00:00Z".parse().expect("a moment");
        for (moment, said) in [
            ("2026-01-02T00:00:05Z", "now"),
            ("2026-01-01T23:59:59Z", "1 s ago"),
            ("2026-01-01T23:00:00.123Z", "59 min ago"),
            ("2026-01-01T01:00:00Z", "23 h ago"),
            ("2025-12-25T00:00:00Z", "8 days ago"),
            ("never", "never"),
        ] {
            assert_eq!(ago(moment, now), said);
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_shown_without_control(text in "\\PC*|.*") {
            assert!(plain(&text).chars().all(is_shown));
        }
    }
}
