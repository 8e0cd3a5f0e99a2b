//! What ends a command: a sentence, the fix, and the exit code by which scripts tell failures apart.

use std::fmt::Write as _;
use std::process::ExitCode;

use cakework_api::problem::Problem;

use crate::show;

/// How a command ended. Docs: `docs/cli.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    /// It was refused or failed.
    Failed,
    /// What was asked for makes no sense: arguments, files, the project.
    Usage,
    /// The key is missing, wrong, or may not do it.
    Denied,
    /// There is no such thing.
    Absent,
    /// The thing's state does not allow it.
    Conflict,
    /// The server can't be reached or can't do it now; later it may.
    Unavailable,
    /// It took too long.
    TimedOut,
    /// Ctrl-C.
    Interrupted,
    /// As the command in the VM ended.
    Code(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Denied => 3,
            Exit::Absent => 4,
            Exit::Conflict => 5,
            Exit::Unavailable => 6,
            Exit::TimedOut => 7,
            Exit::Interrupted => 130,
            Exit::Code(code) => code,
        })
    }
}

/// Why a command ended before its time.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) fix: Option<String>,
    pub(crate) exit: Exit,
    /// The word of the server's problem, where it is one.
    pub(crate) code: Option<String>,
    request_id: Option<String>,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { message: message.into(), fix: None, exit, code: None, request_id: None }
    }

    /// What was asked for makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(crate) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// The same, with another exit code.
    pub(crate) fn ends(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The same, of one of several things.
    pub(crate) fn of(mut self, id: &str) -> Self {
        self.message = format!("{id}: {}", self.message);
        self
    }

    /// What the server refused.
    pub(crate) fn problem(problem: Problem) -> Self {
        let exit = Self::exit_of(problem.status);
        let field = problem.field.filter(|field| !problem.detail.contains(field.as_str()));
        let message = match field {
            Some(field) => format!("{field}: {}", problem.detail),
            None => problem.detail,
        };
        let code = serde_json::to_value(problem.code).ok().and_then(|code| code.as_str().map(str::to_owned));
        Self { message, fix: problem.fix, exit, code, request_id: Some(problem.request_id) }
    }

    /// The exit code of an HTTP status.
    pub(crate) fn exit_of(status: u16) -> Exit {
        match status {
            401 | 403 => Exit::Denied,
            404 => Exit::Absent,
            409 => Exit::Conflict,
            408 | 429 | 502..=504 => Exit::Unavailable,
            _ => Exit::Failed,
        }
    }

    /// Tells a person, on stderr.
    pub(crate) fn say(&self) {
        // Whoever presses Ctrl-C knows why it ended.
        if self.exit == Exit::Interrupted {
            return show::fact(&show::plain(&self.message));
        }
        let mut text = format!("{} {}", show::red("error:"), show::plain(&self.message));
        if let Some(fix) = &self.fix {
            let _ = write!(text, "\n  hint: {}", show::plain(fix));
        }
        if let Some(id) = self.request_id.as_ref().filter(|_| self.exit == Exit::Failed) {
            let _ = write!(text, "\n  request: {}", show::plain(id));
        }
        show::fact(&text);
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let failure = Self::new(Exit::Failed, error.to_string());
        match error.kind() {
            std::io::ErrorKind::StorageFull => failure.fix("make room on the disk, then run it again"),
            std::io::ErrorKind::PermissionDenied => failure.fix("check who owns it, and its permissions"),
            _ => failure,
        }
    }
}
