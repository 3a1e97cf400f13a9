//! A body that is handed over only while its sender may still send.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

/// Says whether a request may still be sent; asked when only its writing is left.
pub trait Still: Fn() -> bool + Send + Sync + 'static {}
impl<F: Fn() -> bool + Send + Sync + 'static> Still for F {}

/// What the bodies of one sending share.
pub(super) struct Held {
    still: Box<dyn Still>,
    is_late: AtomicBool,
}

impl Held {
    pub(super) fn new(still: impl Still) -> Arc<Self> {
        Arc::new(Self { still: Box::new(still), is_late: AtomicBool::new(false) })
    }

    /// Whether a body was kept back, and its request with it.
    pub(super) fn is_late(&self) -> bool {
        self.is_late.load(Ordering::Acquire)
    }

    pub(super) fn body(self: &Arc<Self>, bytes: Bytes) -> reqwest::Body {
        reqwest::Body::wrap(HeldBody {
            bytes: Some(bytes).filter(|bytes| !bytes.is_empty()),
            held: Arc::clone(self),
        })
    }
}

/// It is asked for by a connection that is there and takes the request. The connection writes nothing before it has the
/// first part of the body, the head neither, and ends without a byte when there is none to be had: so that part asks.
struct HeldBody {
    bytes: Option<Bytes>,
    held: Arc<Held>,
}

/// Nothing was sent, since it would have come too late.
#[derive(Debug, thiserror::Error)]
#[error("it may not be sent any more")]
struct Late;

impl Body for HeldBody {
    type Data = Bytes;
    type Error = Late;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Late>>> {
        let Some(bytes) = self.bytes.take() else { return Poll::Ready(None) };
        if (self.held.still)() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        self.held.is_late.store(true, Ordering::Release);
        Poll::Ready(Some(Err(Late)))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, Bytes::len) as u64)
    }
}
