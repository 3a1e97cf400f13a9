//! Callers that go away: sqlx 0.9.0 forgets a transaction whose `begin` is dropped half-way, and what others
//! then write on that connection is acknowledged and lost. Ours must not be touched by it.

use super::{act, ask, work};
use crate::support::app::{TestApp, database};
use crate::support::eventually;
use postrider::internals::db;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sqlx::postgres::{PgPool, PgPoolOptions};
use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Polls `work` this often at most, and then drops it; returns whether it came to its end.
async fn for_polls(polls: usize, work: impl Future) -> bool {
    let mut work = pin!(work);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        if work.as_mut().poll(context).is_ready() {
            return Poll::Ready(true);
        }
        // Polled again at once, however little has happened: dropped in every state it goes through.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_at_any_moment_harms_nobody_after_it() {
    let options = database().await.options([("search_path", "postrider")]);
    // One connection: who comes next gets what the last one left.
    let pool: PgPool = PgPoolOptions::new().max_connections(1).connect_with(options.clone()).await.unwrap();
    let witness: PgPool = PgPoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    sqlx::raw_sql("CREATE TABLE kept (number bigint PRIMARY KEY); CREATE TABLE tried (number bigint)")
        .execute(&pool)
        .await
        .unwrap();
    let mut acknowledged = 0;
    for number in 0..200_i64 {
        let polls = usize::try_from(number).unwrap();
        let tries = db::transaction::<_, sqlx::Error, _>(&pool, move |tx| {
            Box::pin(async move {
                sqlx::query("INSERT INTO tried VALUES ($1)").bind(number).execute(&mut *tx).await?;
                Ok(())
            })
        });
        acknowledged += i64::from(for_polls(polls, tries).await);
        sqlx::query("INSERT INTO kept VALUES ($1)").bind(number).execute(&pool).await.unwrap();
        let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM kept").fetch_one(&witness).await.unwrap();
        assert_eq!(kept, number + 1, "acknowledged, and lost");
    }
    let open =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'";
    assert_eq!(sqlx::query_scalar::<_, i64>(open).fetch_one(&witness).await.unwrap(), 0);
    let tried: i64 = sqlx::query_scalar("SELECT count(*) FROM tried").fetch_one(&witness).await.unwrap();
    assert!(tried >= acknowledged, "{tried} of {acknowledged}");
    pool.close().await;
    witness.close().await;
}

