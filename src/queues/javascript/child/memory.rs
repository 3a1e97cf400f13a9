//! How much memory this process has ever used, for the one case in which QuickJS cannot say that it had no
//! more.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// The kernel's account of this process, opened before files are forbidden.
pub(super) struct Memory(Option<File>);

impl Memory {
    /// Opens it; where there is no `/proc`, nothing is known.
    pub(super) fn open() -> Self {
        Self(File::open("/proc/self/status").ok())
    }

    /// Whether the process has ever held `bytes` at once.
    pub(super) fn has_held(&self, bytes: usize) -> bool {
        self.peak().is_some_and(|peak| peak >= bytes)
    }

    /// The largest resident set, in bytes: `VmHWM` in `proc_pid_status(5)`.
    fn peak(&self) -> Option<usize> {
        let mut text = [0; 4096];
        let read = self.0.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(&text[..read]).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().strip_suffix(" kB")?.parse::<usize>().ok()?.checked_mul(1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn this_test_needs_some_memory_and_not_all_there_is() {
        let memory = Memory::open();
        assert!(memory.has_held(1 << 10));
        assert!(!memory.has_held(usize::MAX));
    }
}
