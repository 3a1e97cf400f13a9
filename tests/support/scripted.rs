//! An endpoint of the hub whose answers a test writes down, request by request, down to the bytes on the wire.

use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The method.
    pub(crate) method: String,
    /// The path with its query.
    pub(crate) path: String,
    /// The headers as they stood on the wire, names in their spelling.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, byte by byte.
    pub(crate) body: String,
    /// How often this message was asked about before.
    pub(crate) before: usize,
    /// When it came.
    pub(crate) at: Instant,
}

impl Asked {
    /// The header of this name, in whatever spelling.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let named = |header: &&(String, String)| header.0.eq_ignore_ascii_case(name);
        self.headers.iter().find(named).map(|header| header.1.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn id(&self) -> String {
        self.json()["message_id"].as_str().unwrap().to_owned()
    }

    /// 200 with the message's id and these members beside it.
    pub(crate) fn acknowledge(&self, members: Value) -> Reply {
        let mut answer = json!({ "message_id": self.id() });
        if let (Some(answer), Value::Object(members)) = (answer.as_object_mut(), members) {
            answer.extend(members);
        }
        Reply::Says(200, Vec::new(), answer.to_string())
    }
}

/// What is done about a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Status, headers and body.
    Says(u16, Vec<(&'static str, String)>, String),
    /// The same, once [`Scripted::release`] was called.
    Holds(Box<Reply>),
    /// A body without an end, as fast as it is taken.
    Endless,
    /// A body that says it has this many bytes, and of which a few come.
    Promises(u64),
    /// A byte a second.
    Drips,
    /// Nothing, for ever.
    Hangs,
    /// The connection is reset.
    Resets,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::Says(status, Vec::new(), String::new())
    }

    pub(crate) fn held(self) -> Self {
        Self::Holds(Box::new(self))
    }
}

type Script = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

struct Inside {
    script: Mutex<Script>,
    asked: Mutex<Vec<Asked>>,
    counts: Mutex<HashMap<String, usize>>,
    /// How many of the answers that are held may go.
    released: watch::Sender<usize>,
    held: AtomicUsize,
    open: AtomicUsize,
}

/// The endpoint; it ends when it is dropped.
pub(crate) struct Scripted {
    /// Its base URL, without a slash at the end.
    pub(crate) url: String,
    inside: Arc<Inside>,
    _server: JoinSet<()>,
}

impl Scripted {
    /// An endpoint that does what `script` says about each request.
    pub(crate) async fn start(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inside = Arc::new(Inside {
            script: Mutex::new(Arc::new(script)),
            asked: Mutex::default(),
            counts: Mutex::default(),
            released: watch::Sender::new(0),
            held: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
        });
        let mut server = JoinSet::new();
        let serving = Arc::clone(&inside);
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let inside = Arc::clone(&serving);
                connections.spawn(async move {
                    inside.open.fetch_add(1, Ordering::SeqCst);
                    // Whoever hangs up has had enough.
                    drop(inside.serve(stream).await);
                    inside.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { url, inside, _server: server }
    }

    /// An endpoint that acknowledges everything.
    pub(crate) async fn agreeable() -> Self {
        Self::start(|asked| asked.acknowledge(json!({}))).await
    }

    /// From now on does what this script says.
    pub(crate) fn follow(&self, script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) {
        *self.inside.script.lock() = Arc::new(script);
    }

    /// Gives the answers that are held, and holds none any more.
    pub(crate) fn release(&self) {
        self.inside.released.send_replace(usize::MAX);
    }

    /// Gives one more of the answers that are held, in the order in which they came.
    pub(crate) fn release_once(&self) {
        self.inside.released.send_modify(|released| *released += 1);
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.inside.asked.lock().clone()
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.inside.open.load(Ordering::SeqCst)
    }
}

impl Inside {
    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut buffer = Vec::new();
        while let Some(asked) = self.read(&mut stream, &mut buffer).await? {
            let script = Arc::clone(&self.script.lock());
            let mut reply = script(&asked);
            self.asked.lock().push(asked);
            while let Reply::Holds(held) = reply {
                let place = self.held.fetch_add(1, Ordering::SeqCst);
                let mut released = self.released.subscribe();
                // A client that goes away while it waits ends the connection.
                tokio::select! {
                    _ = released.wait_for(|released| place < *released) => {}
                    gone = stream.read_u8() => { gone?; }
                }
                reply = *held;
            }
            if !answer(&mut stream, reply).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The next request, as long as there is one.
    async fn read(&self, stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<Asked>> {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            // Nobody speaks TLS here.
            if stream.read_buf(buffer).await? == 0 || buffer[0] == 0x16 {
                return Ok(None);
            }
        };
        let at = Instant::now();
        let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let mut first = lines.next().unwrap().split(' ').map(str::to_owned);
        let (method, path) = (first.next().unwrap(), first.next().unwrap());
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
        while buffer.len() < end + 4 + length {
            if stream.read_buf(buffer).await? == 0 {
                return Ok(None);
            }
        }
        let body = String::from_utf8(buffer[end + 4..end + 4 + length].to_vec()).unwrap();
        buffer.drain(..end + 4 + length);
        let mut asked = Asked { method, path, headers, body, before: 0, at };
        if let Ok(Value::String(id)) =
            serde_json::from_str(&asked.body).map(|body: Value| body["message_id"].clone())
        {
            let mut counts = self.counts.lock();
            let count = counts.entry(id).or_insert(0);
            asked.before = *count;
            *count += 1;
        }
        Ok(Some(asked))
    }
}

/// Answers; says whether the connection goes on.
async fn answer(stream: &mut TcpStream, reply: Reply) -> std::io::Result<bool> {
    match reply {
        Reply::Says(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n", body.len());
            for (name, value) in headers {
                head.extend([name, ": ", &value, "\r\n"]);
            }
            stream.write_all(format!("{head}\r\n{body}").as_bytes()).await?;
            return Ok(true);
        }
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
            loop {
                stream.write_all(chunk.as_bytes()).await?;
            }
        }
        Reply::Promises(length) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{{");
            stream.write_all(head.as_bytes()).await?;
            gone(stream).await?;
        }
        Reply::Drips => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await?;
            loop {
                stream.write_all(b" ").await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        Reply::Hangs => gone(stream).await?,
        Reply::Resets => stream.set_zero_linger()?,
        Reply::Holds(_) => unreachable!("what is held was released"),
    }
    Ok(false)
}

/// Waits until the other side is gone.
async fn gone(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut rest = [0; 64];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}
