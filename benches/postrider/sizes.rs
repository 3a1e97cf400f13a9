//! How much each workload does: for a look, by default, and in full.

use std::time::Duration;

/// The sizes of one run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// How long pushes are measured, at each number of connections.
    pub(super) push: Duration,
    /// How many messages `drain` handles.
    pub(super) drain: usize,
    /// How long producers produce.
    pub(super) sustained: Duration,
    /// How long a raw life cycle with inserts is measured, at each number of connections.
    pub(super) raw: Duration,
    /// How long pushes come at a steady pace.
    pub(super) latency: Duration,
    /// How many messages go through the JavaScript handler.
    pub(super) javascript: usize,
    /// How many messages the hub delivers.
    pub(super) hub: usize,
    /// How long an idle server is left to settle, and then watched.
    pub(super) idle: (Duration, Duration),
    /// How long a snapshot is held under load.
    pub(super) held: Duration,
    /// How many jobs have subscribers, how many each, and how long they are measured.
    pub(super) channels: (usize, usize, Duration),
    /// How many messages `backlog` handles, and how many others wait behind them.
    pub(super) backlog: (usize, usize),
}

impl Sizes {
    pub(super) fn new(quick: bool, full: bool) -> Self {
        let seconds = Duration::from_secs;
        let default = Self {
            push: seconds(3),
            drain: 100_000,
            sustained: seconds(10),
            raw: seconds(4),
            latency: seconds(5),
            javascript: 3_000,
            hub: 40_000,
            idle: (seconds(22), seconds(10)),
            held: seconds(20),
            backlog: (50_000, 300_000),
            channels: (200, 50, seconds(8)),
        };
        if quick {
            Self {
                push: seconds(1),
                drain: 30_000,
                sustained: seconds(3),
                raw: seconds(1),
                latency: seconds(2),
                javascript: 1_000,
                hub: 5_000,
                idle: (seconds(22), seconds(5)),
                held: seconds(5),
                backlog: (20_000, 100_000),
                channels: (50, 40, seconds(4)),
            }
        } else if full {
            Self {
                push: seconds(10),
                sustained: seconds(30),
                raw: seconds(10),
                latency: seconds(20),
                javascript: 20_000,
                hub: 100_000,
                held: seconds(60),
                backlog: (50_000, 2_000_000),
                channels: (200, 50, seconds(30)),
                ..default
            }
        } else {
            default
        }
    }
}
