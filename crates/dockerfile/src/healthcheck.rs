//! HEALTHCHECK, and durations as Go writes them.

use crate::command::Line;
use crate::config::Healthcheck;
use crate::fault::{Refusal, invalid, shown};
use crate::flag::Flags;

const MILLISECOND_NS: u64 = 1_000_000;

/// Reads what follows HEALTHCHECK.
pub(crate) fn parse(rest: &str, flags: &mut Flags) -> Result<Healthcheck, Refusal> {
    let (kind, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let rest = rest.trim();
    if kind.eq_ignore_ascii_case("NONE") {
        if !rest.is_empty() {
            return Err(invalid("HEALTHCHECK NONE takes no arguments. Remove them."));
        }
        return Ok(Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() });
    }
    if !kind.eq_ignore_ascii_case("CMD") {
        return Err(invalid("HEALTHCHECK needs CMD and a command, or NONE."));
    }
    let test = match Line::parse("HEALTHCHECK CMD", rest)? {
        Line::Exec(words) if words.is_empty() => return Err(invalid("HEALTHCHECK CMD needs a command.")),
        Line::Exec(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
        Line::Shell(text) => vec!["CMD-SHELL".to_owned(), text],
    };
    let mut interval = |name: &str| match flags.one(name)? {
        None => Ok(0),
        Some(text) => match duration_ns(&text) {
            Some(duration) if duration == 0 || duration >= MILLISECOND_NS => Ok(duration),
            _ => {
                Err(invalid(format!("--{name}={} is no duration of at least 1ms, such as 30s or 1m30s.", shown(&text))))
            }
        },
    };
    let (interval_ns, timeout) = (interval("interval")?, interval("timeout")?);
    let (start_period, start_interval) = (interval("start-period")?, interval("start-interval")?);
    let retries = match flags.one("retries")? {
        None => 0,
        Some(text) => match text.parse::<u32>() {
            Ok(number) if i32::try_from(number).is_ok() => u64::from(number),
            _ => return Err(invalid(format!("--retries={} is no number of failures.", shown(&text)))),
        },
    };
    Ok(Healthcheck { test, interval: interval_ns, timeout, start_period, start_interval, retries })
}

/// A duration as Go's `time.ParseDuration` reads it, such as `1h2m3.5s`, in nanoseconds; none below zero.
fn duration_ns(text: &str) -> Option<u64> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0u64;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| letter != '.' && !letter.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let unit_end = after.find(|letter: char| letter == '.' || letter.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let unit_ns: u64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => MILLISECOND_NS,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(unit_ns)?)?;
        let mut place = unit_ns;
        for digit in fraction.chars() {
            place /= 10;
            total = total.checked_add(place * u64::from(digit.to_digit(10)?))?;
        }
        rest = next;
    }
    i64::try_from(total).ok().map(|_| total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, expected) in [
            ("0", Some(0)),
            ("30s", Some(30_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            (".5s", Some(500_000_000)),
            ("2.s", Some(2_000_000_000)),
            ("1us", Some(1_000)),
            ("1µs", Some(1_000)),
            ("+1ms", Some(1_000_000)),
            ("", None),
            ("+", None),
            ("1", None),
            ("s", None),
            (".s", None),
            ("-1s", None),
            ("1.2.3s", None),
            ("1 s", None),
            ("1d", None),
            ("99999999999h", None),
        ] {
            assert_eq!(duration_ns(text), expected, "{text}");
        }
    }
}
