//! Logs of large messages: a read ends in time, and many readers together take bounded memory.

use super::{JOBS, channel};
use crate::faults::{connect, url_of};
use crate::support::app::database;
use crate::support::process::status;
use crate::support::serve::Serve;
use futures::{StreamExt as _, stream};
use reqwest::{Method, Response};
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

/// Long enough to tell what never comes.
const LONG: Duration = Duration::from_mins(5);

/// A job whose log has so many messages of so many bytes: its number and key.
async fn log_of(
    serve: &Serve,
    database: &sqlx::postgres::PgConnectOptions,
    messages: i32,
    bytes: i32,
) -> (i64, String) {
    let job = serve
        .request(Method::POST, JOBS)
        .json(&serde_json::json!({ "cardholder_id": 7 }))
        .send()
        .await
        .unwrap();
    let job: Value = job.json().await.unwrap();
    let id = job["id"].as_i64().unwrap();
    let mut db = connect(database).await;
    sqlx::query(
        "WITH log AS (
            INSERT INTO broadcasts (job_id, seq, message)
            SELECT $1, n, json_build_object('status', 'UPDATING', 'page', repeat('x', $3))
            FROM generate_series(1, $2) AS n)
        UPDATE jobs SET seq = $2 WHERE id = $1",
    )
    .bind(id)
    .bind(messages)
    .bind(bytes)
    .execute(&mut db)
    .await
    .unwrap();
    (id, job["access_key"].as_str().unwrap().to_owned())
}

fn read(serve: &Serve, id: i64, key: &str, query: &str) -> reqwest::RequestBuilder {
    let request = serve.request(Method::GET, &format!("{}/broadcasts{query}", channel(id)));
    request.header("cardsavr-messaging-access-key", key)
}

/// The memory that the process has had at most, in KiB.
fn peak(serve: &Serve) -> u64 {
    status(serve.pid(), "VmHWM:").unwrap().trim_end_matches(" kB").parse().unwrap()
}

async fn messages(answer: Response) -> Vec<Value> {
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_ends_at_a_thousand_messages_or_a_mebibyte_and_the_next_goes_on_there() {
    let database = database().await;
    let serve =
        Serve::on(&url_of(&database), &[("POSTRIDER_SECRET_KEY", "a key of at least 32 characters!")]).await;
    // By number, by bytes, and one that is larger alone.
    for (many, bytes, first) in [(1500, 10, 1000), (20, 200_000, 5), (3, 1_500_000, 1)] {
        let (id, key) = log_of(&serve, &database, many, bytes).await;
        for own_place in [true, false] {
            let (mut after, mut reads) = (0, 0);
            while after < i64::from(many) {
                let query = if own_place { format!("?after={after}") } else { String::new() };
                let found = messages(read(&serve, id, &key, &query).send().await.unwrap()).await;
                let number = i64::try_from(found.len()).unwrap();
                assert_eq!(number, (i64::from(many) - after).min(first), "after {after} of {many}");
                after += number;
                reads += 1;
            }
            assert!(reads > 1);
        }
        let stream =
            read(&serve, id, &key, "?after=0").header("accept", "text/event-stream").send().await.unwrap();
        let (mut bytes, mut seen, mut rest) = (stream.bytes_stream(), 0, String::new());
        while seen < many {
            let part = timeout(LONG, bytes.next()).await.expect("the stream goes on").unwrap().unwrap();
            rest.push_str(std::str::from_utf8(&part).unwrap());
            while let Some((event, after)) = rest.split_once("\n\n") {
                if let Some(number) = event.lines().find_map(|line| line.strip_prefix("id: ")) {
                    seen += 1;
                    assert_eq!(number, seen.to_string());
                }
                rest = after.to_owned();
            }
        }
    }
    // The feed of a cardholder, which has them all, ends at the same.
    let mut told = 0;
    while told < 1500 + 20 + 3 {
        let feed =
            messages(serve.request(Method::GET, "/messages/cardholders/7").send().await.unwrap()).await;
        assert!(!feed.is_empty() && feed.len() <= 1000, "{told}: {}", feed.len());
        told += feed.len();
    }
}

/// A reader that asks for a stream and takes nothing of it: what the kernel keeps for it is soon full.
async fn stalls(serve: &Serve, id: i64, key: &str, after: i64) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address = serve.url.trim_start_matches("http://");
    let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
    let key: String = url::form_urlencoded::byte_serialize(key.as_bytes()).collect();
    let path = format!("{}/broadcasts/stream?access_key={key}&after={after}", channel(id));
    let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    timeout(LONG, stream.readable()).await.expect("it is answered").unwrap();
    stream
}

