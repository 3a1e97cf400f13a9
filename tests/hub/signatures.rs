//! What receivers check deliveries with: the official Standard Webhooks libraries of Python and Node.

use super::stage::STORE;
use crate::support::answer::json;
use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::scripted::{Asked, Reply, Scripted};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{ErrorKind, Write as _, stderr};
use std::path::PathBuf;
use std::process::{Command, Stdio};

const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const STRANGE: &str = "whsec_c2Vjb25kIHNlY3JldCBvZiB0aGUgdGVzdHM=";

/// What a library says about each case; `None`, with a line that says why, where it is not here.
fn verdicts(interpreter: &str, script: &str, library: &str, asked: &Asked) -> Option<Vec<String>> {
    // Not captured as what a test prints is: nobody is to believe that it was checked.
    let not_checked = |why: String| {
        let mut terminal = stderr();
        writeln!(terminal, "not checked: signatures by {script}: {why}").unwrap();
        None
    };
    let directory = std::env::var_os("POSTRIDER_WEBHOOKS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/webhooks"),
        |directory| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(directory),
    );
    if !directory.join(library).is_dir() {
        return not_checked(format!("no {library} in {} (see .ci/webhooks)", directory.display()));
    }
    let started = Command::new(interpreter)
        .arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(script))
        .env("POSTRIDER_WEBHOOKS", &directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut verifier = match started {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return not_checked(format!("no {interpreter} here"));
        }
        started => started.unwrap(),
    };
    let changed = asked.body.replacen("R1", "R2", 1);
    assert_ne!(changed, asked.body);
    let headers: serde_json::Map<String, Value> =
        asked.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let cases =
        [(OLD, &asked.body), (NEW, &asked.body), (STRANGE, &asked.body), (OLD, &changed), (NEW, &changed)];
    let input = json!({ "headers": headers, "cases": cases }).to_string();
    verifier.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = verifier.wait_with_output().unwrap();
    assert!(output.status.success(), "{script}: {}", output.status);
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_libraries_verify_a_request_with_either_secret_of_a_rotation() {
    let endpoint = Scripted::agreeable().await;
    let app = TestApp::start().await;
    app.endpoint("warehouse", &endpoint.url, json!({ "signing_secrets": [OLD] })).await;
    // A rotation keeps the old secret beside the new one for a while.
    let mut definition = json(app.get(&format!("{STORE}/endpoints/warehouse")).await, 200).await;
    definition["signing_secrets"].as_array_mut().unwrap().push(json!(NEW));
    app.put(&format!("{STORE}/endpoints/warehouse"), &definition).await.error_for_status().unwrap();
    app.mapping("ship", "warehouse", &["order:new"], json!({})).await;
    let id =
        app.tell("order:new", json!({ "order": { "number": "R1", "name": "Zo\u{eb} \u{1f4e6}" } })).await;
    app.delivered(&id, "COMPLETE").await;
    app.stop().await;

    let asked = &endpoint.asked()[0];
    for (interpreter, script, library) in [
        ("python3", "verify.py", "python/standardwebhooks"),
        ("node", "verify.js", "node/node_modules/standardwebhooks"),
    ] {
        let Some(verdicts) = verdicts(interpreter, script, library, asked) else { continue };
        let verified: Vec<bool> = verdicts.iter().map(|verdict| verdict == "verified").collect();
        assert_eq!(verified, [true, true, false, false, false], "{script}: {verdicts:?}");
        let refusal = |verdict: &String| verdict == "refused: No matching signature found";
        assert!(verdicts[2..].iter().all(refusal), "{script}: {verdicts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_mappings_to_one_receiver_carry_two_ids() {
    let endpoint = Scripted::start(|asked: &Asked| match asked.before {
        0..2 => Reply::status(503),
        _ => asked.acknowledge(json!({})),
    })
    .await;
    let app = TestApp::start().await;
    app.endpoint("warehouse", &endpoint.url, json!({ "signing_secrets": [OLD] })).await;
    for name in ["bill", "ship"] {
        app.mapping(name, "warehouse", &["order:new"], json!({})).await;
    }
    let id = app.tell("order:new", json!({})).await;
    let mut message = Value::Null;
    eventually("both are delivered", async || {
        message = app.told(&id).await;
        message["deliveries"].as_array().unwrap().iter().all(|delivery| delivery["status"] == "COMPLETE")
    })
    .await;
    let deliveries: BTreeSet<&str> = message["deliveries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|delivery| delivery["id"].as_str().unwrap())
        .collect();
    let asked = endpoint.asked();
    let carried: BTreeSet<&str> = asked.iter().map(|asked| asked.header("webhook-id").unwrap()).collect();
    assert_eq!((carried, deliveries.len()), (deliveries, 2));
    assert!(asked.len() == 4 && asked.iter().all(|asked| asked.id() == id), "{}", asked.len());
    app.stop().await;
}
