//! The process's own log: lines on stderr, for people or as JSON, each with the role that wrote it.
//!
//! stdout is never written to: it is for what a command answers.

use std::fmt;
use std::io::IsTerminal as _;

use serde::{Deserialize, Serialize};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{self, Compact, Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::cli;

/// What is logged, and in which form.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Options {
    /// An `EnvFilter` directive list, such as `info` or `warn,cakework_agent=debug`.
    pub filter: String,
    /// The form of a line.
    pub format: LineFormat,
}

/// The form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LineFormat {
    /// For people.
    Human,
    /// One JSON object.
    Json,
}

impl From<cli::LogFormat> for LineFormat {
    fn from(asked: cli::LogFormat) -> Self {
        match asked {
            cli::LogFormat::Human => Self::Human,
            cli::LogFormat::Json => Self::Json,
            cli::LogFormat::Auto if std::io::stderr().is_terminal() => Self::Human,
            cli::LogFormat::Auto => Self::Json,
        }
    }
}

/// Starts logging. To be called once.
///
/// # Errors
/// A filter that is none.
pub fn start(options: &Options, role: &'static str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&options.filter)
        .map_err(|error| anyhow::anyhow!("--log {:?} is not a filter: {error}", options.filter))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let colours = std::io::stderr().is_terminal();
    match options.format {
        LineFormat::Human => {
            let inner = format::format().compact().with_ansi(colours);
            builder.with_ansi(colours).event_format(Human { role, inner }).init();
        }
        LineFormat::Json => {
            let inner = format::format().json().flatten_event(true).with_span_list(false);
            builder.fmt_fields(JsonFields::new()).event_format(Machine { role, inner }).init();
        }
    }
    Ok(())
}

struct Human {
    role: &'static str,
    inner: Format<Compact>,
}

impl<S, N> FormatEvent<S, N> for Human
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(out, "{:<5} ", self.role)?;
        self.inner.format_event(context, out, event)
    }
}

struct Machine {
    role: &'static str,
    inner: Format<Json>,
}

impl<S, N> FormatEvent<S, N> for Machine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::with_capacity(256);
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        let rest = line.strip_prefix('{').ok_or(fmt::Error)?;
        write!(out, "{{\"role\":\"{}\",{rest}", self.role)
    }
}
