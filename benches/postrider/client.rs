//! A lean HTTP/1.1 client on one connection: it sends bytes that were made before, and reads little.

use anyhow::{Context as _, ensure};
use secrecy::{ExposeSecret as _, SecretString};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A connection that is kept alive, with one request at a time.
#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

/// An answer: its status and its body.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    pub(super) body: &'a [u8],
}

impl Answer<'_> {
    /// The body of a success.
    ///
    /// # Errors
    /// The answer is none.
    pub(super) fn success(&self) -> anyhow::Result<&[u8]> {
        ensure!(
            (200..300).contains(&self.status),
            "the server answered {}: {}",
            self.status,
            String::from_utf8_lossy(self.body)
        );
        Ok(self.body)
    }
}

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("cannot connect to the instance")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::with_capacity(4096) })
    }

    /// Sends a whole request and reads the whole answer.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        self.received.clear();
        let (status, body) = loop {
            let read = self.stream.read_buf(&mut self.received).await?;
            ensure!(read > 0, "the server closed the connection");
            if let Some(head) = self.received.windows(4).position(|window| window == b"\r\n\r\n") {
                break read_head(&self.received[..head])
                    .map(|(status, length)| (status, head + 4..head + 4 + length))?;
            }
        };
        while self.received.len() < body.end {
            let read = self.stream.read_buf(&mut self.received).await?;
            ensure!(read > 0, "the server closed the connection");
        }
        Ok(Answer { status, body: &self.received[body] })
    }
}

/// The status and the length of the body.
pub(super) fn read_head(head: &[u8]) -> anyhow::Result<(u16, usize)> {
    let head = std::str::from_utf8(head).context("not HTTP")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status line")?;
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(Ok(0), |(_, value)| value.trim().parse())?;
    Ok((status.parse()?, length))
}

/// The bytes of a request with a JSON body.
pub(super) fn request(method: &str, path: &str, token: &SecretString, body: &str) -> Vec<u8> {
    request_with(method, path, token, "", body)
}

/// As [`request`], with more headers, each with its line's end.
pub(super) fn request_with(
    method: &str,
    path: &str,
    token: &SecretString,
    headers: &str,
    body: &str,
) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n{headers}\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        token.expose_secret(),
        body.len()
    )
    .into_bytes()
}
