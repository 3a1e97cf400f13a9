//! The pool of child processes: deadlines, cancellation, turns, and what becomes of the children.

use crate::javascript::{Script, job, pool, run, stored};
use futures::FutureExt;
use futures::future::BoxFuture;
use postrider::internals::queues::javascript::services::{Answer, Services};
use postrider::internals::queues::javascript::{CheckError, Outcome, Pool, PoolOptions};
use serde_json::json;
use serde_json::value::RawValue;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn the_timeout_includes_waiting_for_a_service() {
    let pool = pool();
    let source = "module.exports = async m => { console.log('before'); await storageService.getList('x') }";
    let began = Instant::now();
    let job = job(source, "1", Duration::from_millis(200));
    let ended = pool.run(job, Arc::new(Script), CancellationToken::new()).await;
    assert!(began.elapsed() < Duration::from_secs(10), "the service never answers");
    assert_eq!(ended.logs[0].text, "before");
    let error = stored(ended).expect_err("it is late");
    assert_eq!(error, json!({"name": "TimeoutError", "message": "the handler did not settle within 200ms"}));
}

/// A service whose caller is stopped while it calls.
struct Cancels(CancellationToken);

impl Services for Cancels {
    fn call<'a>(&'a self, _: &'a str, _: &'a str, args: Box<RawValue>) -> BoxFuture<'a, Answer> {
        self.0.cancel();
        async move { Ok(args) }.boxed()
    }
}

#[tokio::test]
async fn a_cancelled_handler_stops_at_once_and_frees_its_child() {
    let mut options = PoolOptions::new(env!("CARGO_BIN_EXE_postrider"));
    (options.warm, options.max) = (1, 1);
    let pool = Pool::new(options);
    let cancel = CancellationToken::new();
    let hang =
        "module.exports = m => { idmService.getUser(1); Array.prototype.sort.call({length: 2 ** 53 - 1}) }";
    let began = Instant::now();
    let job = job(hang, "1", Duration::from_hours(1));
    let ended = pool.run(job, Arc::new(Cancels(cancel.clone())), cancel).await;
    assert!(matches!(ended.outcome, Outcome::Cancelled), "{ended:?}");
    assert_eq!(stored(run(&pool, "module.exports = m => m", "1").await), Ok(json!(1)));
    assert!(began.elapsed() < Duration::from_mins(1), "the handler would go on for an hour");
}

#[test]
fn a_child_ends_with_its_parent_even_while_it_hangs() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_postrider"))
        .arg("javascript-child")
        // As the pool starts it: the allocator's reserve would not fit into what the child may have.
        .env("MIMALLOC_ARENA_RESERVE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let source =
        "module.exports = m => { idmService.getUser(1); Array.prototype.sort.call({length: 2 ** 53 - 1}) }";
    let order = json!({"run": {"source": source, "name": "q.js", "timeout_ms": 3_600_000, "attempt": 1, "max_attempts": 1, "message": 1}});
    let mut stdin = child.stdin.take().expect("it is piped");
    writeln!(stdin, "{order}").expect("it reads");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("it writes");
    assert!(line.contains("getUser"), "{line}");
    // A parent that dies closes the pipe, and does no more than that.
    drop(stdin);
    assert!(!child.wait().expect("it ends").success());
}

#[tokio::test]
async fn more_messages_than_children_wait_for_their_turn() {
    let mut options = PoolOptions::new(env!("CARGO_BIN_EXE_postrider"));
    (options.warm, options.max) = (1, 2);
    let pool = Pool::new(options);
    let source = "module.exports = m => new Promise(done => setTimeout(done, 500, m))";
    let runs = (0..12).map(|n| {
        // Each would time out if the wait for a child counted.
        let job = job(source, &n.to_string(), Duration::from_secs(2));
        pool.run(job, Arc::new(Script), CancellationToken::new())
    });
    let results: Vec<_> = futures::future::join_all(runs).await.into_iter().map(stored).collect();
    assert_eq!(results, (0..12).map(|n| Ok(json!(n))).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_program_that_is_not_there_is_no_fault_of_the_handler() {
    let pool = Pool::new(PoolOptions::new("/nowhere/postrider"));
    let ended = run(&pool, "module.exports = m => 1", "1").await;
    assert!(matches!(ended.outcome, Outcome::NotStarted(_)), "{ended:?}");
    assert!(matches!(
        pool.check("q.js", &"module.exports = m => 1".into()).await,
        Err(CheckError::Unavailable(_))
    ));
}

#[tokio::test]
async fn a_handler_is_checked_without_a_message() {
    let pool = pool();
    assert_eq!(pool.check("q.js", &"module.exports = m => { throw 1 }".into()).await, Ok(()));
    for (source, line, message) in [
        ("module.exports = m => {\n  let x = ;\n}", Some(2), "SyntaxError"),
        ("module.exports = m => 'open", Some(1), "SyntaxError"),
        ("exports.handler = m => 1", None, "TypeError: module.exports is not a function"),
        ("", None, "TypeError: module.exports is not a function"),
        ("\n\nnull.x; module.exports = m => 1", Some(3), "TypeError"),
        ("for (;;);", None, "longer than 1s"),
        ("a\0b", None, "NUL"),
    ] {
        let Err(CheckError::Refused { line: found, message: why }) = pool.check("q.js", &source.into()).await
        else {
            panic!("{source:?} is refused")
        };
        assert_eq!(found, line, "{source:?}: {why}");
        assert!(why.contains(message), "{source:?}: {why}");
    }
}
