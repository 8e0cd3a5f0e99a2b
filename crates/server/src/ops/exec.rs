//! Commands in VMs: checked, begun in a VM that is awake, and read to their end.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cakework_api::exec::{Command, Encoding, Exec, ExecResult, Tty};
use cakework_api::problem::ErrorCode;
use cakework_core::exec::{ExecInput, ExecSpec, STDERR, STDOUT, WindowSize};
use cakework_core::id::VmId;
use cakework_core::lifecycle::VmState;
use cakework_core::limit;

use super::cached::run::{By, NotRun, run};
use super::validate;
use super::vms::find;
use crate::app::App;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::host_exec::{HostExec, Input, Said, is_not_running};
use crate::places::Place;
use crate::store::vms::Vm;

/// Longest time for a sleeping VM to wake for a command.
const WAKE: Duration = Duration::from_secs(30);
/// How often a VM may fall asleep between being awake and running the command.
pub(super) const TRIES: u32 = 5;
/// Time between two of them.
pub(super) const PAUSE: Duration = Duration::from_millis(50);
/// The terminal of whoever names no size.
const WINDOW: WindowSize = WindowSize { rows: 24, cols: 80 };

/// What is to run, and what goes in with it.
pub(crate) struct Wanted {
    pub(crate) spec: ExecSpec,
    pub(crate) stdin: Option<Bytes>,
    pub(crate) encoding: Encoding,
}

/// A command that runs.
pub(crate) struct Running {
    pub(crate) exec: HostExec,
    pub(crate) place: Place,
}

/// Checks what is asked for.
pub(crate) fn check(request: Exec) -> Result<Wanted, ApiError> {
    let command = match request.command {
        Command::Line(line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line],
        Command::Words(words) => words,
    };
    let command = validate::command(command)?;
    if let Some(cwd) = &request.cwd {
        validate::text("cwd", cwd, limit::GUEST_PATH_MAX_BYTES)?;
        if !cwd.starts_with('/') {
            return Err(ApiError::field(ErrorCode::InvalidValue, "cwd", "`cwd` must be an absolute path."));
        }
    }
    if let Some(user) = &request.user {
        validate::text("user", user, limit::METADATA_VALUE_MAX_BYTES)?;
    }
    let secs = match request.timeout_seconds {
        Some(secs) => validate::number::<u32>("timeoutSeconds", secs, 1..=limit::EXEC_TIMEOUT_MAX_SECS as u32)?.into(),
        None => limit::EXEC_TIMEOUT_DEFAULT_SECS,
    };
    let tty = match request.tty {
        None | Some(Tty::Whether(false)) => None,
        Some(Tty::Whether(true)) => Some(WINDOW),
        Some(Tty::Size(size)) if size.rows == 0 || size.cols == 0 => {
            return Err(ApiError::field(ErrorCode::OutOfRange, "tty", "A terminal has one row and column at least."));
        }
        Some(Tty::Size(size)) => Some(WindowSize { rows: size.rows, cols: size.cols }),
    };
    let encoding = request.encoding.unwrap_or_default();
    let stdin = request.stdin.map(|text| decoded(text, encoding)).transpose()?;
    let env: BTreeMap<String, String> = validate::env(request.env_vars.unwrap_or_default())?;
    let spec = ExecSpec { command, cwd: request.cwd, env, user: request.user, tty, timeout_ms: secs * 1000 };
    Ok(Wanted { spec, stdin, encoding })
}

fn decoded(text: String, encoding: Encoding) -> Result<Bytes, ApiError> {
    let bytes = match encoding {
        Encoding::Utf8 => text.into_bytes(),
        Encoding::Base64 => BASE64
            .decode(text)
            .map_err(|_| ApiError::field(ErrorCode::InvalidValue, "stdin", "`stdin` is not base64 with padding."))?,
    };
    if bytes.len() > limit::EXEC_STDIN_MAX_BYTES {
        let max = limit::EXEC_STDIN_MAX_BYTES;
        let detail = format!("`stdin` may have at most {max} bytes; over a WebSocket it may have any.");
        return Err(ApiError::field(ErrorCode::TooLong, "stdin", detail));
    }
    Ok(bytes.into())
}

/// Begins a command in a VM that runs; one that sleeps is woken first.
pub(crate) async fn begin(app: &App, caller: &Caller, id: &VmId, spec: &ExecSpec) -> Result<Running, ApiError> {
    let place = app
        .execs
        .enter(&caller.account)
        .ok_or_else(|| ApiError::new(ErrorCode::TooManyExecs, "As many commands run as may at once.").retry_after(1))?;
    let mut tries = TRIES;
    loop {
        let vm = awake(app, caller, id).await?;
        let Some(host) = &vm.host else { return Err(not_running(id)) };
        match app.host.exec(host, id, vm.generation, spec).await {
            Ok(exec) => return Ok(Running { exec, place }),
            // It fell asleep just now, or ended, which is on its way to the record.
            Err(error) if is_not_running(&error) && tries > 0 => {
                tries -= 1;
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) if is_not_running(&error) => return Err(not_running(id)),
            Err(error) => return Err(error.into()),
        }
    }
}

/// A place for one more command of the account's.
pub(super) fn place(app: &App, caller: &Caller) -> Result<Place, ApiError> {
    app.execs
        .enter(&caller.account)
        .ok_or_else(|| ApiError::new(ErrorCode::TooManyExecs, "As many commands run as may at once.").retry_after(1))
}

