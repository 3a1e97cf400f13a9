//! The child process: waits for a message on its standard input, runs its handler, answers on its standard
//! output. It has nothing of our environment, no file, no socket and no database; it ends when its parent does.

mod console;
mod inbox;
mod json;
mod memory;
mod outbox;
mod run;
mod sandbox;
mod services;
mod steer;
mod timers;

use super::limits;
use super::protocol::{End, Event, Order};
use inbox::Inbox;
use memory::Memory;
use outbox::Outbox;
use run::{Run, Step};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// The `main` of the child: serves until its parent closes the pipe, or tells it to stop.
///
/// # Errors
/// When the limits of the process cannot be set or its threads not be started; nothing has run then.
pub fn main() -> std::io::Result<ExitCode> {
    let memory = Memory::open();
    confine()?;
    let outbox = Arc::new(Outbox::default());
    let inbox = Inbox::open(Arc::clone(&outbox))?;
    let javascript = thread::Builder::new()
        .name("javascript".to_owned())
        .stack_size(limits::THREAD_STACK)
        .spawn(move || serve(&inbox, &outbox, &memory))?;
    // The thread that reads stays behind in a read; returning from here ends it too.
    let served = javascript.join().is_ok();
    Ok(if served { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Takes from this process what a handler that broke out of QuickJS could use: memory without end, a core
/// file with its parent's secrets beside it, and any file or socket beyond the four that are
/// open.
fn confine() -> rustix::io::Result<()> {
    let hard = |limit| Rlimit { current: Some(limit), maximum: Some(limit) };
    setrlimit(Resource::As, hard(limits::ADDRESS_SPACE))?;
    setrlimit(Resource::Core, hard(0))?;
    setrlimit(Resource::Nofile, hard(4))
}

fn serve(inbox: &Inbox, outbox: &Arc<Outbox>, memory: &Memory) {
    let mut loaded = String::new();
    while let Some(order) = inbox.wait() {
        // An answer of a service to a run that is over means nothing any more.
        let Order::Run { source, name, timeout_ms, attempt, max_attempts, message, traceparent } = order
        else {
            continue;
        };
        if let Some(source) = source {
            loaded = source.into_owned();
        }
        let began = Instant::now();
        outbox.begin(began);
        let run = Run {
            source: &loaded,
            name: &name,
            message: message.as_deref(),
            traceparent: traceparent.as_deref(),
            attempt,
            max_attempts,
            memory,
            deadline: began + Duration::from_millis(timeout_ms),
        };
        // The runtime is freed before the answer goes out: freeing it is part of what this message costs.
        let end = match run.execute(inbox, outbox) {
            Step::Ended(end) => end,
            Step::Orphaned => return,
        };
        if outbox.end(end).is_err() {
            return;
        }
    }
}
