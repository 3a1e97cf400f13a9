//! Work on what is large, or slow of its own, is done where it keeps nobody else waiting: the threads of the runtime are
//! everybody's.

use tokio::task::JoinError;

/// What is larger than this, in bytes, is read, signed or searched aside: a hostile answer of a MiB costs a second.
pub const LARGE: usize = 16 << 10;

/// Does `work`: here, or on a thread of its own where `is_slow`. It goes on to its end even if nobody waits for it any more.
///
/// # Errors
/// It panicked aside.
pub async fn aside<T: Send + 'static>(
    is_slow: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    if is_slow { tokio::task::spawn_blocking(work).await } else { Ok(work()) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use std::thread::current;

    #[tokio::test]
    async fn what_is_slow_is_done_on_another_thread_and_the_rest_here() {
        assert_eq!(aside(false, || current().id()).await.unwrap(), current().id());
        assert_ne!(aside(true, || current().id()).await.unwrap(), current().id());
        assert!(aside(true, || assert_eq!(1, 2)).await.is_err());
    }
}
