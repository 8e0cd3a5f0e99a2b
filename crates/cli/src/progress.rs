//! What goes on, for a person: bars and spinners at a terminal, which end in a fact; plain lines elsewhere.

use std::collections::VecDeque;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use cakework_api::logs::LogLine;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::show;

/// Time between two drawings of a spinner.
const TICK: Duration = Duration::from_millis(100);
/// Lines of a step that are shown where it fails.
const KEPT_LINES: usize = 40;
/// Of a step beside what its command says.
const STEP_COLUMNS: usize = 32;

/// Something that takes a while.
pub(crate) struct Work {
    bar: ProgressBar,
    begun: Instant,
}

impl Work {
    /// One whose length is not known.
    pub(crate) fn begin(what: &str) -> Self {
        let style = ProgressStyle::with_template("{spinner:.cyan} {elapsed:>4.dim} {wide_msg}");
        Self::new(ProgressBar::new_spinner(), style, what)
    }

    /// One of so many bytes.
    pub(crate) fn of_bytes(what: &str, count: u64) -> Self {
        let style = ProgressStyle::with_template(
            "{spinner:.cyan} {elapsed:>4.dim} {msg} [{bar:30}] {binary_bytes}/{binary_total_bytes}",
        );
        Self::new(ProgressBar::new(count), style, what)
    }

    fn new(bar: ProgressBar, style: Result<ProgressStyle, indicatif::style::TemplateError>, what: &str) -> Self {
        bar.set_draw_target(ProgressDrawTarget::stderr());
        bar.set_style(style.expect("the template is right").progress_chars("=> "));
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(TICK);
        Self { bar, begun: Instant::now() }
    }

    /// The bar, to be moved on from elsewhere.
    pub(crate) fn bar(&self) -> ProgressBar {
        self.bar.clone()
    }

    pub(crate) fn at(&self, position: u64) {
        self.bar.set_position(position);
    }

    pub(crate) fn says(&self, message: String) {
        self.bar.set_message(message);
    }

    pub(crate) fn seconds(&self) -> String {
        format!("{:.1} s", self.begun.elapsed().as_secs_f64())
    }

    /// Ends in a fact.
    pub(crate) fn done(self, what: &str, rest: &str) {
        self.bar.finish_and_clear();
        show::done(what, rest);
    }
}

/// Whatever ends it, no half of a bar stays behind.
impl Drop for Work {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A build's log as its steps.
pub(crate) struct Steps {
    work: Work,
    is_plain: bool,
    /// The step that goes on, and when it began.
    current: Option<(String, Instant)>,
    lines: VecDeque<String>,
}

/// What a line of a build's log says of its steps.
#[derive(Debug, PartialEq, Eq)]
enum Said<'a> {
    /// `[2/5] COPY . /srv`
    Begins(&'a str),
    /// `CACHED [2/5] COPY . /srv`
    Cached(&'a str),
    /// `DONE 1.3s`
    Done(&'a str),
    /// Anything else, such as a command's own words.
    Words(&'a str),
}

impl Steps {
    pub(crate) fn new(is_plain: bool) -> Self {
        let is_plain = is_plain || !std::io::stderr().is_terminal();
        Self { work: Work::begin("waiting for its turn"), is_plain, current: None, lines: VecDeque::new() }
    }

    /// Takes up a line.
    pub(crate) fn hear(&mut self, line: &LogLine) {
        let text = show::plain(&line.message);
        if self.is_plain {
            return show::fact(&text);
        }
        match said(&text) {
            Said::Begins(step) => {
                self.end(None);
                self.work.says(step.to_owned());
                self.current = Some((step.to_owned(), Instant::now()));
            }
            Said::Cached(step) => {
                self.end(None);
                self.keeps(&show::done_line("cached", &show::dim(step)));
            }
            Said::Done(time) => self.end(Some(time)),
            Said::Words(words) => {
                if self.lines.len() == KEPT_LINES {
                    self.lines.pop_front();
                }
                self.lines.push_back(words.to_owned());
                let step = self.current.as_ref().map_or("", |(step, _)| step);
                let step = console::truncate_str(step, STEP_COLUMNS, "…");
                self.work.says(format!("{step} {}", show::dim(words)));
            }
        }
    }

    fn end(&mut self, time: Option<&str>) {
        self.lines.clear();
        if let Some((step, begun)) = self.current.take() {
            let time = time.map_or_else(|| format!("{:.1}s", begun.elapsed().as_secs_f64()), str::to_owned);
            self.keeps(&show::done_line(&time, &step));
        }
    }

    /// A line that stays, as much of it as the terminal is wide.
    fn keeps(&self, line: &str) {
        let (_, columns) = console::Term::stderr().size();
        self.work.bar().println(console::truncate_str(line, usize::from(columns), "…"));
    }

    /// The build has succeeded.
    pub(crate) fn done(mut self, what: &str, rest: &str) {
        self.end(None);
        self.work.done(what, rest);
    }

    /// The build has failed: the last words of the step that did.
    pub(crate) fn failed(self) {
        let Self { work, is_plain, current, lines } = self;
        drop(work);
        if is_plain {
            return;
        }
        if let Some((step, _)) = current {
            show::fact(&format!("{} {step}", show::red("✗")));
        }
        for line in lines {
            show::fact(&format!("  {line}"));
        }
    }
}

/// Anybody's words may look like a step's: all that comes of it is how they are shown.
fn said(text: &str) -> Said<'_> {
    let is_step = |text: &str| {
        let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.strip_prefix('[')
            .and_then(|rest| rest.split_once("] "))
            .is_some_and(|(count, _)| count.split_once('/').is_some_and(|(step, steps)| number(step) && number(steps)))
    };
    match text.strip_prefix("CACHED ") {
        Some(step) if is_step(step) => return Said::Cached(step),
        _ if is_step(text) => return Said::Begins(text),
        _ => {}
    }
    match text.strip_prefix("DONE ") {
        Some(time) if time.strip_suffix('s').is_some_and(|secs| secs.parse::<f64>().is_ok()) => Said::Done(time),
        _ => Said::Words(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_from_words() {
        assert_eq!(said("[2/5] COPY . /srv"), Said::Begins("[2/5] COPY . /srv"));
        assert_eq!(said("CACHED [2/5] RUN x"), Said::Cached("[2/5] RUN x"));
        assert_eq!(said("DONE 1.3s"), Said::Done("1.3s"));
        for words in ["", "[2/5]", "[a/5] x", "[/] x", "DONE", "DONE soon", "CACHED x", "hello [2/5] x"] {
            assert_eq!(said(words), Said::Words(words));
        }
    }
}
