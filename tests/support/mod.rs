//! What tests share.

pub(crate) mod answer;
pub(crate) mod app;
pub(crate) mod chromium;
pub(crate) mod endpoint;
pub(crate) mod gate;
pub(crate) mod hang_up;
pub(crate) mod nginx;
pub(crate) mod pgbouncer;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod reads;
pub(crate) mod scripted;
pub(crate) mod sdk;
pub(crate) mod serve;
pub(crate) mod server;
pub(crate) mod tap;
pub(crate) mod tls;
pub(crate) mod weeks;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Waits until `condition` holds, looking again and again for at most 30 s; fails with `what` if it never does.
pub(crate) async fn eventually(what: &str, condition: impl AsyncFnMut() -> bool) {
    eventually_within(Duration::from_secs(30), what, condition).await;
}

/// As [`eventually`], for what may take longer.
pub(crate) async fn eventually_within(limit: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition().await {
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Says on standard error what a test leaves out here. Not captured as what a test prints is: nobody is to believe that
/// it was checked.
#[expect(clippy::explicit_write, reason = "what eprintln prints is captured")]
pub(crate) fn not_checked(what: &str) {
    writeln!(std::io::stderr(), "not checked: {what}").unwrap();
}

/// Where a program is, also one for administrators only.
pub(crate) fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    directories.map(|directory| directory.join(program)).find(|program| program.is_file())
}

/// An address of this machine where nobody listens, and which stays free for who comes back to it: the kernel hands its
/// port out to nobody who asks for any.
pub(crate) fn free_address() -> SocketAddr {
    loop {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, rand::random_range(10_000..32_000)));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
