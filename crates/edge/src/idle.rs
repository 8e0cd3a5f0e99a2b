//! A socket that fails once it has moved no byte for too long while somebody waits for it: what ends stalled bodies
//! and silent WebSockets, in either direction, on either side.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// A TCP stream with an idle limit. `G` is what lives exactly as long as the socket.
pub(crate) struct IdleStream<G> {
    stream: TcpStream,
    idle: Duration,
    last: Instant,
    alarm: Pin<Box<Sleep>>,
    _guard: G,
}

impl<G: Unpin> IdleStream<G> {
    pub(crate) fn new(stream: TcpStream, idle: Duration, guard: G) -> Self {
        let alarm = Box::pin(tokio::time::sleep(idle));
        Self { stream, idle, last: Instant::now(), alarm, _guard: guard }
    }

    /// Notes that bytes moved; or, while they don't, watches the clock. One task polls both directions of a socket,
    /// so that one alarm wakes whoever waits.
    fn observe<T>(&mut self, cx: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.last = Instant::now();
            return progress;
        }
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            let deadline = self.last + self.idle;
            if deadline <= Instant::now() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no byte moved for too long")));
            }
            self.alarm.as_mut().reset(deadline);
        }
    }
}

impl<G: Unpin> AsyncRead for IdleStream<G> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.observe(cx, progress)
    }
}

impl<G: Unpin> AsyncWrite for IdleStream<G> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.observe(cx, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.observe(cx, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
