//! The body of a request on its way in: while it does not come, its request leaves its place to others.

use super::limits::Place;
use crate::error::Result;
use axum::BoxError;
use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// A body that tells the place of its request when it is awaited, how much of it came, and when it is there. What it
/// is refused for is its error, an [`crate::error::Error`] in a box.
pub(super) struct Arriving {
    body: Body,
    place: Arc<Place>,
}

impl Arriving {
    /// `body`, unless all of it is there already.
    pub(super) fn watch(body: Body, place: &Arc<Place>) -> Body {
        if body.is_end_stream() {
            return body;
        }
        Body::new(Self { body, place: Arc::clone(place) })
    }

    fn arrived(&self, frame: &Frame<Bytes>) -> Result<()> {
        self.place.receive(frame.data_ref().map_or(0, Bytes::len))?;
        if self.body.is_end_stream() { self.place.step_in() } else { Ok(()) }
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_pending() {
            self.place.step_out();
        }
        Poll::Ready(match ready!(polled) {
            Some(Ok(frame)) => Some(self.arrived(&frame).map(|()| frame).map_err(Into::into)),
            Some(Err(error)) => Some(Err(error.into())),
            None => self.place.step_in().err().map(|refused| Err(refused.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