/// How many streams the process has.
async fn streams(serve: &Serve) -> f64 {
    let metrics = serve.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    let streams = metrics.lines().filter(|line| line.starts_with("postrider_broadcast_streams{"));
    streams.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

/// Reads four messages in a row, as many polls as it takes: while others hold all memory for reads, it is 503.
async fn polls(serve: &Serve, id: i64, key: &str, mut after: i64) {
    let end = after + 4;
    while after < end {
        let answer = read(serve, id, key, &format!("?after={after}")).send().await.unwrap();
        if answer.status() == 503 {
            assert!(answer.headers().contains_key("retry-after"));
            continue;
        }
        let found = messages(answer).await;
        assert_eq!(found.len(), 1);
        after += 1;
        assert_eq!(found[0]["seq"], after);
    }
}

/// Follows four messages in a row. Who is too slow, as on a busy machine, is given up, and goes on where it was.
async fn follows(serve: &Serve, id: i64, key: &str, mut after: i64) {
    let end = after + 4;
    while after < end {
        let stream = read(serve, id, key, &format!("?after={after}")).header("accept", "text/event-stream");
        let (mut bytes, mut text) = (stream.send().await.unwrap().bytes_stream(), String::new());
        while let Some(Ok(part)) = bytes.next().await
            && after < end
        {
            text.push_str(std::str::from_utf8(&part).unwrap());
            while let Some((event, rest)) = text.split_once("\n\n") {
                if let Some(number) = event.lines().find_map(|line| line.strip_prefix("id: ")) {
                    after += 1;
                    assert_eq!(number, after.to_string());
                }
                text = rest.to_owned();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_readers_of_a_large_log_stay_in_64_mib_together_also_when_some_take_nothing() {
    let database = database().await;
    let serve =
        Serve::on(&url_of(&database), &[("POSTRIDER_SECRET_KEY", "a key of at least 32 characters!")]).await;
    let (id, key) = log_of(&serve, &database, 1000, 1_000_000).await;
    let before = peak(&serve);
    // More than there is memory for: the others wait until the first of them are given up. Each has a place of its own.
    let stalled: Vec<TcpStream> =
        stream::iter(0..15).then(|n| stalls(&serve, id, &key, n * 9)).collect().await;
    assert!(streams(&serve).await >= 15.0);
    let readers = (15..100_i64).map(|n| {
        let (serve, key) = (&serve, &key);
        async move {
            let after = n * 9;
            if n % 2 == 0 {
                return polls(serve, id, key, after).await;
            }
            follows(serve, id, key, after).await;
        }
    });
    timeout(LONG, futures::future::join_all(readers)).await.expect("all of them read");
    let given_up = async {
        while streams(&serve).await > 0.0 {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(LONG, given_up).await.expect("those who take nothing are given up");
    let grew = peak(&serve) - before;
    assert!(grew < 64 << 10, "{grew} KiB more than before");
    // They took nothing indeed: of the hundreds of megabytes there is what the kernel has kept.
    for mut reader in stalled {
        let (mut length, mut part) = (0, vec![0; 1 << 16]);
        let rest = async {
            while let Ok(some @ 1..) = reader.read(&mut part).await {
                length += some;
            }
        };
        timeout(LONG, rest).await.expect("it ends");
        assert!((1..32_000_000).contains(&length), "{length} bytes");
    }
}
