//! The signals that end a command in order.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ctrl-C, what service managers send, and the end of the terminal.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// None when whoever started us had it ignored, as `nohup` does.
    hangup: Option<Signal>,
}

impl Signals {
    pub(super) fn new() -> anyhow::Result<Self> {
        // Asked first: from then on it is not ignored any more.
        let hangup = if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup,
        })
    }

    /// Waits for one of them.
    pub(super) async fn wait(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => _ = hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = hangup => {}
        }
    }

    /// What `work` returns, or `None` when a signal came first.
    pub(super) async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            () = self.wait() => None,
            done = work => Some(done),
        }
    }
}

/// Whether the process was started with SIGHUP ignored. Only Linux says so without unsafe code; elsewhere it counts
/// as not ignored.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask & 1 << (SignalKind::hangup().as_raw_value() - 1) != 0
}
