//! The terminal that a person sits at: its size, its raw mode, and Ctrl-C.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Exit, Result};

/// Whether input and output are a terminal.
pub(crate) fn is_one() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Lines and columns; those of an old terminal where it says none.
pub(crate) fn size() -> (u16, u16) {
    match tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row, size.ws_col),
        _ => (24, 80),
    }
}

/// How many pieces of work clean up by themselves when they are interrupted.
static CLEANERS: AtomicUsize = AtomicUsize::new(0);
/// Time that they have for it.
const GRACE: Duration = Duration::from_secs(15);

/// A command, to its end or to Ctrl-C. Work that cleans up by itself has some time for it, until the second Ctrl-C.
pub(crate) async fn until_interrupted(command: impl Future<Output = Result<Exit>>) -> Result<Exit> {
    let mut command = std::pin::pin!(command);
    tokio::select! {
        done = &mut command => return done,
        () = interrupted() => {}
    }
    if CLEANERS.load(Ordering::SeqCst) == 0 {
        return Ok(Exit::Interrupted);
    }
    tokio::select! {
        done = command => done,
        () = interrupted() => Ok(Exit::Interrupted),
        () = tokio::time::sleep(GRACE) => Ok(Exit::Interrupted),
    }
}

/// Work that leaves something behind where it is interrupted, and what removes that.
pub(crate) async fn unless_interrupted<T>(work: impl Future<Output = T>, cleanup: impl Future<Output = T>) -> T {
    struct Cleaner;
    impl Drop for Cleaner {
        fn drop(&mut self) {
            CLEANERS.fetch_sub(1, Ordering::SeqCst);
        }
    }
    CLEANERS.fetch_add(1, Ordering::SeqCst);
    let _cleaner = Cleaner;
    tokio::select! {
        done = work => done,
        () = interrupted() => cleanup.await,
    }
}

/// Ends when somebody presses Ctrl-C, or asks the process to end.
async fn interrupted() {
    let Ok(mut term) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = term.recv() => {}
    }
}

/// Hears of each change of the terminal's size.
pub(crate) struct Resizes(Option<tokio::signal::unix::Signal>);

impl Resizes {
    pub(crate) fn new() -> Self {
        Self(signal(SignalKind::window_change()).ok())
    }

    pub(crate) async fn next(&mut self) {
        match &mut self.0 {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    }
}

/// The terminal passes on what is typed, as it is. Dropped it is as it was before.
pub(crate) struct Raw(Termios);

impl Raw {
    pub(crate) fn enter() -> std::io::Result<Self> {
        let before = tcgetattr(std::io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
