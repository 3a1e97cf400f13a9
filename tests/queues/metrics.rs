//! `/metrics`: for whom it is, and how much it tells when there are very many queues.

use crate::faults::url_of;
use crate::support::answer::{refusal, text};
use crate::support::app::{TestApp, database};
use crate::support::eventually;
use crate::support::serve::Serve;
use reqwest::Method;
use serde_json::json;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use std::collections::BTreeSet;

/// The names that a metric tells by this label.
fn names<'a>(text: &'a str, metric: &str, label: &str) -> BTreeSet<&'a str> {
    let label = format!("{label}=\"");
    let lines = text.lines().filter(|line| line.starts_with(&format!("{metric}{{")));
    lines.map(|line| line.split(&label).nth(1).unwrap().split('"').next().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_needs_a_role_unless_a_setting_opens_it() {
    let app = TestApp::start().await;
    let metrics = || app.anonymous(Method::GET, "/metrics");
    refusal(metrics().send().await.unwrap(), 401).await;
    let ask = async |role: &str| metrics().bearer_auth(app.token(&[role])).send().await.unwrap();
    for role in ["queue_writer", "report_reader", "s1_hub_admin"] {
        refusal(ask(role).await, 403).await;
    }
    for role in ["metrics_reader", "queue_admin", "hub_admin", "system_admin"] {
        let told = text(ask(role).await, 200).await;
        let build = format!("postrider_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
        for line in [&build, "# TYPE postrider_busy gauge"] {
            assert!(told.lines().any(|other| other == line), "{role}: {line}\n{told}");
        }
        let pools = names(&told, "postrider_pool_connections", "pool");
        assert_eq!(pools, BTreeSet::from(["api", "heartbeat", "worker"]));
    }
    app.stop().await;
    let open = TestApp::with(&[("POSTRIDER_METRICS", "open")], |app| app).await;
    assert!(text(open.anonymous(Method::GET, "/metrics").send().await.unwrap(), 200).await.contains("busy"));
    open.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_tells_of_queues_that_are_used_and_not_of_those_that_are_only_there() {
    const PUSHED: &str = "postrider_messages_pushed_total";
    let database = database().await;
    let options = database.clone().options([("search_path", "postrider")]);
    let mut db = PgConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(
        r#"WITH lane AS (
            INSERT INTO lanes (kind) SELECT 'queue' FROM generate_series(1, 2000) RETURNING id
        )
        INSERT INTO queues (id, name, definition, version)
        SELECT id, 'q' || row_number() OVER (), '{"handler":{"kind":"worker"}}', 1 FROM lane;
        UPDATE catalog SET revision = revision + 1"#,
    )
    .execute(&mut db)
    .await
    .unwrap();
    // A process of its own: those of one process share what they count.
    let serve = Serve::on(&url_of(&database), &[]).await;
    let shown = async || text(serve.request(Method::GET, "/metrics").send().await.unwrap(), 200).await;
    let push = async |queue: usize| drop(serve.push(&format!("q{queue}"), &json!(1)).await);
    for queue in 1..=10 {
        push(queue).await;
    }
    let used: BTreeSet<String> = (1..=10).map(|queue| format!("q{queue}")).collect();
    let mut told = String::new();
    eventually("the depths are measured", async || {
        told = shown().await;
        names(&told, "postrider_queue_ready", "queue").len() == 10
    })
    .await;
    let is_used =
        |told: &str, metric: &str| names(told, metric, "queue").iter().all(|name| used.contains(*name));
    for metric in [PUSHED, "postrider_queue_ready", "postrider_queue_oldest_ready_seconds"] {
        assert!(is_used(&told, metric) && names(&told, metric, "queue").len() == 10, "{metric}\n{told}");
    }
    assert!(names(&told, "postrider_attempts_total", "queue").is_empty());
    assert!(told.len() < 50_000, "{} bytes", told.len());

    let deleted = serve.request(Method::DELETE, "/queues/q3").send().await.unwrap();
    assert_eq!(deleted.status(), 204);
    eventually("its series go with it", async || {
        told = shown().await;
        !told.contains("\"q3\"")
    })
    .await;
    assert_eq!(names(&told, PUSHED, "queue").len(), 9);

    for queue in 11..=520 {
        push(queue).await;
    }
    told = shown().await;
    let names = names(&told, PUSHED, "queue");
    assert!(names.len() == 501 && names.contains("other"), "{} names", names.len());
    let other = format!("{PUSHED}{{queue=\"other\"}} 19");
    assert!(told.lines().any(|line| line == other), "{told}");
}
