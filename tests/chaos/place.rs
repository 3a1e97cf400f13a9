//! Where a run lives: a directory, on a small disk of its own if that can be had, which goes with it unless it is
//! to be kept.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// The size of the disk for PostgreSQL's data.
const DISK: &str = "size=400m,mode=755";

/// The directory of a run.
pub(crate) struct Place {
    directory: PathBuf,
    mounted: bool,
    kept: AtomicBool,
}

impl Place {
    /// A new one. `small_disk`: whether the data is to lie on a disk that can be filled.
    pub(crate) fn new(small_disk: bool) -> Self {
        let directory =
            std::env::temp_dir().join(format!("postrider-chaos-{}", uuid::Uuid::now_v7().simple()));
        let mut place = Self { directory, mounted: false, kept: AtomicBool::new(false) };
        fs::create_dir(&place.directory).unwrap();
        fs::create_dir(place.disk()).unwrap();
        for each in [place.directory.clone(), place.disk()] {
            fs::set_permissions(each, Permissions::from_mode(0o755)).unwrap();
        }
        place.mounted = small_disk && {
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", DISK, "postrider-chaos"]).arg(place.disk());
            mount.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
        };
        place
    }

    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    /// Where PostgreSQL's data is.
    pub(crate) fn disk(&self) -> PathBuf {
        self.directory.join("disk")
    }

    /// Whether the disk can be filled without harm to anybody else.
    pub(crate) fn has_disk(&self) -> bool {
        self.mounted
    }

    /// Leaves the history and the logs where they are; the data goes all the same.
    pub(crate) fn keep(&self) {
        self.kept.store(true, Ordering::SeqCst);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.mounted {
            drop(Command::new("umount").arg("-l").arg(self.disk()).status());
        }
        drop(fs::remove_dir_all(self.disk()));
        if !self.kept.load(Ordering::SeqCst) && !std::thread::panicking() {
            drop(fs::remove_dir_all(&self.directory));
        }
    }
}
