//! The limits of the server: how long a client may take, and how many there may be.

use std::time::Duration;

/// The largest head of a request, in bytes; beyond it the answer is 431.
pub(super) const MAX_HEAD: usize = 32 << 10;

/// How long a client may take, and how many there may be.
#[derive(Debug, Clone, Copy)]
pub struct ServerLimits {
    /// How long the head of a request may take, from the connection or from its first byte.
    pub header_timeout: Duration,
    /// How long a connection may stay without a request.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of its answer.
    pub write_timeout: Duration,
    /// How long the rest of a refused request is read and dropped, so that the client sees the refusal.
    pub linger: Duration,
    /// Connections at one time; those beyond wait in the backlog of the operating system.
    pub max_connections: usize,
    /// How long requests may go on after the signal to stop.
    pub grace: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            linger: Duration::from_secs(1),
            // Every long poll that may wait has one, and there is room beside them.
            max_connections: 20_480,
            grace: Duration::from_secs(20),
        }
    }
}