/// A VM of the caller's that runs and is awake.
pub(super) async fn awake(app: &App, caller: &Caller, id: &VmId) -> Result<Vm, ApiError> {
    let vm = find(app, caller, id).await?;
    match vm.state {
        VmState::Started if vm.is_awake() => return Ok(vm),
        VmState::Started => {}
        VmState::Created | VmState::Stopping | VmState::Stopped => return Err(not_running(id)),
        VmState::Destroying | VmState::Destroyed => {
            return Err(ApiError::new(ErrorCode::VmOver, format!("{id} is over.")));
        }
    }
    match run(app, vm, By::Owner, WAKE).await {
        Ok(vm) => Ok(vm),
        Err(NotRun::Broken(error)) => Err(ApiError::internal(error)),
        Err(NotRun::Refused(refusal)) => Err(super::vms::refused(refusal)),
        Err(
            NotRun::NotCached
            | NotRun::NotByRequests
            | NotRun::Stopping
            | NotRun::Over
            | NotRun::Ended(_)
            | NotRun::Late,
        ) => Err(not_running(id)),
    }
}

pub(super) fn not_running(id: &VmId) -> ApiError {
    ApiError::new(ErrorCode::VmNotRunning, format!("{id} does not run."))
}

/// Sends all that goes in. A command that does not read it is no failure.
pub(crate) async fn feed(mut input: Input, stdin: Option<Bytes>) {
    // A byte less, for the stream's own.
    for chunk in stdin.iter().flat_map(|bytes| bytes.chunks(limit::EXEC_MESSAGE_MAX_BYTES / 2)) {
        if input.write(chunk).await.is_err() {
            return;
        }
    }
    let _ = input.send(&ExecInput::Eof).await;
}

/// Reads a command to its end while its input goes in.
pub(crate) async fn collect(
    running: Running,
    stdin: Option<Bytes>,
    encoding: Encoding,
) -> Result<ExecResult, ApiError> {
    let Running { exec: HostExec { input, mut output }, place: _place } = running;
    let mut fed = std::pin::pin!(feed(input, stdin));
    let (mut stdout, mut stderr) = (Kept::default(), Kept::default());
    let mut is_fed = false;
    let exit = loop {
        let said = tokio::select! {
            () = &mut fed, if !is_fed => {
                is_fed = true;
                continue;
            }
            said = output.next() => said,
        };
        match said? {
            Said::Bytes(bytes) => match bytes.split_first() {
                Some((&STDOUT, bytes)) => stdout.take(bytes),
                Some((&STDERR, bytes)) => stderr.take(bytes),
                Some(_) | None => {}
            },
            Said::Exit(exit) => break exit,
        }
    };
    Ok(ExecResult {
        exit: exit.into(),
        stdout: written(&stdout.bytes, encoding),
        stderr: written(&stderr.bytes, encoding),
        stdout_missing: stdout.missing(),
        stderr_missing: stderr.missing(),
    })
}

/// Bytes in the encoding that was asked for.
pub(crate) fn written(bytes: &[u8], encoding: Encoding) -> String {
    match encoding {
        Encoding::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
        Encoding::Base64 => BASE64.encode(bytes),
    }
}

/// The beginning of a stream.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    missing: u64,
}

impl Kept {
    fn take(&mut self, bytes: &[u8]) {
        let room = limit::EXEC_OUTPUT_MAX_BYTES - self.bytes.len();
        let (kept, missing) = bytes.split_at(bytes.len().min(room));
        self.bytes.extend_from_slice(kept);
        self.missing += missing.len() as u64;
    }

    fn missing(&self) -> Option<u64> {
        (self.missing > 0).then_some(self.missing)
    }
}

/// Bytes of a stream as text, piece by piece: a character that is not whole yet waits for its rest.
#[derive(Default)]
pub(crate) struct Text {
    rest: Vec<u8>,
}

impl Text {
    /// The text that is whole.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.rest) {
            Ok(_) => self.rest.len(),
            // Only the end may still become something.
            Err(error) => last_start(&self.rest, error),
        };
        let text = String::from_utf8_lossy(&self.rest[..whole]).into_owned();
        self.rest.drain(..whole);
        text
    }

    /// What is left at the end.
    pub(crate) fn end(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned()
    }
}

/// Where the bytes begin that may become a character.
fn last_start(bytes: &[u8], first: std::str::Utf8Error) -> usize {
    let (mut from, mut error) = (0, first);
    loop {
        let valid = from + error.valid_up_to();
        let Some(wrong) = error.error_len() else { return valid };
        from = valid + wrong;
        match std::str::from_utf8(&bytes[from..]) {
            Ok(_) => return bytes.len(),
            Err(next) => error = next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_character_that_comes_in_parts_is_one() {
        let mut text = Text::default();
        assert_eq!(text.push("a\u{20ac}".as_bytes().get(..2).unwrap()), "a");
        assert_eq!(text.push(&"\u{20ac}b".as_bytes()[1..]), "\u{20ac}b");
        assert_eq!(text.push(b"\xff\xc3"), "\u{fffd}");
        assert_eq!(text.end(), "\u{fffd}");
        assert_eq!(text.end(), "");
    }

    proptest! {
        #[test]
        fn pieces_are_the_same_as_the_whole(bytes in prop::collection::vec(any::<u8>(), 0..64), cut in 0usize..64) {
            let (one, two) = bytes.split_at(cut.min(bytes.len()));
            let mut text = Text::default();
            let pieces = [text.push(one), text.push(two), text.end()].concat();
            prop_assert_eq!(pieces, String::from_utf8_lossy(&bytes).into_owned());
        }
    }

    #[test]
    fn what_is_too_much_is_counted() {
        let mut kept = Kept::default();
        kept.take(&vec![1; limit::EXEC_OUTPUT_MAX_BYTES - 1]);
        assert_eq!(kept.missing(), None);
        kept.take(&[1, 2, 3]);
        assert_eq!((kept.bytes.len(), kept.missing()), (limit::EXEC_OUTPUT_MAX_BYTES, Some(2)));
    }
}
