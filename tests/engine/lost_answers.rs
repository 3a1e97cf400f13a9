//! Commits whose answer is lost: what was written is not written again.

use super::{Gate, ask, ended, work};
use crate::support::app::{TestApp, database};
use crate::support::eventually;
use parking_lot::Mutex;
use postrider::{Failure, Message};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinSet;

/// A COMMIT as it stands on the wire.
pub(crate) const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";
/// The end of every answer: ready for the next query, outside a transaction.
const READY: &[u8] = b"Z\0\0\0\x05I";

/// Stands between an instance and its database, and can keep one answer to itself.
pub(crate) struct Proxy {
    pub(crate) options: PgConnectOptions,
    wanted: Arc<Mutex<Option<Vec<u8>>>>,
    _connections: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn before(database: &PgConnectOptions) -> Self {
        let socket = database.get_socket().unwrap().join(format!(".s.PGSQL.{}", database.get_port()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(listener.local_addr().unwrap().port())
            .username(database.get_username())
            .database(database.get_database().unwrap())
            .ssl_mode(PgSslMode::Disable);
        let wanted = Arc::<Mutex<Option<Vec<u8>>>>::default();
        let asked = Arc::clone(&wanted);
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut inner = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                inner.spawn(pass(client, socket.clone(), Arc::clone(&asked)));
            }
        });
        Self { options, wanted, _connections: connections }
    }

    /// Lets the next request with `bytes` in it through, and instead of its answer hangs up.
    pub(crate) fn lose_the_answer_to(&self, bytes: &[u8]) {
        *self.wanted.lock() = Some(bytes.to_owned());
    }

    pub(crate) fn has_lost_it(&self) -> bool {
        self.wanted.lock().is_none()
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Passes on what both say, until one hangs up or an answer is to be lost.
async fn pass(mut client: TcpStream, socket: PathBuf, wanted: Arc<Mutex<Option<Vec<u8>>>>) {
    let mut server = UnixStream::connect(socket).await.unwrap();
    let (mut request, mut answer) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let Ok(length @ 1..) = read else { return };
                let is_wanted = wanted.lock().as_ref().is_some_and(|part| contains(&request[..length], part));
                if server.write_all(&request[..length]).await.is_err() {
                    return;
                }
                if is_wanted {
                    let mut swallowed = Vec::new();
                    while !contains(&swallowed, READY) {
                        let length = server.read(&mut answer).await.unwrap();
                        swallowed.extend_from_slice(&answer[..length]);
                    }
                    *wanted.lock() = None;
                    return;
                }
            }
            read = server.read(&mut answer) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&answer[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// A handler whose messages wait at the gate, and then end as they say.
fn obedient(gate: &Gate) -> impl Fn(Message) -> super::Handled + Send + Sync + 'static {
    let held = gate.handler();
    move |message| {
        let fails = message.request.get() == "\"fails\"" && message.attempt == 1;
        let held = held(message);
        Box::pin(async move {
            let result = held.await;
            if fails { Err(Failure::Retry(json!("once"), Some(Duration::ZERO))) } else { result }
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_whose_commit_was_not_answered_counts_once() {
    let proxy = Proxy::before(&database().await).await;
    let gate = Gate::shut();
    let app = TestApp::on(proxy.options.clone(), &[], |app| app.handler("work", obedient(&gate))).await;
    app.define("q", work(json!({ "timeout": "10m", "concurrency": 2 }))).await;
    // With two in a lease, the first end leaves it open and the second closes it.
    for (bodies, attempts) in [(["works", "works"], [1, 1]), (["fails", "fails"], [2, 2])] {
        let before = gate.begun().len();
        app.post("/queues/q/pause", &json!(null)).await;
        let ids = super::push_all(&app, "/queues/q/messages:batch", &bodies.map(Value::from)).await;
        app.post("/queues/q/resume", &json!(null)).await;
        gate.until_running(2).await;
        for _ in 0..2 {
            proxy.lose_the_answer_to(COMMIT);
            gate.let_through(1);
            eventually("an answer is lost", async || proxy.has_lost_it()).await;
        }
        gate.let_through(2);
        for (id, attempt) in ids.iter().zip(attempts) {
            let message = ended(&app, "q", id).await;
            assert_eq!((&message["status"], &message["result"]), (&json!("COMPLETE"), &json!(attempt)));
            let history = app.whole_message("q", id).await["history"].take();
            assert_eq!(history.as_array().unwrap().len(), attempt, "{history}");
        }
        app.server.run_until_idle().await.unwrap();
        let expected: usize = attempts.iter().sum();
        assert_eq!(gate.begun().len() - before, expected, "nothing ran for the lost answer");
        if expected == 2 {
            // What was let through for second attempts waits for the next round.
            gate.0.permits.forget_permits(2);
        }
    }
    let mut db = app.connect().await;
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM leases").await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_whose_commit_was_not_answered_can_be_repeated_with_its_key() {
    let proxy = Proxy::before(&database().await).await;
    let app = TestApp::on(proxy.options.clone(), &[], |app| app).await;
    app.define("q", work(json!({}))).await;
    let push = async || {
        let request = app.request(reqwest::Method::POST, "/queues/q/messages");
        request.header("Idempotency-Key", "once").json(&json!("lose me")).send().await.unwrap()
    };
    proxy.lose_the_answer_to(b"\"lose me\"");
    let first = push().await;
    assert!(proxy.has_lost_it());
    assert_eq!(first.status(), 503, "nobody knows whether it is stored");
    assert!(first.headers().contains_key("retry-after"));
    let second = push().await;
    assert_eq!(second.status(), 200, "it was");
    let mut db = app.connect().await;
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM messages").await, 1);
    assert_eq!(ask::<i64>(&mut db, "SELECT count(*) FROM dispatch").await, 1);
    app.stop().await;
}
