//! Ends that the database will not take: they fail alone.

use super::{act, ended};
use crate::support::app::TestApp;
use crate::support::endpoint::Endpoint;
use crate::support::eventually;
use serde_json::{Value, json};
use sqlx::Connection as _;

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_the_database_refuses_is_an_error_and_its_neighbours_settle() {
    let endpoint = Endpoint::start(str::to_owned).await;
    let app = TestApp::start().await;
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'a rule of this database'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON outcomes FOR EACH ROW WHEN (NEW.result::text = '\"bad\"')
            EXECUTE FUNCTION refuse()";
    sqlx::raw_sql(refuse).execute(&mut app.connect().await).await.unwrap();
    let definition = json!({
        "handler": { "kind": "http", "url": endpoint.url },
        "options": { "concurrency": 10, "timeout": "10m" }
    });
    app.define("q", definition).await;
    endpoint.hold();
    let mut ids = Vec::new();
    for body in ["first", "bad", "last"] {
        ids.push(app.push("q", &json!(body)).await);
    }
    eventually("they run", async || endpoint.held() == 3).await;
    // While the ends cannot be written, they queue up: those after the first go in one batch.
    let mut holder = app.connect().await;
    let mut lock = holder.begin().await.unwrap();
    act(&mut lock, "LOCK TABLE outcomes IN SHARE MODE").await;
    endpoint.release();
    eventually("all have answered", async || endpoint.held() == 0).await;
    lock.commit().await.unwrap();
    for (id, body) in [(&ids[0], "first"), (&ids[2], "last")] {
        let message = ended(&app, "q", id).await;
        assert_eq!((&message["status"], &message["result"]), (&json!("COMPLETE"), &json!(body)));
    }
    let refused = ended(&app, "q", &ids[1]).await;
    assert_eq!((&refused["status"], &refused["result"]), (&json!("ERROR"), &Value::Null));
    assert_eq!(refused["error"]["name"], "UnstorableResult");
    assert!(refused["error"]["message"].as_str().unwrap().contains("a rule of this database"), "{refused}");
    assert!(endpoint.runs().values().all(|runs| *runs == 1), "nothing ran twice for it");
    app.stop().await;
}
