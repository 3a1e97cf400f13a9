//! Threads for work on schemas that is too long or too deep for the async ones.

use crate::error::{Error, Result};
use std::sync::LazyLock;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

/// Stack of such a thread, in bytes of address space; only what is used takes memory.
pub(super) const STACK: usize = 32 << 20;

/// As many at a time as there are processors. The work is bounded, so whoever waits gets a turn.
static TURNS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)));

/// Runs `work` on a new thread with a large stack. It goes on to its end even if nobody waits for it any more.
///
/// # Errors
/// [`Error::Unavailable`] if the operating system has no thread to spare, [`Error::Internal`] if `work` panicked.
pub(super) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let turn = TURNS.acquire().await.map_err(Error::internal)?;
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new()
        .name("schema".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            let _turn = turn;
            // Nobody is there to receive it when the request was given up.
            drop(sender.send(work()));
        })
        .map_err(|_| Error::Unavailable("no thread to validate on".to_owned(), Duration::from_secs(1)))?;
    receiver.await.map_err(Error::internal)
}
