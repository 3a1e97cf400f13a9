//! As little of PostgreSQL's protocol as one prepared INSERT needs, sent as bytes that were made before.
//!
//! A general client takes a third of what a small server can do with single INSERTs for itself; pgbench
//! does not, so what it would reach is measured with no more work than it has.

use anyhow::{Context as _, bail, ensure};
use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

/// Version 3.0.
const PROTOCOL: i32 = 3 << 16;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection with one statement of one parameter.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    received: Vec<u8>,
    /// Bind, Execute and Sync.
    execution: Vec<u8>,
}

impl Wire {
    /// Connects and prepares `statement` for this argument; `None` when the server asks for more than a user
    /// name, which is beyond this.
    pub(super) async fn prepare(
        options: &PgConnectOptions,
        schema: &str,
        statement: &str,
        argument: &str,
    ) -> anyhow::Result<Option<Self>> {
        let port = options.get_port();
        let stream: Box<dyn Stream> = if let Some(directory) = options.get_socket() {
            Box::new(UnixStream::connect(directory.join(format!(".s.PGSQL.{port}"))).await?)
        } else {
            let stream = TcpStream::connect((options.get_host(), port)).await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        };
        let (user, search_path) = (options.get_username(), format!("-c search_path={schema}"));
        let database = options.get_database().unwrap_or(user);
        let mut startup = PROTOCOL.to_be_bytes().to_vec();
        for text in ["user", user, "database", database, "options", &search_path, ""] {
            startup.extend(text.bytes().chain([0]));
        }
        let mut wire = Self { stream, received: Vec::with_capacity(1024), execution: execution(argument)? };
        if wire.exchange(&message(None, &startup)?).await.is_err() {
            return Ok(None);
        }
        let parse = [b"s\0", statement.as_bytes(), b"\0\0\0"].concat();
        let prepare = [message(Some(b'P'), &parse)?, message(Some(b'S'), &[])?].concat();
        wire.exchange(&prepare).await?;
        Ok(Some(wire))
    }

    /// Executes the statement, and waits until it has committed.
    pub(super) async fn execute(&mut self) -> anyhow::Result<()> {
        let execution = std::mem::take(&mut self.execution);
        let done = self.exchange(&execution).await;
        self.execution = execution;
        done
    }

    /// Sends, and reads until the server is ready for more.
    async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request).await?;
        self.received.clear();
        let mut at = 0;
        loop {
            while let Some(head) = self.received.get(at..at + 5) {
                let (kind, length) = (head[0], [head[1], head[2], head[3], head[4]]);
                let end = at + 1 + usize::try_from(u32::from_be_bytes(length))?;
                let Some(body) = self.received.get(at + 5..end) else { break };
                match kind {
                    b'Z' => return Ok(()),
                    b'E' => bail!("the server refuses: {}", String::from_utf8_lossy(body)),
                    b'R' => ensure!(body == [0; 4], "the server asks for a password"),
                    _ => {}
                }
                at = end;
            }
            let read = self.stream.read_buf(&mut self.received).await?;
            ensure!(read > 0, "the server closed the connection");
        }
    }
}

/// Bind (the unnamed portal, the statement, one parameter as text), Execute without a limit, Sync.
fn execution(argument: &str) -> anyhow::Result<Vec<u8>> {
    let length = i32::try_from(argument.len())?.to_be_bytes();
    let bind = [b"\0s\0\0\0\0\x01", length.as_slice(), argument.as_bytes(), b"\0\0"].concat();
    Ok([message(Some(b'B'), &bind)?, message(Some(b'E'), &[0; 5])?, message(Some(b'S'), &[])?].concat())
}

/// A message: its kind (the first one has none), its length with the length itself, its body.
fn message(kind: Option<u8>, body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let length = u32::try_from(body.len() + 4).context("a message that long is not sent")?;
    Ok(kind.into_iter().chain(length.to_be_bytes()).chain(body.iter().copied()).collect())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_their_length() {
        assert_eq!(message(Some(b'S'), &[]).unwrap(), b"S\0\0\0\x04");
        let bytes = execution("{}").unwrap();
        assert_eq!(bytes, b"B\0\0\0\x13\0s\0\0\0\0\x01\0\0\0\x02{}\0\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04");
    }
}
