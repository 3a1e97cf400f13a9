//! Definitions from a directory: loaded at start and on change; a broken file changes nothing.

use crate::engine::ask;
use crate::support::answer::json;
use crate::support::app::TestApp;
use crate::support::eventually;
use serde_json::json;
use std::fs;
use std::path::Path;

/// Puts a file in place as an editor does: whole, by its name.
fn write(directory: &Path, file: &str, text: &str) {
    let draft = directory.join(".draft");
    fs::write(&draft, text).unwrap();
    fs::rename(draft, directory.join(file)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_in_a_directory_are_loaded_at_start_and_on_change() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    write(at, "greet.queue.json", r#"{ "incoming": { "schema": { "type": "string" } } }"#);
    write(at, "greet.queue.js", "module.exports = name => 'Hello, ' + name");
    write(at, "broken.queue.json", "{");
    let settings = [("POSTRIDER_QUEUES_DIR", at.to_str().unwrap())];
    let app = TestApp::with(&settings, |app| app).await;
    assert_eq!(app.handled("greet", &json!("Ada")).await["result"], "Hello, Ada");
    assert_eq!(app.post("/queues/greet/messages", &json!(1)).await.status(), 422);
    let listed = json(app.get("/queues").await, 200).await;
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["source"]), (1, &json!("file")));

    write(at, "greet.queue.js", "module.exports = name => 'Goodbye, ' + name");
    write(at, "broken.queue.json", r#"{ "handler": { "kind": "worker" } }"#);
    eventually("the change is loaded", async || {
        app.handled("greet", &json!("Ada")).await["result"] == "Goodbye, Ada"
    })
    .await;
    eventually("the mended file is loaded", async || app.get("/queues/broken").await.status() == 200).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_leaves_the_former_definition_in_force() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    write(at, "q.queue.json", "{}");
    write(at, "q.queue.js", "module.exports = () => 'former'");
    write(at, "sign.queue.json", r#"{ "client_id": "first" }"#);
    let settings = [("POSTRIDER_QUEUES_DIR", at.to_str().unwrap())];
    let app = TestApp::with(&settings, |app| app).await;
    let mut round = 0;
    let broken = [
        ("q.queue.js", "module.exports = ("),
        ("q.queue.js", "module.exports = 5"),
        ("q.queue.json", r#"{ "incoming": { "schema": { "type": "strin" } } }"#),
        ("q.queue.json", r#"{ "incoming": "#),
        ("q.queue.json", r#"{ "role": {} }"#),
    ];
    for (file, text) in broken {
        write(at, file, text);
        // Files are looked at in the order of their names: once the second is loaded, so was the first.
        round += 1;
        write(at, "sign.queue.json", &format!(r#"{{ "client_id": "round{round}" }}"#));
        eventually("the sign is loaded", async || {
            json(app.get("/queues/sign").await, 200).await["client_id"] == format!("round{round}")
        })
        .await;
        assert_eq!(app.handled("q", &json!(1)).await["result"], "former", "{text}");
    }
    // Gone files are no order to delete a queue with messages in it.
    fs::remove_file(at.join("q.queue.json")).unwrap();
    fs::remove_file(at.join("q.queue.js")).unwrap();
    write(at, "sign.queue.json", r#"{ "client_id": "last" }"#);
    eventually("the sign is loaded", async || {
        json(app.get("/queues/sign").await, 200).await["client_id"] == "last"
    })
    .await;
    assert_eq!(app.handled("q", &json!(1)).await["result"], "former");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_in_a_file_is_sealed_once_and_left_out_where_there_is_no_key() {
    let signed = |secret: &str| {
        let handler = json!({ "kind": "http", "url": "https://example.com/in", "secret": secret });
        json!({ "handler": handler }).to_string()
    };
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    write(at, "a.queue.json", &signed("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
    write(at, "b.queue.json", r#"{ "client_id": "first" }"#);
    let keyless = [("POSTRIDER_QUEUES_DIR", at.to_str().unwrap()), ("POSTRIDER_SECRET_KEY", "")];
    let app = TestApp::with(&keyless, |app| app).await;
    let listed = json(app.get("/queues").await, 200).await;
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["name"]), (1, &json!("b")));
    let database = app.database.clone();
    app.stop().await;

    let app = TestApp::on(database.clone(), &keyless[..1], |app| app).await;
    let mut db = app.connect().await;
    let version = "SELECT version FROM queues WHERE name = 'a'";
    let sealed: i64 = ask(&mut db, version).await;
    app.stop().await;
    // The same again changes nothing; another secret does.
    let app = TestApp::on(database, &keyless[..1], |app| app).await;
    assert_eq!(ask::<i64>(&mut db, version).await, sealed);
    write(at, "a.queue.json", &signed("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"));
    eventually("the other secret is sealed", async || ask::<i64>(&mut db, version).await > sealed).await;
    app.stop().await;
}