/// Sends a request and hangs up after some time; returns the status if the answer came in time.
async fn hang_up_after(address: &str, request: &str, patience: Duration) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(patience, stream.read_to_string(&mut answer)).await;
    // An answer counts when all of it is here: the server closes the connection after it.
    read.ok()?.ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_stays_whoever_hangs_up_beside_it() {
    const CLIENTS: usize = 20;
    const ROUNDS: usize = 50;
    // Nobody here can run it: pushes and deletes are all that happens.
    let app = TestApp::start().await;
    app.define("q", work(json!({}))).await;
    let address = app.url.trim_start_matches("http://").to_owned();
    let token = app.token(&["system_admin"]);
    let send = move |method: &str, path: &str, body: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let address = app.url.trim_start_matches("http://").to_owned();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (send, address) = (send.clone(), address.clone());
        clients.spawn(async move {
            // By id: whether it has to be there. Of a delete without an answer nobody knows.
            let mut known: HashMap<String, bool> = HashMap::new();
            let mut answers = 0;
            for round in 0..ROUNDS {
                let patience = match (client + round) % 3 {
                    0 => Duration::from_secs(30),
                    _ => Duration::from_micros(rand::random_range(0..6000)),
                };
                let push = send("POST", "/queues/q/messages", &format!("[{client},{round}]"));
                let Some((status, body)) = hang_up_after(&address, &push, patience).await else { continue };
                assert_eq!(status, 201, "{body}");
                answers += 1;
                let message: Value = serde_json::from_str(&body).unwrap();
                let id = message["id"].as_str().unwrap().to_owned();
                known.insert(id.clone(), true);
                if round % 2 == 0 {
                    continue;
                }
                // A read of many statements and a delete: both run in transactions.
                let whole = send("GET", &format!("/queues/q/messages/{id}?view=full"), "");
                hang_up_after(&address, &whole, Duration::from_micros(rand::random_range(0..4000))).await;
                let patience = match round % 4 {
                    1 => Duration::from_secs(30),
                    _ => Duration::from_micros(rand::random_range(0..6000)),
                };
                let delete = send("DELETE", &format!("/queues/q/messages/{id}"), "");
                known.remove(&id);
                if let Some((status, body)) = hang_up_after(&address, &delete, patience).await {
                    assert_eq!(status, 204, "{body}");
                    known.insert(id, false);
                }
            }
            (known, answers)
        });
    }
    let mut known: HashMap<String, bool> = HashMap::new();
    let mut answers = 0;
    while let Some(client) = clients.join_next().await {
        let (of_client, answered) = client.unwrap();
        known.extend(of_client);
        answers += answered;
    }
    assert!(answers >= CLIENTS * ROUNDS / 4, "{answers}");
    let mut db = app.connect().await;
    let open =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'";
    eventually("no transaction stays open", async || ask::<i64>(&mut db, open).await == 0).await;
    let stored: HashSet<String> = sqlx::query_scalar("SELECT id::text FROM messages")
        .fetch_all(&mut db)
        .await
        .unwrap()
        .into_iter()
        .collect();
    let lost: Vec<_> = known.iter().filter(|(id, there)| **there && !stored.contains(*id)).collect();
    assert!(lost.is_empty(), "acknowledged, and lost: {lost:?}");
    let back: Vec<_> = known.iter().filter(|(id, there)| !**there && stored.contains(*id)).collect();
    assert!(back.is_empty(), "deleted, and there: {back:?}");
    assert_eq!(act(&mut db, "SELECT 1").await, 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_begin_that_was_given_up_leaves_its_connection_to_nobody() {
    let options = database().await.options([("search_path", "postrider")]);
    let one = PgPoolOptions::new().max_connections(1).test_before_acquire(false);
    let pool: PgPool = one.connect_with(options.clone()).await.unwrap();
    let witness: PgPool = PgPoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    sqlx::raw_sql("CREATE TABLE kept (number bigint)").execute(&pool).await.unwrap();
    // The session goes silent for longer than anybody waits, and then goes on with what it was told.
    let session: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&pool).await.unwrap();
    let session = Pid::from_raw(session).unwrap();
    eventually("the pool has it back", async || pool.num_idle() == 1).await;
    kill_process(session, Signal::STOP).unwrap();
    let given_up = db::transaction::<(), sqlx::Error, _>(&pool, |_| Box::pin(async { Ok(()) })).await;
    assert!(matches!(given_up, Err(sqlx::Error::Io(_))), "{given_up:?}");
    kill_process(session, Signal::CONT).unwrap();
    eventually("it is stored, and stays", async || {
        sqlx::query("INSERT INTO kept VALUES (1)").execute(&pool).await.is_ok()
    })
    .await;
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM kept").fetch_one(&witness).await.unwrap();
    assert_eq!(kept, 1, "acknowledged, and lost");
    pool.close().await;
    witness.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_one_statement_and_no_word_in_the_log_of_the_database() {
    let app = TestApp::start().await;
    app.define("q", work(json!({}))).await;
    let id = app.push("q", &json!(1)).await;
    let mut db = app.connect().await;
    let reads = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'postrider api' AND query = 'ROLLBACK'";
    for _ in 0..50 {
        assert_eq!(app.message("q", &id).await["status"], "PENDING");
        assert_eq!(ask::<i64>(&mut db, reads).await, 0, "a read ends with its answer");
    }
    app.stop().await;
}
