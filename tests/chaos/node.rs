//! One `postrider serve`: a process that is killed, stopped, told to end, and always started again.

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The secret that the run's tokens are signed with.
pub(crate) const SECRET: &str = "a secret of the chaos harness of at least 32 bytes";

pub(crate) struct Node {
    pub(crate) name: String,
    settings: Vec<(String, String)>,
    log: PathBuf,
    url: Arc<Mutex<Option<String>>>,
    child: Mutex<Option<Child>>,
    starts: AtomicUsize,
}

impl Node {
    /// One that is not started yet; [`Node::tend`] starts it.
    pub(crate) fn new(name: &str, settings: Vec<(String, String)>, log: PathBuf) -> Self {
        let (url, child) = (Arc::default(), Mutex::new(None));
        Self { name: name.to_owned(), settings, log, url, child, starts: AtomicUsize::new(0) }
    }

    /// Where it serves, as it said at its last start.
    pub(crate) fn url(&self) -> Option<String> {
        self.url.lock().clone()
    }

    /// How often it was started.
    pub(crate) fn starts(&self) -> usize {
        self.starts.load(Ordering::Relaxed)
    }

    /// Starts it if it does not run.
    pub(crate) fn tend(&self) {
        let mut child = self.child.lock();
        if child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|ended| ended.is_none())) {
            return;
        }
        *self.url.lock() = None;
        self.starts.fetch_add(1, Ordering::Relaxed);
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_postrider"))
            .arg("serve")
            .current_dir(std::env::temp_dir())
            .env_clear()
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let (output, url) = (process.stdout.take().unwrap(), Arc::clone(&self.url));
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let said = line.strip_prefix("Postrider serves ").and_then(|rest| rest.split(' ').next());
                if let Some(said) = said {
                    *url.lock() = Some(said.to_owned());
                }
            }
        });
        *child = Some(process);
    }

    /// Sends it a signal, if it runs.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(child) = &*self.child.lock() {
            // It may have ended, and is not waited for yet: then its number is still its own.
            _ = kill_process(Pid::from_child(child), signal);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.lock().take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
