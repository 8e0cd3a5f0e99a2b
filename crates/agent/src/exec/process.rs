//! One command's process: its pipes or its terminal, the bytes that come and go, its end.
//!
//! Invariant: what the command writes is read as fast as it is passed on and no faster, and what it does not read waits
//! in a bounded queue.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use bytes::Bytes;
use cakework_core::exec::{STDERR, STDOUT, WindowSize};
use cakework_core::limit;
use rustix::fs::OFlags;
use rustix::pipe::PipeFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, SpecialCodeIndex, Winsize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::backend::gvisor::ExecStdio as Stdio;

/// Chunks that wait for the command to read them, or for the client to take them.
const CHUNKS_MAX: usize = 4;
/// Time in which a command's pipes are closed once it is over, unless something else holds them.
const LINGER: Duration = Duration::from_millis(100);

/// The ends of a command's pipes or terminal that are ours.
#[derive(Debug)]
pub struct Ends {
    stdin: OwnedFd,
    outputs: Vec<(u8, OwnedFd)>,
    terminal: Option<OwnedFd>,
}

/// The ends that are the command's: to be closed here once it has them.
#[derive(Debug)]
pub enum Theirs {
    /// Standard input, output and error.
    Pipes([OwnedFd; 3]),
    /// The terminal.
    Terminal(OwnedFd),
}

impl Theirs {
    /// The same, as they are passed on.
    pub fn stdio(&self) -> Stdio<'_> {
        match self {
            Self::Pipes(pipes) => Stdio::Pipes(pipes.each_ref().map(|pipe| pipe.as_fd())),
            Self::Terminal(terminal) => Stdio::Terminal(terminal.as_fd()),
        }
    }
}

/// Makes both kinds of ends.
///
/// # Errors
/// What the host said: it has no descriptors or terminals left.
pub fn open(tty: Option<WindowSize>) -> io::Result<(Ends, Theirs)> {
    let Some(size) = tty else {
        let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
        let ((in_theirs, stdin), (out, out_theirs), (err, err_theirs)) = (pipe()?, pipe()?, pipe()?);
        let ends = Ends { stdin, outputs: vec![(STDOUT, out), (STDERR, err)], terminal: None };
        for end in [&ends.stdin, &ends.outputs[0].1, &ends.outputs[1].1] {
            unblock(end)?;
        }
        return Ok((ends, Theirs::Pipes([in_theirs, out_theirs, err_theirs])));
    };
    let terminal = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::unlockpt(&terminal)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let theirs = rustix::pty::ioctl_tiocgptpeer(&terminal, flags)?;
    resize(&terminal, size)?;
    unblock(&terminal)?;
    let (stdin, out) = (terminal.try_clone()?, terminal.try_clone()?);
    Ok((Ends { stdin, outputs: vec![(STDOUT, out)], terminal: Some(terminal) }, Theirs::Terminal(theirs)))
}

fn unblock(end: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(end)?;
    Ok(rustix::fs::fcntl_setfl(end, flags | OFlags::NONBLOCK)?)
}

fn resize(terminal: &OwnedFd, size: WindowSize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

/// The way of bytes to and from a command.
#[derive(Debug)]
pub struct Streams {
    /// To the command; `None` once there is no more.
    pub stdin: Option<mpsc::Sender<Bytes>>,
    /// From the command: the stream and a chunk; closed at the end of all.
    pub outputs: mpsc::Receiver<(u8, Bytes)>,
    _tasks: Vec<AbortOnDropHandle<()>>,
    terminal: Option<OwnedFd>,
}

impl Streams {
    /// Begins to read and write.
    ///
    /// # Errors
    /// What the host said.
    pub fn new(ends: Ends) -> io::Result<Self> {
        let (stdin, waiting) = mpsc::channel(CHUNKS_MAX);
        let (chunks, outputs) = mpsc::channel(CHUNKS_MAX);
        // A terminal is as pollable as a pipe, and is none.
        let sink = Sender::from_owned_fd_unchecked(ends.stdin)?;
        let mut tasks = vec![AbortOnDropHandle::new(tokio::spawn(write(sink, waiting)))];
        for (stream, end) in ends.outputs {
            let source = Receiver::from_owned_fd_unchecked(end)?;
            tasks.push(AbortOnDropHandle::new(tokio::spawn(read(source, stream, chunks.clone()))));
        }
        Ok(Self { stdin: Some(stdin), outputs, _tasks: tasks, terminal: ends.terminal })
    }

    /// There is no more input. At a terminal that is a character, which its modes name.
    pub async fn end_input(&mut self) {
        let Some(terminal) = &self.terminal else {
            self.stdin = None;
            return;
        };
        let end = rustix::termios::tcgetattr(terminal).map_or(4, |modes| modes.special_codes[SpecialCodeIndex::VEOF]);
        if let Some(stdin) = &self.stdin {
            // Where the writer is gone, so is the terminal.
            let _ = stdin.send(Bytes::copy_from_slice(&[end])).await;
        }
    }

    /// The next chunk that comes soon, once the command is over; `None` at the end, or where nothing comes.
    pub async fn rest(&mut self) -> Option<(u8, Bytes)> {
        tokio::time::timeout(LINGER, self.outputs.recv()).await.ok().flatten()
    }

    /// Whether something holds the other end of an output.
    pub fn are_held(&self) -> bool {
        !self.outputs.is_closed()
    }

    /// Gives the terminal another size; false where there is none.
    pub fn resize(&self, size: WindowSize) -> bool {
        self.terminal.as_ref().is_some_and(|terminal| resize(terminal, size).is_ok())
    }

    /// The signals that a terminal makes of these bytes: nobody on the host is in its foreground.
    pub fn signals(&self, bytes: &[u8]) -> Vec<nix::sys::signal::Signal> {
        use nix::sys::signal::Signal::{SIGINT, SIGQUIT, SIGTSTP};
        let Some(modes) = self.terminal.as_ref().and_then(|terminal| rustix::termios::tcgetattr(terminal).ok()) else {
            return Vec::new();
        };
        if !modes.local_modes.contains(LocalModes::ISIG) {
            return Vec::new();
        }
        let codes =
            [(SpecialCodeIndex::VINTR, SIGINT), (SpecialCodeIndex::VQUIT, SIGQUIT), (SpecialCodeIndex::VSUSP, SIGTSTP)];
        let signal = |byte: &u8| {
            let code = codes.iter().find(|(index, _)| *byte != 0 && modes.special_codes[*index] == *byte);
            code.map(|(_, signal)| *signal)
        };
        bytes.iter().filter_map(signal).collect()
    }
}

async fn write(mut sink: Sender, mut waiting: mpsc::Receiver<Bytes>) {
    while let Some(chunk) = waiting.recv().await {
        if sink.write_all(&chunk).await.is_err() {
            return;
        }
    }
}

async fn read(mut source: Receiver, stream: u8, chunks: mpsc::Sender<(u8, Bytes)>) {
    loop {
        let mut chunk = vec![0; limit::EXEC_MESSAGE_MAX_BYTES / 2];
        // A terminal that hung up says so by EIO.
        let Ok(count @ 1..) = source.read(&mut chunk).await else { return };
        chunk.truncate(count);
        if chunks.send((stream, chunk.into())).await.is_err() {
            return;
        }
    }
}
