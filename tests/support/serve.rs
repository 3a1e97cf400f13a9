//! Our binary as a process of its own, which a test may stop, kill and listen to.

use super::app::SECRET;
use super::server::BINARY;
use super::{eventually, eventually_within};
use parking_lot::Mutex;
use postrider::config::Jwt;
use postrider::internals::auth;
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use secrecy::SecretString;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Longer than a stop may take: the grace period (20 s), the last writes, and then the embedded server's checkpoint, which
/// waits for the disk and is cut short after 30 s.
const STOP: Duration = Duration::from_secs(90);

/// What a process says, line by line, as it comes.
type Lines = Arc<Mutex<Vec<String>>>;

/// A `postrider serve` that ends, at the latest, when it is dropped.
pub(crate) struct Serve {
    child: Child,
    /// Where it serves.
    pub(crate) url: String,
    said: Lines,
    logged: Lines,
    client: reqwest::Client,
}

impl Serve {
    /// Starts it in `directory` with nothing but these settings, and waits until it says where it serves.
    pub(crate) async fn start(directory: &Path, settings: &[(&str, &str)]) -> Self {
        let mut child = Command::new(BINARY)
            .arg("serve")
            .current_dir(directory)
            .env_clear()
            .envs(["PATH", "HOME", "TMPDIR"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .env("POSTRIDER_LISTEN", "127.0.0.1:0")
            .envs(settings.iter().copied())
            // Signals to the test's own group are not for it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (said, logged) = (collect(child.stdout.take()), collect(child.stderr.take()));
        // Until it is known, dropping this kills it.
        let mut serve = Self { child, url: String::new(), said, logged, client: reqwest::Client::new() };
        eventually("it says where it serves", async || {
            let ended = serve.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {:#?}", serve.log());
            let said = serve.said();
            let url = said.iter().find_map(|line| line.strip_prefix("Postrider serves ")?.split(' ').next());
            url.unwrap_or_default().clone_into(&mut serve.url);
            url.is_some()
        })
        .await;
        serve
    }

    /// As [`Serve::start`], on a database of the tests' server, with the tests' key, for local handlers.
    pub(crate) async fn on(database_url: &str, settings: &[(&str, &str)]) -> Self {
        let mut all = vec![
            ("DATABASE_URL", database_url),
            ("POSTRIDER_JWT_SECRET", SECRET),
            ("POSTRIDER_ALLOW_NETWORKS", "127.0.0.0/8"),
        ];
        all.extend(settings);
        Self::start(&std::env::temp_dir(), &all).await
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits until it has ended.
    pub(crate) async fn end(&mut self) -> ExitStatus {
        let mut status = None;
        eventually_within(STOP, "the process ends", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    /// Kills it, as nothing it could prepare for.
    pub(crate) async fn kill(mut self) {
        self.child.kill().unwrap();
        self.end().await;
    }

    /// What it has said on standard output.
    pub(crate) fn said(&self) -> Vec<String> {
        self.said.lock().clone()
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> Vec<String> {
        self.logged.lock().clone()
    }

    /// A request by an administrator, whose token is signed with the tests' key.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.request_of("tester", "system_admin", method, path)
    }

    /// A request by somebody with a role.
    pub(crate) fn request_of(
        &self,
        subject: &str,
        role: &str,
        method: Method,
        path: &str,
    ) -> reqwest::RequestBuilder {
        let (hour, roles) = (Duration::from_hours(1), [role.to_owned()]);
        let token = auth::sign(&SecretString::from(SECRET), &Jwt::default(), subject, &roles, hour).unwrap();
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth(token)
    }

    /// Defines a queue, which must be accepted.
    pub(crate) async fn define(&self, name: &str, definition: &Value) {
        let answer =
            self.request(Method::PUT, &format!("/queues/{name}")).json(definition).send().await.unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    }

    /// Pushes a message, which must be accepted; returns its id.
    pub(crate) async fn push(&self, queue: &str, message: &Value) -> String {
        let path = format!("/queues/{queue}/messages");
        let answer = self.request(Method::POST, &path).json(message).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        answer.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
    }

    /// Reads the admin view of a message.
    pub(crate) async fn message(&self, queue: &str, id: &str) -> Value {
        let path = format!("/queues/{queue}/messages/{id}?view=full");
        self.request(Method::GET, &path).send().await.unwrap().json().await.unwrap()
    }

    /// Waits until a message is COMPLETE, and returns its admin view.
    pub(crate) async fn complete(&self, queue: &str, id: &str) -> Value {
        let mut message = Value::Null;
        eventually("the message is complete", async || {
            message = self.message(queue, id).await;
            message["status"] == "COMPLETE"
        })
        .await;
        message
    }

    /// Whether `/readyz` is green; `None` when nobody answers.
    pub(crate) async fn is_ready(&self) -> Option<bool> {
        let answer = self.client.get(format!("{}/readyz", self.url)).send().await.ok()?;
        Some(answer.status().is_success())
    }
}

impl Drop for Serve {
    #[expect(clippy::print_stdout, reason = "it is shown with the failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("what {} has logged: {:#?}", self.url, self.log());
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn collect(output: Option<impl Read + Send + 'static>) -> Lines {
    let lines = Lines::default();
    let (output, collected) = (output.unwrap(), Arc::clone(&lines));
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            collected.lock().push(line);
        }
    });
    lines
}
