//! `cakework logs` and `cakework vm logs`.

use cakework_api::logs::{LogLine, Logs};
use jiff::{SignedDuration, Timestamp};

use crate::args::{self, LogOptions};
use crate::client::{Client, part};
use crate::failure::{Exit, Failure, Result};
use crate::follow::Follower;
use crate::show;

/// Lines of a page.
const PAGE: usize = 1000;
/// The least that a page may have.
const PAGE_MIN: usize = 50;

pub(super) async fn of_project(options: &args::Logs) -> Result<Exit> {
    let client = Client::new(&options.to)?;
    let vm = match &options.vm {
        Some(vm) => vm.clone(),
        None => super::of_project(&client, &options.project.dir).await?.id,
    };
    show_log(&client, &vm, &options.options, options.to.json).await
}

/// A VM's log.
pub(super) async fn show_log(client: &Client, vm: &str, options: &LogOptions, json: bool) -> Result<Exit> {
    let path = format!("/v1/vm/{}/logs", part(vm)?);
    let tail = match options.tail.as_str() {
        "all" => None,
        count => Some(count.parse::<usize>().map_err(|_| {
            Failure::usage(format!("--tail {count:?} is no number of lines")).fix("write a number, or all")
        })?),
    };
    let mut query: Vec<(&'static str, String)> = Vec::new();
    query.extend(options.query.clone().map(|text| ("query", text)));
    if let Some(since) = &options.since {
        query.push(("from", moment(since, Timestamp::now())?));
    }
    let say = |line: &LogLine| -> Result<()> {
        if json {
            return say_json(line);
        }
        show::line(&shown(line));
        Ok(())
    };
    match tail {
        None if !options.follow => all(client, &path, &query, say).await?,
        None => drop(Follower::new(client, path, query).run(|line| say(&line)).await?),
        Some(count) => {
            let newest = newest(client, &path, &query, count).await?;
            if options.follow {
                // The lines of one millisecond stay together.
                if let Some(line) = newest.first() {
                    let from = Timestamp::from_millisecond(i64::try_from(line.timestamp).unwrap_or(0));
                    query.retain(|(name, _)| *name != "from");
                    query.extend(from.ok().map(|from| ("from", from.to_string())));
                }
                Follower::new(client, path, query).run(|line| say(&line)).await?;
            } else {
                newest.iter().try_for_each(say)?;
            }
        }
    }
    Ok(Exit::Done)
}

async fn all(
    client: &Client,
    path: &str,
    query: &[(&'static str, String)],
    say: impl Fn(&LogLine) -> Result<()>,
) -> Result<()> {
    let mut next = query.to_vec();
    next.push(("batch", PAGE.to_string()));
    loop {
        let page: Logs = client.get(path, &next).await?;
        page.lines.iter().try_for_each(&say)?;
        let Some(token) = page.pagination else { return Ok(()) };
        next.retain(|(name, _)| !matches!(*name, "pagination" | "from" | "to"));
        next.push(("pagination", token));
        next.extend(page.from.map(|from| ("from", from)));
        next.extend(page.to.map(|to| ("to", to)));
    }
}

/// The newest lines, in the order of time.
async fn newest(client: &Client, path: &str, query: &[(&'static str, String)], count: usize) -> Result<Vec<LogLine>> {
    let mut lines = Vec::new();
    let mut next = query.to_vec();
    next.push(("order", "newest_first".to_owned()));
    next.push(("batch", count.clamp(PAGE_MIN, PAGE).to_string()));
    while lines.len() < count {
        let page: Logs = client.get(path, &next).await?;
        lines.extend(page.lines);
        let Some(token) = page.pagination else { break };
        next.retain(|(name, _)| !matches!(*name, "pagination" | "from" | "to"));
        next.push(("pagination", token));
        next.extend(page.from.map(|from| ("from", from)));
        next.extend(page.to.map(|to| ("to", to)));
    }
    lines.truncate(count);
    lines.reverse();
    Ok(lines)
}

fn say_json(line: &LogLine) -> Result<()> {
    let text = serde_json::to_string(line).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    show::line(&text);
    Ok(())
}

fn shown(line: &LogLine) -> String {
    let at = Timestamp::from_millisecond(i64::try_from(line.timestamp).unwrap_or(0)).unwrap_or_default();
    let at = show::dim_out(&at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string());
    let text = show::plain(&line.message);
    format!("{at} {}", if line.level == "error" { show::red_out(&text) } else { text })
}

/// `10m` ago, or a moment as it is written.
fn moment(text: &str, now: Timestamp) -> Result<String> {
    let wrong =
        || Failure::usage(format!("--since {text:?} is no time")).fix("write 10m, 2h, 1d, or 2026-01-01T00:00:00Z");
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment.to_string());
    }
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: i64 = text[..text.len() - unit.len_utf8()].parse().ok().filter(|count| *count >= 0).ok_or_else(wrong)?;
    let past = count.checked_mul(seconds).map(SignedDuration::from_secs).ok_or_else(wrong)?;
    now.checked_sub(past).map(|moment| moment.to_string()).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let now = "2026-01-02T00:00:00Z".parse().expect("a moment");
        for (text, moment_of) in [
            ("10m", "2026-01-01T23:50:00Z"),
            ("1d", "2026-01-01T00:00:00Z"),
            ("0s", "2026-01-02T00:00:00Z"),
            ("2025-01-01T00:00:00+01:00", "2024-12-31T23:00:00Z"),
        ] {
            assert_eq!(moment(text, now).expect(text), moment_of);
        }
        for wrong in ["", "m", "-1h", "5", "1w", "99999999999999999d", "5é", "yesterday"] {
            assert!(moment(wrong, now).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_line_is_shown_without_what_it_would_do() {
        let line = LogLine {
            timestamp: 1_700_000_000_123,
            level: "info".into(),
            message: "a\u{1b}[2Jb\u{7}".into(),
            continues: false,
        };
        assert_eq!(console::strip_ansi_codes(&shown(&line)), "2023-11-14T22:13:20.123Z ab\\u{7}");
    }
}
