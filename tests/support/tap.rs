//! What stands between an instance and its database, and counts how often its requests ask and wait for the answer.

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinSet;

/// How a connection of the pool for requests calls itself.
const OF_REQUESTS: &[u8] = b"postrider api";

/// A tap; it ends when it is dropped.
pub(crate) struct Tap {
    port: u16,
    answers: Arc<AtomicUsize>,
    _listener: JoinSet<()>,
}

impl Tap {
    /// A tap before this database.
    pub(crate) async fn before(database: &PgConnectOptions) -> Self {
        let socket = database.get_socket().unwrap().join(format!(".s.PGSQL.{}", database.get_port()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answers = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&answers);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                connections.spawn(pass(client, socket.clone(), Arc::clone(&counted)));
            }
        });
        Self { port, answers, _listener: tasks }
    }

    /// The database behind it.
    pub(crate) fn of(&self, database: &PgConnectOptions) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username(database.get_username())
            .database(database.get_database().unwrap())
            // Without encryption it sees the messages.
            .ssl_mode(PgSslMode::Disable)
    }

    /// How many answers the requests' connections have had to the end: one a round trip. Nothing is said in answer to
    /// the pool when it looks whether a connection that comes back is alive, for which no request waits.
    pub(crate) fn round_trips(&self) -> usize {
        self.answers.load(Ordering::SeqCst)
    }
}

/// Passes on what both say, until one hangs up.
async fn pass(mut client: TcpStream, socket: PathBuf, answers: Arc<AtomicUsize>) {
    drop(client.set_nodelay(true));
    let Ok(mut server) = UnixStream::connect(socket).await else { return };
    let (mut asked, mut said) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    // The first thing a client says is who it is.
    let Ok(length @ 1..) = client.read(&mut asked).await else { return };
    let counts = asked[..length].windows(OF_REQUESTS.len()).any(|window| window == OF_REQUESTS);
    if server.write_all(&asked[..length]).await.is_err() {
        return;
    }
    let mut messages = Messages::default();
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                if server.write_all(&asked[..length]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut said) => {
                let Ok(length @ 1..) = read else { return };
                let ends = messages.ends_of_answers(&said[..length]);
                if counts {
                    answers.fetch_add(ends, Ordering::SeqCst);
                }
                if client.write_all(&said[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Where one message of the server ends and the next begins: a letter, a length that counts itself, the rest.
#[derive(Default)]
struct Messages {
    head: Vec<u8>,
    rest: usize,
    /// Whether there was one since the server last was ready.
    any: bool,
}

impl Messages {
    /// How often the server has said something, and is ready for the next query.
    fn ends_of_answers(&mut self, said: &[u8]) -> usize {
        let mut ends = 0;
        for byte in said {
            if self.rest > 0 {
                self.rest -= 1;
                continue;
            }
            self.head.push(*byte);
            if let [letter, length @ ..] = &*self.head
                && let Ok(length) = <[u8; 4]>::try_from(length)
            {
                let is_ready = *letter == b'Z';
                ends += usize::from(is_ready && self.any);
                self.any = !is_ready;
                self.rest = usize::try_from(u32::from_be_bytes(length)).unwrap() - 4;
                self.head.clear();
            }
        }
        ends
    }
}
