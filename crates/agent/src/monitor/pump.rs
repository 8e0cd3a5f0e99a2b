//! Moves a sandbox's output from its FIFOs into the log, until the sandbox is gone and the FIFOs are empty.
//!
//! Invariant: nothing a guest writes, and no state of the disk, stops the loop from reading: what can't be kept is
//! dropped and told by a record.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::time::Duration;

use cakework_wire::segment::{Body, Stream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::rate::Limiter;
use super::sandbox::Sandbox;
use super::segments::Writer;
use super::split::Splitter;
use crate::logs::LogConfig;

const CHUNK_BYTES: usize = 64 * 1024;
/// Wakes to reap the sandbox's helpers.
const IDLE: Duration = Duration::from_secs(30);
/// Wakes to tell of lost lines while something is to be told.
const OWING: Duration = Duration::from_millis(250);
/// A guest that floods waits this long between reads: it slows down, and the host's CPU is not spent on dropping.
const FLOODED: Duration = Duration::from_millis(2);
/// Reads of one FIFO after the sandbox's end: more than it can hold.
const DRAIN_CHUNKS_MAX: usize = 64;

/// The way from the FIFOs to the log.
#[derive(Debug)]
pub struct Pump {
    sources: [Source; 2],
    limiter: Limiter,
    writer: Writer,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Source {
    fifo: File,
    stream: Stream,
    splitter: Splitter,
}

impl Pump {
    /// A pump for the FIFOs of standard output and error.
    pub fn new([stdout, stderr]: [File; 2], writer: Writer, config: &LogConfig) -> Self {
        let source = |fifo, stream| Source { fifo, stream, splitter: Splitter::new() };
        Self {
            sources: [source(stdout, Stream::Stdout), source(stderr, Stream::Stderr)],
            limiter: Limiter::new(config, now_ms(ClockId::Boottime)),
            writer,
            buffer: vec![0; CHUNK_BYTES],
        }
    }

    /// Pumps until the sandbox is gone, and then what is left.
    pub fn run(&mut self, sandbox: &mut Sandbox) {
        self.settle();
        while let Some(pidfd) = sandbox.pidfd() {
            let mut fds = vec![
                PollFd::new(&self.sources[0].fifo, PollFlags::IN),
                PollFd::new(&self.sources[1].fifo, PollFlags::IN),
                PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
            ];
            fds.extend(sandbox.answer().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            let owing = self.limiter.is_dropping() || self.writer.has_gap();
            let timeout = timespec(if owing { OWING } else { IDLE });
            match poll(&mut fds, Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                // Out of memory in the kernel: nothing else is possible with these descriptors.
                Err(_) => std::thread::sleep(OWING),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            if ready.get(3) == Some(&true) {
                sandbox.read_answer();
            }
            for index in (0..2).filter(|&index| ready[index]) {
                self.read(index);
            }
            self.settle();
            if ready[2] {
                break;
            }
            sandbox.reap();
            if self.limiter.is_dropping() {
                std::thread::sleep(FLOODED);
            }
        }
        self.finish();
    }

    /// Reads one chunk; false when nothing was there.
    fn read(&mut self, index: usize) -> bool {
        let Self { sources, limiter, writer, buffer } = self;
        let Source { fifo, stream, splitter } = &mut sources[index];
        let count = match rustix::io::read(fifo.as_fd(), buffer.as_mut_slice()) {
            Ok(count @ 1..) => count,
            Ok(_) | Err(_) => return false,
        };
        limiter.refill(now_ms(ClockId::Boottime));
        writer.stamp(now_ms(ClockId::Realtime));
        splitter.push(&buffer[..count], |text, continues| keep(limiter, writer, *stream, text, continues));
        writer.flush();
        true
    }

    /// Tells of what was lost, if that can be told now.
    fn settle(&mut self) {
        self.limiter.refill(now_ms(ClockId::Boottime));
        self.writer.stamp(now_ms(ClockId::Realtime));
        if let Some(lines) = self.limiter.recovered() {
            self.writer.push(Body::Dropped { lines });
        }
        self.writer.flush();
    }

    fn finish(&mut self) {
        for index in 0..2 {
            for _ in 0..DRAIN_CHUNKS_MAX {
                if !self.read(index) {
                    break;
                }
            }
            let Self { sources, limiter, writer, .. } = self;
            let Source { stream, splitter, .. } = &mut sources[index];
            splitter.finish(|text, continues| keep(limiter, writer, *stream, text, continues));
        }
        if let Some(lines) = self.limiter.finish() {
            self.writer.push(Body::Dropped { lines });
        }
        self.writer.flush();
    }
}

fn keep(limiter: &mut Limiter, writer: &mut Writer, stream: Stream, text: &[u8], continues: bool) {
    if let Some(lines) = limiter.recovered() {
        writer.push(Body::Dropped { lines });
    }
    if limiter.admit(text.len()) {
        writer.push(Body::Line { stream, continues, text });
    }
}

fn now_ms(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let (secs, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    secs * 1000 + nanos / 1_000_000
}

fn timespec(duration: Duration) -> Timespec {
    duration.try_into().expect("a few seconds")
}
