//! `postrider sdk`, and what a server says of a file that cannot be used.

use super::{Done, command, finish, run};
use crate::support::app::database;
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;

async fn user(database: &PgConnectOptions, args: &[&str], password: &str) -> Done {
    let args = [&["sdk", "user"], args].concat();
    finish(command(database, &args).await, password).await
}

#[tokio::test(flavor = "multi_thread")]
async fn it_prints_what_the_file_is_made_of() {
    let database = database().await;
    for password in ["agent-pass", "agent-pass\n", "agent-pass\r\n"] {
        let done = user(&database, &["agent", "--id", "1", "--role", "cardholder_agent"], password).await;
        let printed: Value = serde_json::from_str(&done.out).unwrap();
        let key = "2s5kqBHGf0BYdJWubJ4hBMOwLNdhkCw0fOBLMIcUf70=";
        let entry = serde_json::json!({ "id": 1, "role": "cardholder_agent", "password_key": key });
        assert_eq!(printed, serde_json::json!({ "agent": entry }), "{password:?}");
    }
    for (args, password, word) in [
        (["agent", "--id", "1", "--role", "admin"], "\n", "no password"),
        (["agent", "--id", "0", "--role", "admin"], "x", "--id"),
        (["agent", "--id", "1", "--role", "boss"], "x", "cardholder_agent"),
    ] {
        let done = user(&database, &args, password).await;
        assert!(!done.ok && done.err.contains(word), "{done:?}");
    }
    let key = async || {
        let printed: Value =
            serde_json::from_str(&run(&database, &["sdk", "integrator", "acme"]).await.out).unwrap();
        printed["acme"][0].as_str().unwrap().to_owned()
    };
    let (one, other) = (key().await, key().await);
    assert!(one != other && one.len() == 44 && one.ends_with('='), "{one} {other}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_used_is_refused_at_the_start_and_found_by_doctor() {
    let (database, directory) = (database().await, tempfile::tempdir().unwrap());
    let file = directory.path().join("sdk.json");
    let start = async |text: Option<&str>, key: &str, args: &[&str]| {
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let mut serve = command(&database, args).await;
        serve
            .env("POSTRIDER_SDK_FILE", &file)
            .env("POSTRIDER_LISTEN", "127.0.0.1:0")
            .env("POSTRIDER_SECRET_KEY", key);
        finish(serve, "").await
    };
    let secret_key = "a key of the tests of at least 32 characters";
    for (text, key, word) in [
        (None, secret_key, "sdk.json"),
        (Some("{"), secret_key, "not JSON"),
        (Some(r#"{"integrators":{},"users":{},"more":1}"#), secret_key, "`/more`"),
        (Some(r#"{"integrators":{"acme":["c2VjcmV0"]},"users":{}}"#), secret_key, "32 bytes in base64"),
        (Some(r#"{"integrators":{},"users":{}}"#), "", "needs POSTRIDER_SECRET_KEY"),
    ] {
        let done = start(text, key, &["serve"]).await;
        assert!(!done.ok && done.err.contains("POSTRIDER_SDK_FILE") && done.err.contains(word), "{done:?}");
        assert!(!done.err.contains("c2VjcmV0"), "{done:?}");
        if !key.is_empty() {
            let done = start(None, key, &["doctor"]).await;
            assert!(!done.ok && done.out.contains("POSTRIDER_SDK_FILE"), "{done:?}");
        }
    }
    let done = start(None, secret_key, &["doctor"]).await;
    assert!(done.out.contains("POSTRIDER_SDK_FILE says who logs in"), "{done:?}");
}
