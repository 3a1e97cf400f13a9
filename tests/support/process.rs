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

/// The processes, not yet ended, that have `text` in their command line.
pub(crate) fn with_argument(text: &str) -> Vec<Pid> {
    let pids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    pids.filter_map(Pid::from_raw)
        .filter(|pid| {
            let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(text) && is_alive(*pid)
        })
        .collect()
}

/// The processes, not yet ended, that descend from this one.
pub(crate) fn descendants(ancestor: Pid) -> Vec<Pid> {
    let mut found = vec![ancestor];
    let all: Vec<Pid> = with_argument("");
    let parents: Vec<(Pid, Option<String>)> =
        all.into_iter().map(|pid| (pid, status(pid, "PPid:"))).collect();
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|pid| pid.as_raw_nonzero().to_string()) {
        found.extend(parents.iter().filter(|(_, of)| of.as_deref() == Some(&*parent)).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

/// How much CPU time the process has used, in ticks of a hundredth of a second.
pub(crate) fn cpu_ticks(pid: Pid) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
    // After the name, which may contain anything, the 12th and 13th field are user and system time.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
