//! A TCP connection that gives up on a peer that stalls.
//!
//! hyper has one time limit for everything up to the end of a request's head, the idle time before it
//! included. Here a client may keep a connection idle for long and still has to send a head quickly once it
//! has begun; and an answer that nobody takes ends as well. A handler that takes its time is not limited.

use super::server_limits::{MAX_HEAD, ServerLimits};
use parking_lot::Mutex;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// How far the connection's current request is; told by whoever serves it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    requests: AtomicUsize,
    serving: AtomicBool,
    unread: AtomicBool,
    /// What has come since the last request: the next one's head, and what came with it.
    came: Mutex<Vec<u8>>,
}

impl Progress {
    /// A request's head is read and its handler starts. Returns what has come since the last one.
    pub(super) fn begin(&self) -> Vec<u8> {
        self.requests.fetch_add(1, Relaxed);
        self.serving.store(true, Relaxed);
        std::mem::take(&mut *self.came.lock())
    }

    /// These bytes came, as a head or with one. Whatever is beyond the largest head belongs to none.
    fn came(&self, bytes: &[u8]) {
        let mut came = self.came.lock();
        let room = MAX_HEAD.saturating_sub(came.len());
        came.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    /// The handler has answered; its body may still be on the way. `is_left`: there is more of the request, and
    /// nobody will read it.
    pub(super) fn end(&self, is_left: bool) {
        self.unread.store(is_left, Relaxed);
        self.serving.store(false, Relaxed);
    }
}

/// A TCP stream with limits on how long its peer may take.
pub(super) struct Connection {
    stream: TcpStream,
    limits: ServerLimits,
    progress: Arc<Progress>,
    /// One timer for all limits; it may fire early, and is then set anew.
    timer: Pin<Box<Sleep>>,
    /// The value of `progress.requests` that the next fields are about.
    seen: usize,
    /// Whether a part of a request's head has arrived.
    in_head: bool,
    /// Since when the peer is waited for, once it is.
    waiting: Option<Instant>,
    /// Since when the peer takes nothing of the answer, while it does not.
    blocked: Option<Instant>,
    /// Since when both sides are done, but the peer may still be sending what nobody reads.
    lingering: Option<Instant>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, limits: ServerLimits, progress: Arc<Progress>) -> Self {
        Self {
            stream,
            limits,
            progress,
            timer: Box::pin(sleep_until(Instant::now() + limits.header_timeout)),
            seen: 0,
            // Whoever connects has something to ask.
            in_head: true,
            waiting: None,
            blocked: None,
            lingering: None,
        }
    }

    /// Whether `deadline` has passed; if not, the task is woken when it does.
    fn is_past(&mut self, deadline: Instant, cx: &mut Context<'_>) -> bool {
        if self.timer.deadline() > deadline {
            self.timer.as_mut().reset(deadline);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return true;
            }
            self.timer.as_mut().reset(deadline);
        }
        false
    }

    /// The peer sends nothing: an error once it may no longer be silent.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let requests = self.progress.requests.load(Relaxed);
        if self.seen != requests {
            (self.seen, self.in_head, self.waiting) = (requests, false, None);
        }
        if self.progress.serving.load(Relaxed) {
            return Poll::Pending;
        }
        let since = *self.waiting.get_or_insert_with(Instant::now);
        let patience = if self.in_head { self.limits.header_timeout } else { self.limits.idle_timeout };
        if self.is_past(since + patience, cx) {
            return Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the client sends no request")));
        }
        Poll::Pending
    }

    /// After a write: an error once the peer has not taken anything for too long.
    fn poll_blocked(
        &mut self,
        written: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.blocked = None;
            // An answer that streams is no idle connection.
            if !self.in_head {
                self.waiting = None;
            }
            return written;
        }
        let since = *self.blocked.get_or_insert_with(Instant::now);
        if self.is_past(since + self.limits.write_timeout, cx) {
            return Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the client takes no answer")));
        }
        Poll::Pending
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Pending => self.poll_silence(cx),
            done @ Poll::Ready(_) => {
                // The first bytes since the last request begin a head; more of the same head are no reprieve.
                let requests = self.progress.requests.load(Relaxed);
                if !self.progress.serving.load(Relaxed) {
                    if self.seen != requests || !self.in_head {
                        (self.seen, self.in_head, self.waiting) = (requests, true, None);
                    }
                    self.progress.came(buffer.filled().get(before..).unwrap_or_default());
                }
                done
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.poll_blocked(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.poll_blocked(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper has asked for the next request before it flushes the answer, and asks again only when something
        // arrives: the wait for it starts here.
        if let Poll::Ready(silent) = self.poll_silence(cx) {
            return Poll::Ready(silent);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Closes our half. What the peer still sends of a request that nobody reads is read and dropped for a moment:
    /// closing a socket with unread bytes resets it, and the peer might never see its answer.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        let since = *self.lingering.get_or_insert_with(Instant::now);
        if !self.progress.unread.load(Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let deadline = since + self.limits.linger;
        let mut scrap = [0; 4096];
        // Bounded, so that a fast sender does not hold this thread until it is done.
        for _ in 0..64 {
            let mut scrap = ReadBuf::new(&mut scrap);
            match Pin::new(&mut self.stream).poll_read(cx, &mut scrap) {
                Poll::Ready(Ok(())) if !scrap.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending if self.is_past(deadline, cx) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
        if Instant::now() >= deadline {
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
