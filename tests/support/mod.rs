//! What tests share.

pub(crate) mod answer;
pub(crate) mod app;
pub(crate) mod endpoint;
pub(crate) mod gate;
pub(crate) mod hang_up;
pub(crate) mod pgbouncer;
pub(crate) mod process;
pub(crate) mod reads;
pub(crate) mod scripted;
pub(crate) mod serve;
pub(crate) mod server;
pub(crate) mod tap;
pub(crate) mod tls;
pub(crate) mod weeks;

use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Waits until `condition` holds, looking again and again for at most 30 s; fails with `what` if it never does.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(Instant::now() < deadline, "{what}: not within 30 s");
        sleep(Duration::from_millis(10)).await;
    }
}
