//! Accepts connections and serves them, within limits, until it is told to stop.

pub use super::server_limits::ServerLimits;

use super::connection::{Connection, Progress};
use super::framing::{self, Framing};
use super::server_limits::MAX_HEAD;
use super::unread::Watched;
use crate::error::Error;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse as _;
use futures::future::Either;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

/// How much of a body that no handler has read is read all the same, and for how long.
const UNWANTED: (usize, Duration) = (64 << 10, Duration::from_secs(2));

/// Serves `router` on `listener` until `shutdown`; then finishes what is in flight, for at most
/// [`ServerLimits::grace`], and drops the rest. Returns when no connection is left.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken, limits: ServerLimits) {
    let connections = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(limits.max_connections));
    let abort = CancellationToken::new();
    let accept = async {
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let stream = accept(&listener).await;
            let (router, shutdown, abort) = (router.clone(), shutdown.clone(), abort.clone());
            connections.spawn(async move {
                let connection = serve_connection(stream, router, shutdown, limits);
                abort.run_until_cancelled_owned(connection).await;
                drop(slot);
            });
        }
    };
    shutdown.run_until_cancelled(accept).await;
    drop(listener);
    connections.close();
    if tokio::time::timeout(limits.grace, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests outlast the grace period and are dropped");
        abort.cancel();
        connections.wait().await;
    }
}

/// The next connection. What can go wrong passes: a client that left, or no file descriptor that is free.
async fn accept(listener: &TcpListener) -> TcpStream {
    let mut pause = Duration::from_millis(10);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if is_of_one_client(&error) => {}
            Err(error) => {
                tracing::error!(%error, ?pause, "no connection can be accepted");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }
}

fn said_twice() -> Error {
    Error::BadRequest("a request has either a `Content-Length` or a `Transfer-Encoding`, not both".to_owned())
}

fn is_of_one_client(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

async fn serve_connection(
    stream: TcpStream,
    router: Router,
    shutdown: CancellationToken,
    limits: ServerLimits,
) {
    // An answer is one small write: waiting for more would only add the client's delayed acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was gone before it was served");
        return;
    }
    let progress = Arc::new(Progress::default());
    let stream = Connection::new(stream, limits, Arc::clone(&progress));
    let service = service_fn(move |request: Request<Incoming>| {
        let came = progress.begin();
        let (head, body) = request.into_parts();
        let framing = framing::of(&head.method, &head.headers, &came);
        // A client that asked whether to send its body at all sends none once it has its answer.
        let asks_first = head.headers.contains_key(header::EXPECT);
        let (body, rest) = Watched::new(body);
        let answer = if framing == Framing::Twice {
            Either::Left(async { Ok::<_, Infallible>(said_twice().into_response()) })
        } else {
            Either::Right(router.clone().call(Request::from_parts(head, Body::new(body))))
        };
        let progress = Arc::clone(&progress);
        async move {
            let Ok(mut answer) = answer.await;
            // A body that nobody wanted may still be on its way, with a client that reads its answer only when all
            // of it is sent. It is waited for, within bounds: hyper would close the connection under it.
            if rest.is_some() && !asks_first && answer.status().is_success() {
                rest.drain(UNWANTED.0, UNWANTED.1).await;
            }
            let is_left = rest.is_some();
            progress.end(is_left);
            // hyper closes the connection then: a client that is not told might send its next request on it.
            if is_left || framing != Framing::Plain {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        // The stream itself has the time limits.
        .header_read_timeout(None)
        .max_header_size(MAX_HEAD)
        .max_buf_size(4 * MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
