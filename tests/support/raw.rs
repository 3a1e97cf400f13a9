//! A server that says the same bytes to everybody, whatever it is asked.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The server; it ends when it is dropped.
pub(crate) struct Raw {
    /// Its address and port.
    pub(crate) address: String,
    _server: JoinSet<()>,
}

impl Raw {
    /// A server that says this once it was asked, and ends the connection.
    pub(crate) async fn says(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let bytes = bytes.clone();
                // Whoever hangs up has had enough.
                connections.spawn(async move { drop(serve(stream, &bytes).await) });
            }
        });
        Self { address, _server: server }
    }
}

async fn serve(mut stream: TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    let mut asked = Vec::new();
    // The head of a request, or the beginning of TLS.
    while !asked.windows(4).any(|end| end == b"\r\n\r\n") && asked.first() != Some(&0x16) {
        if stream.read_buf(&mut asked).await? == 0 {
            return Ok(());
        }
    }
    stream.write_all(bytes).await?;
    stream.shutdown().await?;
    // What was not read would reset the connection, and what was said with it.
    while stream.read_buf(&mut asked).await? > 0 {}
    Ok(())
}
