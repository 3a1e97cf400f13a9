//! Everything that reaches the child: lines from its parent, read by a thread of their own, so that the end
//! of the parent ends the child even while a handler hangs.

use super::outbox::Outbox;
use super::{End, Order};
use crate::queues::javascript::protocol::decode;
use rustix::process::{Signal, getpid, kill_process};
use std::io::{self, BufRead, BufReader};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Instant;

/// The lines from the parent, in order.
#[derive(Debug)]
pub(super) struct Inbox {
    lines: Receiver<Vec<u8>>,
}

/// What came while a handler ran.
#[derive(Debug)]
pub(super) enum Arrival {
    /// An order.
    Order(Order<'static>),
    /// Nothing, until it was time.
    Nothing,
    /// The pipe has closed.
    Closed,
}

impl Inbox {
    /// Starts to read.
    pub(super) fn open(outbox: Arc<Outbox>) -> io::Result<Self> {
        let (sender, lines) = channel();
        thread::Builder::new().name("inbox".to_owned()).spawn(move || read(&sender, &outbox))?;
        Ok(Self { lines })
    }

    /// The next order, however long it takes; nothing once the pipe has closed.
    pub(super) fn wait(&self) -> Option<Order<'static>> {
        decode(&self.lines.recv().ok()?).ok()
    }

    /// The next order, if it comes until `deadline`.
    pub(super) fn wait_until(&self, deadline: Instant) -> Arrival {
        match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => decode(&line).map_or(Arrival::Closed, Arrival::Order),
            Err(RecvTimeoutError::Timeout) => Arrival::Nothing,
            Err(RecvTimeoutError::Disconnected) => Arrival::Closed,
        }
    }
}

/// Passes lines on until the pipe closes or the parent says stop, then ends this process, whatever its other
/// threads do.
fn read(lines: &Sender<Vec<u8>>, outbox: &Outbox) {
    let mut stdin = BufReader::with_capacity(64 << 10, io::stdin());
    loop {
        let mut line = Vec::new();
        match stdin.read_until(b'\n', &mut line) {
            Ok(read) if read > 0 => {}
            _ => die(),
        }
        if line == b"\"stop\"\n" {
            // The parent kills this process in a moment; if the log does not reach it, so be it.
            let _ = outbox.end(End::TimedOut);
            die();
        }
        if lines.send(line).is_err() {
            die();
        }
    }
}

/// Ends the process without running anything: the thread that runs JavaScript may be anywhere.
fn die() -> ! {
    let _ = kill_process(getpid(), Signal::KILL);
    std::process::abort()
}
