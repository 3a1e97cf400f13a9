//! Everything that a run consists of: the servers, what stands between them, and what is known of it all.

use crate::api::Api;
use crate::history::{History, Phase, What};
use crate::node::{Node, SECRET};
use crate::place::Place;
use crate::postgres::Postgres;
use crate::proxy::Proxy;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How long a worker counts as alive after its last heartbeat.
pub(crate) const LEASE: Duration = Duration::from_secs(3);
/// How many servers there are.
const NODES: usize = 3;
/// A kind of jobs whose lost workers are noticed soon, and whose jobs are begun again.
const JOBS: &str = r#"{"lease": "3s", "attempts": 100, "job_timeout": "10d", "grace": "5s"}"#;
/// Options with which what fails is tried again at once, more or less, and for ever.
const AGAIN: &str = r#"{"base": "30ms", "cap": "500ms"}"#;

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) enum Act {
    /// Clients and nemeses do what they can.
    Chaos,
    /// Nothing new comes, and everybody does what is right.
    Drain,
    /// Everybody goes.
    Over,
}

/// A run. What is first here ends first.
pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) postgres: Postgres,
    pub(crate) history: History,
    pub(crate) api: Api,
    pub(crate) seed: u64,
    pub(crate) place: Place,
    act: AtomicU8,
}

impl World {
    /// Starts PostgreSQL, and makes the servers ready to be started.
    pub(crate) async fn start(seed: u64, place: Place, clock: bool, planted: Option<&str>) -> Arc<Self> {
        let postgres = Postgres::start(place.path(), &place.disk(), clock).await;
        let definitions = place.path().join("queues");
        std::fs::create_dir(&definitions).unwrap();
        std::fs::write(definitions.join("chaos_jobs.jobs.json"), JOBS).unwrap();
        let (mut nodes, mut proxies) = (Vec::new(), Vec::new());
        for number in 1..=NODES {
            let proxy = Proxy::before(postgres.socket.join(".s.PGSQL.5432")).await;
            let url = format!("postgresql://postrider@127.0.0.1:{}/postrider?sslmode=disable", proxy.port);
            let settings = [
                ("DATABASE_URL", url.as_str()),
                ("POSTRIDER_LISTEN", "127.0.0.1:0"),
                ("POSTRIDER_JWT_SECRET", SECRET),
                ("POSTRIDER_SECRET_KEY", SECRET),
                ("POSTRIDER_ALLOW_NETWORKS", "127.0.0.0/8"),
                ("POSTRIDER_EXAMPLES", "false"),
                ("POSTRIDER_LEASE", "3s"),
                ("POSTRIDER_BROADCAST_RETENTION", "10d"),
                ("POSTRIDER_LOG", "info"),
                ("POSTRIDER_LOG_FORMAT", "json"),
                ("POSTRIDER_QUEUES_DIR", definitions.to_str().unwrap()),
                ("POSTRIDER_PLANTED_BUG", planted.unwrap_or_default()),
            ];
            let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let name = format!("n{number}");
            nodes.push(Node::new(&name, settings.to_vec(), place.path().join(format!("{name}.log"))));
            proxies.push(proxy);
        }
        let history = History::new(place.path());
        let act = AtomicU8::new(Act::Chaos as u8);
        Arc::new(Self { nodes, proxies, postgres, history, api: Api::new(), seed, place, act })
    }

    /// Starts the servers and defines what clients use; endpoints serve at `endpoints`.
    pub(crate) async fn open(&self, endpoints: &str) {
        for node in &self.nodes {
            // One after another: the first migrates.
            node.tend();
            self.until("a server serves", Duration::from_mins(2), async || node.url().is_some()).await;
        }
        let retry: serde_json::Value = serde_json::from_str(AGAIN).unwrap();
        let options = json!({ "concurrency": 16, "timeout": "2s", "max_attempts": 1000, "retry": retry });
        let posts = json!({ "kind": "http", "url": format!("{endpoints}/posts") });
        // A worker's claim ends at its timeout, whatever its heartbeats say: here the lease decides.
        let mut held = options.clone();
        held["timeout"] = json!("10s");
        self.put("/queues/remote", &json!({ "handler": { "kind": "worker" }, "options": held })).await;
        self.put("/queues/posts", &json!({ "handler": posts, "options": options })).await;
        let breaker = json!({ "failures": 1_000_000, "cooldown": "1s" });
        let endpoint = json!({ "url": format!("{endpoints}/hub"), "timeout": "2s", "concurrency": 8, "breaker": breaker });
        self.put("/stores/s1/endpoints/e", &endpoint).await;
        for (name, message, serial) in [
            ("fan", "order:new", json!(false)),
            ("line", "order:line", json!("payload.line")),
            ("leaf", "child:made", json!(false)),
        ] {
            let options = json!({ "retry": retry, "serial": serial });
            let mapping =
                json!({ "endpoint": "e", "service": name, "messages": [message], "options": options });
            self.put(&format!("/stores/s1/mappings/{name}"), &mapping).await;
        }
    }

    async fn put(&self, path: &str, body: &serde_json::Value) {
        let url = self.nodes[0].url().unwrap();
        let answer =
            self.api.send(reqwest::Method::PUT, &format!("{url}{path}"), "admin").json(body).send().await;
        let answer = answer.unwrap();
        let status = answer.status();
        assert!(status.is_success(), "{path}: {status}: {}", answer.text().await.unwrap());
    }

    pub(crate) fn act(&self) -> Act {
        match self.act.load(Ordering::SeqCst) {
            0 => Act::Chaos,
            1 => Act::Drain,
            _ => Act::Over,
        }
    }

    pub(crate) fn begin(&self, act: Act) {
        self.act.store(act as u8, Ordering::SeqCst);
    }

    /// Sleeps, but not into the last act.
    pub(crate) async fn sleep(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until && self.act() < Act::Over {
            sleep((until - Instant::now()).min(Duration::from_millis(100))).await;
        }
    }

    /// Starts servers that have ended, as a service manager does, until the last act.
    pub(crate) async fn tend(&self) {
        while self.act() < Act::Over {
            self.nodes.iter().for_each(Node::tend);
            sleep(Duration::from_millis(250)).await;
        }
    }

    /// Waits until `condition` holds; says whether it did in time.
    pub(crate) async fn wait(&self, patience: Duration, mut condition: impl AsyncFnMut() -> bool) -> bool {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if condition().await {
                return true;
            }
            sleep(Duration::from_millis(50)).await;
        }
        false
    }

    async fn until(&self, what: &str, patience: Duration, condition: impl AsyncFnMut() -> bool) {
        assert!(self.wait(patience, condition).await, "{what}: not within {patience:?}");
    }

    /// Notes what a nemesis does.
    pub(crate) fn nemesis(&self, phase: Phase, name: &str, detail: &str) {
        let (name, detail) = (name.to_owned(), detail.to_owned());
        self.history.note("nemesis", What::Nemesis { phase, name, detail });
    }
}
