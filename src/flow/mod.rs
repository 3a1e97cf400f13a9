//! When work may run, whatever it is: at which moments it comes by itself, and how much of a lane may go, and what waits for its
//! turn.
//!
//! Below the features, and knows none of them: an item is known by its id, and what limits it by its lane.
//!
//! | file | decides |
//! | --- | --- |
//! | `timing.rs` | at which moments something happens by itself: intervals and cron |
//! | `cadence.rs` | which of these moments come: in time, late, or not at all |
//! | `ticker.rs` | fires what is due, each moment once over all processes; features say what a firing makes |
//! | `rate.rs` | when each of some items may go under a rate limit |
//! | `rates.rs` | how many items of a lane have slots under its rate limit, over all processes |
//! | `circuit.rs` | when a server that fails, or a part of it, is left alone, and when it is tried again |
//! | `circuits.rs` | what this process knows of the circuits of lanes |
//! | `store/lines.rs` | whose turn it is, of items that run one after another |
//! | `store/` | all SQL of `rates`, `series`, `lines`, `line_waits`, `circuits`, `circuit_parts`, `schedules` and `ticks` |

pub mod cadence;
pub mod circuit;
pub mod circuits;
pub mod rate;
pub mod rates;
pub mod store;
pub mod ticker;
pub mod timing;
