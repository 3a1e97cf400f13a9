//! nginx as a distribution configures it, in front of a server, where it is installed.

use super::{eventually, free_address, installed};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tokio::net::TcpStream;

/// What the distribution has it do, and includes for those who use it.
const CONFIGURATION: &str = "/etc/nginx/nginx.conf";
const SITES: &str = "include /etc/nginx/sites-enabled/*;";

/// An nginx that ends when it is dropped, and leaves nothing.
pub(crate) struct Nginx {
    child: Child,
    directory: tempfile::TempDir,
    pub(crate) address: SocketAddr,
}

impl Nginx {
    /// Whether it is there, as a distribution configures it.
    pub(crate) fn is_installed() -> bool {
        let configured = fs::read_to_string(CONFIGURATION).is_ok_and(|text| text.contains(SITES));
        configured && installed("nginx").is_some()
    }

    /// Passes everything on to `server`, and is told nothing else: no site of the machine, but all its defaults. What it
    /// writes, it writes in a directory of its own.
    pub(crate) async fn before(server: SocketAddr) -> Self {
        let (address, directory) = (free_address(), tempfile::tempdir().unwrap());
        // Its workers have a user of their own.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let own = directory.path().display().to_string();
        let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let mut site: Vec<String> =
            kinds.iter().map(|kind| format!("{kind}_temp_path {own}/{kind};")).collect();
        site.push(format!("server {{ listen {address}; location / {{ proxy_pass http://{server}; }} }}"));
        let site = site.join("\n");
        let configuration = fs::read_to_string(CONFIGURATION).unwrap();
        let configuration = configuration.replace(SITES, &site).replace("/var/log/nginx", &own);
        let file = directory.path().join("nginx.conf");
        fs::write(&file, configuration.replace("/run/nginx.pid", &format!("{own}/pid"))).unwrap();
        let mut command = Command::new(installed("nginx").unwrap());
        command.arg("-p").arg(directory.path()).arg("-c").arg(&file);
        command.args(["-e", &format!("{own}/error.log"), "-g", "daemon off;"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let nginx = Self { child, directory, address };
        eventually("nginx listens", async || TcpStream::connect(address).await.is_ok()).await;
        nginx
    }

    /// What it has answered: a line each, as it logs it by default.
    pub(crate) fn log(&self) -> Vec<String> {
        let file: &Path = &self.directory.path().join("access.log");
        fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Killed, it would leave its workers.
        _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        drop(self.child.wait());
    }
}
