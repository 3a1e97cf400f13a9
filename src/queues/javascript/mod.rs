//! Handlers in JavaScript: user code, run by QuickJS in processes that hold nothing worth taking.
//!
//! ```text
//!   worker ── Pool::run(job) ──▶ one child, one message at a time        (pool.rs, process.rs)
//!                                 ├── its lines ◀──▶ JSON over two pipes  (protocol.rs)
//!                                 │     Run ▶   ◀ Call   Return ▶   ◀ End
//!                                 └── QuickJS, a fresh engine a message   (child/)
//!   Services::call ◀── the parent holds the credentials                  (services/)
//!   Outcome ── what the message ends with                                (outcome.rs)
//! ```
//!
//! A handler is stopped three times. At its deadline QuickJS interrupts itself; 50 ms later the parent asks
//! the child's other thread for the log; 100 ms later the process is killed. The first is not enough: loops
//! inside the engine (`Array.prototype.sort` on a thing of length 2⁵³) never look.

mod check;
pub mod child;
mod dialogue;
pub mod limits;
mod outcome;
mod pool;
mod process;
mod protocol;
pub mod services;

pub use check::CheckError;
pub use outcome::{Crash, Ended, Outcome};
pub use pool::{Job, Pool, PoolOptions};
pub use protocol::{LogLine, ServiceError};
