//! One child process, from the parent's side.

use super::limits;
use super::outcome::{Crash, Outcome};
use super::protocol::{Event, Order, decode, encode};
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A child that waits for a message, or is at one. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// The part of a line that has arrived.
    partial: Vec<u8>,
    /// The handler it has in memory, which need not be sent again.
    loaded: Option<Arc<str>>,
}

/// Why there is no next line.
#[derive(Debug)]
pub(super) enum Silence {
    /// The child has died.
    Dead,
    /// It said something that a child of ours does not say.
    Babbling,
}

impl Process {
    /// Starts a child with none of our environment, in a group of its own: Ctrl-C at a terminal reaches us alone, and
    /// messages in progress end in peace. Standard error stays ours: nothing a handler does reaches it, and
    /// what a defect of ours prints should be seen.
    pub(super) fn spawn(program: &Path, args: &[OsString]) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(args)
            .env_clear()
            // The allocator would reserve more address space than the child may have.
            .env("MIMALLOC_ARENA_RESERVE", "0")
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("a child without pipes"));
        };
        let stdout = BufReader::with_capacity(64 << 10, stdout);
        Ok(Self { child, stdin, stdout, partial: Vec::new(), loaded: None })
    }

    /// The source to send with the next order: none if the child has it.
    pub(super) fn missing<'a>(&self, source: &'a Arc<str>) -> Option<&'a str> {
        let same = self.loaded.as_ref().is_some_and(|loaded| Arc::ptr_eq(loaded, source) || loaded == source);
        (!same).then_some(source)
    }

    /// Remembers what the child has loaded.
    pub(super) fn has(&mut self, source: &Arc<str>) {
        self.loaded = Some(Arc::clone(source));
    }

    /// Sends one order. Not to be abandoned halfway, unless the child is abandoned too.
    pub(super) async fn tell(&mut self, order: &Order<'_>) -> io::Result<()> {
        self.stdin.write_all(&encode(order)).await
    }

    /// The next thing the child says. May be abandoned and asked again.
    pub(super) async fn hear(&mut self) -> Result<Event, Silence> {
        loop {
            let Ok(arrived) = self.stdout.fill_buf().await else { return Err(Silence::Dead) };
            if arrived.is_empty() {
                return Err(Silence::Dead);
            }
            let end = arrived.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(arrived.len(), |end| end + 1);
            self.partial.extend_from_slice(&arrived[..taken]);
            self.stdout.consume(taken);
            if self.partial.len() > limits::LINE {
                return Err(Silence::Babbling);
            }
            if end.is_some() {
                let event = decode(&self.partial).map_err(|_| Silence::Babbling);
                self.partial.clear();
                return event;
            }
        }
    }

    /// How the run of a child that went silent has ended.
    pub(super) async fn autopsy(mut self, silence: Silence) -> Outcome {
        if let Silence::Babbling = silence {
            return Outcome::Crashed(Crash::Other("the handler's process broke the protocol".to_owned()));
        }
        Outcome::Crashed(match self.child.wait().await {
            Ok(status) => match status.signal() {
                // SIGHUP, SIGINT, SIGTERM: somebody ends the processes of this service, one by one.
                Some(1 | 2 | 15) => return Outcome::Interrupted,
                // SIGABRT: an allocation of ours failed. SIGKILL: nobody here sent it, so the system did.
                Some(6 | 9) => Crash::Memory,
                Some(signal) => Crash::Other(format!("the handler's process died of signal {signal}")),
                None => Crash::Other(format!("the handler's process ended: {status}")),
            },
            Err(error) => Crash::Other(format!("the handler's process is gone: {error}")),
        })
    }
}
