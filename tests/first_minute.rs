//! The first minute: one command in an empty directory, and its lines work when they are pasted.

use crate::support::app::TestApp;
use crate::support::process::{descendants, is_alive, status, with_argument};
use crate::support::serve::Serve;
use crate::support::{eventually, not_checked};
use axum::http::Method;
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A directory with nothing in it but the shipped examples.
fn directory() -> TempDir {
    let directory = tempfile::Builder::new()
        .prefix("postrider-")
        .permissions(PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    let examples = directory.path().join("examples");
    fs::create_dir(&examples).unwrap();
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), examples.join(file.file_name())).unwrap();
    }
    directory
}

/// The lines that a newcomer is told to paste.
async fn curl_lines(serve: &Serve) -> Vec<String> {
    let mut lines = Vec::new();
    eventually("it says what to type", async || {
        lines = serve.said().into_iter().filter(|line| line.starts_with("curl ")).collect();
        lines.len() >= 3
    })
    .await;
    // The token is said once, and the lines are short without it.
    let said = serve.said();
    let [token] = said.iter().filter(|line| line.starts_with("export TOKEN=")).collect::<Vec<_>>()[..] else {
        panic!("{said:#?}");
    };
    assert!(lines.iter().all(|line| line.len() < 200), "{lines:#?}");
    lines.iter().map(|line| format!("{token}\n{line}")).collect()
}

/// Runs a line in a shell, as a newcomer does; returns what it prints.
fn paste(line: &str) -> Value {
    let output = Command::new("bash").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{line}: {}", String::from_utf8_lossy(&output.stdout)))
}

/// Pushes the document's message and waits for its end, with the lines that were printed.
async fn push_and_read(serve: &Serve) -> Value {
    let lines = curl_lines(serve).await;
    let pushed = paste(&lines[0]);
    assert_eq!(pushed["request"], json!({ "hello": "there", "world": "yes" }));
    let mut newest = Value::Null;
    eventually("it is handled", async || {
        newest = paste(&lines[1])["messages"][0].take();
        newest["status"] == "COMPLETE"
    })
    .await;
    assert_eq!(newest["id"], pushed["id"]);
    assert_eq!(newest["result"], json!({ "result": "value" }));
    assert_eq!(paste(&lines[2])["name"], "myQueue");
    newest
}

/// The example in which one handler's message makes more: pushed as the other example is, to another queue.
async fn thumbnails_are_queued(serve: &Serve) {
    let lines = curl_lines(serve).await;
    let push = lines[0].replace("/myQueue/", "/thumbnails/").replace(
        r#"{"hello":"there","world":"yes"}"#,
        r#"{"image":"https://e.example/1.png","widths":[64,128]}"#,
    );
    assert_eq!(paste(&push)["queue"], "thumbnails", "{push}");
    let read = lines[1].replace("/myQueue/", "/thumbnails/");
    eventually("its handler has pushed to resize", async || {
        let message = paste(&read)["messages"][0].take();
        assert_ne!(message["status"], "ERROR", "{message}");
        message["result"]["resize"].as_array().is_some_and(|ids| ids.len() == 2)
    })
    .await;
}

/// All processes of a server.
fn all_of(serve: &Serve) -> Vec<Pid> {
    let mut all = descendants(serve.pid());
    assert!(all.len() >= 3, "a guard, a postmaster, its children: {all:?}");
    all.push(serve.pid());
    all
}

/// Whether it was started with SIGHUP ignored, as `nohup` does, and so ignores it.
fn ignores_hangup(serve: &Serve) -> bool {
    let ignored = status(serve.pid(), "SigIgn:").unwrap();
    u64::from_str_radix(&ignored, 16).unwrap() & 1 == 1
}

async fn until_gone(all: &[Pid], directory: &Path) {
    eventually("nothing of it is left", async || {
        !all.iter().any(|pid| is_alive(*pid)) && with_argument(&directory.to_string_lossy()).is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_serves_the_documents_queue_and_signals_stop_all_of_it() {
    let directory = directory();
    let mut former = Value::Null;
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut serve = Serve::start(directory.path(), &[]).await;
        assert_eq!(serve.is_ready().await, Some(true), "what is printed can be used at once");
        let newest = push_and_read(&serve).await;
        assert_ne!(newest["id"], former["id"]);
        if !former.is_null() {
            // The second start finds the data of the first.
            let lines = curl_lines(&serve).await;
            let both = paste(&lines[1].replace("limit=1", "limit=9"));
            let ids: Vec<&Value> = both["messages"].as_array().unwrap().iter().map(|m| &m["id"]).collect();
            assert_eq!(ids[..2], [&newest["id"], &former["id"]]);
        }
        former = newest;
        thumbnails_are_queued(&serve).await;
        for line in serve.log() {
            assert!(line.len() < 1000 && !line.contains("special-purpose"), "nobody can act upon {line}");
        }
        let all = all_of(&serve);
        if signal == Signal::HUP && ignores_hangup(&serve) {
            not_checked("SIGHUP, which is ignored by whoever nohup starts");
            continue;
        }
        serve.signal(signal);
        assert_eq!(serve.end().await.code(), Some(0), "{:#?}", serve.log());
        until_gone(&all, directory.path()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_address_leads_a_browser_to_a_page_and_a_program_to_links() {
    let app = TestApp::start().await;
    let ask = async |accept: &str, path: &str| {
        app.anonymous(Method::GET, path).header("Accept", accept).send().await.unwrap()
    };
    let page = ask("text/html,*/*;q=0.8", "/").await;
    assert_eq!(page.status(), 200);
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let page = page.text().await.unwrap();
    let hrefs: Vec<&str> =
        page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(hrefs.len() >= 4, "{page}");
    let front: Value = ask("*/*", "/").await.json().await.unwrap();
    let links = front["links"].as_object().unwrap().values().map(|link| link.as_str().unwrap());
    for link in hrefs.into_iter().chain(links) {
        let status = ask("*/*", link).await.status();
        assert!(status == 200 || link == "/metrics" && status == 401, "{link}: {status}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_blocks_nothing() {
    let directory = directory();
    let first = Serve::start(directory.path(), &[]).await;
    let message = push_and_read(&first).await;
    let all = all_of(&first);
    first.kill().await;
    // At once, while the database of the first may still be stopping.
    let second = Serve::start(directory.path(), &[]).await;
    until_all_end(&all).await;
    let lines = curl_lines(&second).await;
    let kept = paste(&lines[1]);
    assert_eq!(kept["messages"][0], message);
    push_and_read(&second).await;
    let all = all_of(&second);
    second.kill().await;
    until_gone(&all, directory.path()).await;
}

async fn until_all_end(all: &[Pid]) {
    eventually("the first is gone", async || !all.iter().any(|pid| is_alive(*pid))).await;
}
