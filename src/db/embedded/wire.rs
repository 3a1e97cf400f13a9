//! What a process and the guard of its server say to each other: one JSON document a line, over a pipe.

use super::process::Stop;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// To the guard. The end of the pipe is the last order: stop the server, then end.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Order {
    Start,
    Stop(Stop),
}

/// From the guard: one for every order, and one for the start.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// The server accepts connections.
    Ready(Ready),
    /// It has stopped.
    Stopped,
    /// It could not be started, for this reason.
    Failed(String),
}

/// A server that accepts connections.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ready {
    /// The directory of its unix socket.
    pub(super) socket: PathBuf,
    /// PGDATA.
    pub(super) cluster: PathBuf,
    /// Whether that is elsewhere than in the data directory, which the server's user cannot reach.
    pub(super) elsewhere: bool,
    /// The user it runs as; none when it is ours.
    pub(super) user: Option<String>,
    /// The major version of PostgreSQL.
    pub(super) version: u32,
    /// The postmaster's process.
    pub(super) pid: i32,
}
