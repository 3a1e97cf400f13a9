//! Looks at processes, and kills them.

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::fs;

/// Whether the process is there and has not ended (a zombie has).
pub(crate) fn is_alive(pid: Pid) -> bool {
    test_kill_process(pid).is_ok() && status(pid, "State:").is_some_and(|state| !state.starts_with('Z'))
}

/// A line of the process's state, as proc(5) has it.
pub(crate) fn status(pid: Pid, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
}

pub(crate) fn parent(pid: Pid) -> Pid {
    Pid::from_raw(status(pid, "PPid:").unwrap().parse().unwrap()).unwrap()
}

pub(crate) fn kill(pid: Pid) {
    kill_process(pid, Signal::KILL).unwrap();
}
