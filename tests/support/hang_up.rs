//! A client that asks and hangs up before it is answered.

use super::app::TestApp;
use super::eventually;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// A client that has asked.
pub(crate) struct HangsUp {
    stream: TcpStream,
}

impl HangsUp {
    /// Sends a POST without a body as one with these roles.
    pub(crate) async fn asks(app: &TestApp, roles: &[&str], path: &str) -> Self {
        let mut stream = TcpStream::connect(app.server.address().unwrap()).await.unwrap();
        let token = app.token(roles);
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-length: 0\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        Self { stream }
    }

    /// Hangs up once the server waits for the lock of a table, and returns when the server has noticed.
    pub(crate) async fn once_blocked(self, app: &TestApp, table: &str) {
        let mut db = app.connect().await;
        eventually("the server waits for the lock", async || {
            let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = $1::regclass AND NOT granted)";
            sqlx::query_scalar(waits).bind(table).fetch_one(&mut db).await.unwrap()
        })
        .await;
        let (here, there) = (self.stream.local_addr().unwrap(), self.stream.peer_addr().unwrap());
        drop(self.stream);
        // The server's end of the connection, as the kernel has it: 01 is established, 08 is closed by the client.
        let pair = format!(":{:04X} 0100007F:{:04X} ", there.port(), here.port());
        eventually("the server has closed its end", async || {
            let all = std::fs::read_to_string("/proc/net/tcp").unwrap();
            let mut states =
                all.lines().filter_map(|line| line.split_once(&pair).map(|(_, rest)| &rest[..2]));
            states.all(|state| state != "01" && state != "08")
        })
        .await;
    }
}
