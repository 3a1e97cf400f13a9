//! What is left of a request's body when its handler is done with it.

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// The body of a request; what a handler leaves of it stays in its [`Rest`].
pub(super) struct Watched {
    body: Option<Incoming>,
    rest: Rest,
}

/// What the handler of a request has not read of its body.
#[derive(Debug, Clone, Default)]
pub(super) struct Rest(Arc<Mutex<Option<Incoming>>>);

impl Watched {
    /// The body, and where its rest will be.
    pub(super) fn new(body: Incoming) -> (Self, Rest) {
        let rest = Rest::default();
        (Self { body: Some(body), rest: rest.clone() }, rest)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        *self.rest.0.lock() = self.body.take().filter(|body| !body.is_end_stream());
    }
}

impl Rest {
    /// Whether there is something.
    pub(super) fn is_some(&self) -> bool {
        self.0.lock().is_some()
    }

    /// Reads it and drops it, if it is no more than `most` bytes and comes in time.
    pub(super) async fn drain(&self, most: usize, within: Duration) {
        let Some(mut body) = self.0.lock().take() else { return };
        let mut left = most;
        let read = async {
            while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                let length = frame.data_ref().map_or(0, Bytes::len);
                let Some(less) = left.checked_sub(length) else { return };
                left = less;
            }
        };
        drop(tokio::time::timeout(within, read).await);
        *self.0.lock() = Some(body).filter(|body| !body.is_end_stream());
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if frame.is_none() {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}
