//! What stands between one server and its database: it can hang up, keep everything waiting, and lose the answer to
//! a COMMIT.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A COMMIT as it stands on the wire.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";
/// The end of every answer: ready for the next query.
const READY: &[u8] = b"Z\0\0\0\x05";
/// The end of a statement on the wire, of one that commits by itself or of one in a transaction.
const SYNC: &[u8] = b"S\0\0\0\x04";

#[derive(Default)]
struct Inside {
    /// The answers to so many commits are lost.
    commits: AtomicUsize,
    /// And to so many statements outside a transaction.
    statements: AtomicUsize,
    lost: AtomicUsize,
    stalled: AtomicBool,
}

/// A proxy; it ends when it is dropped.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    inside: Arc<Inside>,
    resets: watch::Sender<u64>,
    _listener: JoinSet<()>,
}

impl Proxy {
    /// A proxy before the server at this socket.
    pub(crate) async fn before(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let inside = Arc::<Inside>::default();
        let (resets, reset) = watch::channel(0);
        let shared = Arc::clone(&inside);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                while connections.try_join_next().is_some() {}
                let Ok((client, _)) = listener.accept().await else { continue };
                let (socket, inside, mut reset) = (socket.clone(), Arc::clone(&shared), reset.clone());
                connections.spawn(async move {
                    reset.mark_unchanged();
                    // Nothing is said before it ends: a reset.
                    tokio::select! {
                        () = pass(client, socket, &inside) => {}
                        _ = reset.changed() => {}
                    }
                });
            }
        });
        Self { port, inside, resets, _listener: tasks }
    }

    /// Hangs up on everybody.
    pub(crate) fn reset(&self) {
        self.resets.send_modify(|resets| *resets += 1);
    }

    /// Lets nothing through until it is told otherwise.
    pub(crate) fn stall(&self, stalled: bool) {
        self.inside.stalled.store(stalled, Ordering::SeqCst);
    }

    /// Lets the next commits and statements through, and instead of their answers hangs up.
    pub(crate) fn lose_answers(&self, commits: usize, statements: usize) {
        self.inside.commits.store(commits, Ordering::SeqCst);
        self.inside.statements.store(statements, Ordering::SeqCst);
    }

    /// Goes back to doing nothing of its own.
    pub(crate) fn behave(&self) {
        self.stall(false);
        self.lose_answers(0, 0);
    }

    /// How many answers it has lost.
    pub(crate) fn lost(&self) -> usize {
        self.inside.lost.load(Ordering::SeqCst)
    }
}

impl Inside {
    /// Whether the answer to this is to be lost.
    fn is_wanted(&self, request: &[u8]) -> bool {
        let one = |count: &AtomicUsize| {
            count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
        };
        contains(request, COMMIT) && one(&self.commits) || request.ends_with(SYNC) && one(&self.statements)
    }

    async fn flow(&self) {
        while self.stalled.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Passes on what both say, until one hangs up or an answer is to be lost.
async fn pass(mut client: TcpStream, socket: PathBuf, inside: &Inside) {
    drop(client.set_nodelay(true));
    let Ok(mut server) = UnixStream::connect(socket).await else { return };
    let (mut request, mut answer) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let Ok(length @ 1..) = read else { return };
                inside.flow().await;
                let wanted = inside.is_wanted(&request[..length]);
                if server.write_all(&request[..length]).await.is_err() {
                    return;
                }
                if wanted {
                    let mut swallowed = Vec::new();
                    while !contains(&swallowed, READY) {
                        let Ok(length @ 1..) = server.read(&mut answer).await else { return };
                        swallowed.extend_from_slice(&answer[..length]);
                        if swallowed.len() > 1 << 20 {
                            return;
                        }
                    }
                    inside.lost.fetch_add(1, Ordering::SeqCst);
                    return;
                }
            }
            read = server.read(&mut answer) => {
                let Ok(length @ 1..) = read else { return };
                inside.flow().await;
                if client.write_all(&answer[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
