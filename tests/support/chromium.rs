//! Chromium without a screen, where it is installed.

use super::installed;
use super::process::{descendants, is_alive, with_argument};
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A Chromium that ends, with all its processes, when it is dropped, and leaves nothing.
pub(crate) struct Chromium {
    child: Child,
    directory: tempfile::TempDir,
}

impl Chromium {
    pub(crate) fn is_installed() -> bool {
        installed("chromium").is_some()
    }

    /// Opens a page. What it writes, it writes in a directory of its own.
    pub(crate) fn open(page: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let child = Command::new(installed("chromium").unwrap())
            // A container lets it build no sandbox; it reads the test's own page alone.
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-component-update"])
            .args(["--disable-sync", "--disable-breakpad", "--no-proxy-server"])
            .arg(format!("--user-data-dir={}", directory.path().display()))
            .arg(page)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", directory.path())
            .env("TMPDIR", directory.path())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, directory }
    }

    /// Its processes: most descend from the first, the others name its directory.
    fn processes(&self) -> Vec<Pid> {
        let mut all = descendants(Pid::from_child(&self.child));
        all.extend(with_argument(&self.directory.path().display().to_string()));
        all
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let mut all = self.processes();
        drop(self.child.kill());
        drop(self.child.wait());
        let deadline = Instant::now() + Duration::from_secs(30);
        while !all.is_empty() && Instant::now() < deadline {
            for pid in &all {
                _ = kill_process(*pid, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(10));
            all.extend(with_argument(&self.directory.path().display().to_string()));
            all.retain(|pid| is_alive(*pid));
        }
    }
}
