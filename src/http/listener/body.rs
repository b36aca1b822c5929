//! A request's body: no larger than allowed, and known to have ended or not.
//!
//! Owns: the limit. What a route makes of a body that breaks off is its business; the answer then says why, because the listener
//! asks [`Progress`].

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// A body with a limit.
pub(super) struct Measured {
    body: Incoming,
    left: usize,
    progress: Progress,
}

/// How far a body is. Shared by the body, which a route reads, and the listener.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress(Arc<AtomicU8>);

/// How far a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    Reading,
    Whole,
    TooLarge,
}

/// The body ended because of its size.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the body is larger than allowed")]
pub(super) struct TooLarge;

impl Measured {
    /// A body of at most `limit` bytes; refused at once if it announces more.
    pub(super) fn new(body: Incoming, limit: usize) -> Result<Self, TooLarge> {
        if usize::try_from(body.size_hint().lower()).is_ok_and(|announced| announced <= limit) {
            let progress = Progress::default();
            if body.is_end_stream() {
                progress.set(Stage::Whole);
            }
            Ok(Self { body, left: limit, progress })
        } else {
            Err(TooLarge)
        }
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress.clone()
    }
}

impl Progress {
    fn set(&self, stage: Stage) {
        self.0.store(stage as u8, Ordering::Relaxed);
    }

    pub(super) fn is(&self, stage: Stage) -> bool {
        self.0.load(Ordering::Relaxed) == stage as u8
    }
}

impl Body for Measured {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
            self.progress.set(Stage::Whole);
            return Poll::Ready(None);
        };
        let frame = frame?;
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        if bytes > self.left {
            self.progress.set(Stage::TooLarge);
            return Poll::Ready(Some(Err(TooLarge.into())));
        }
        self.left -= bytes;
        if self.body.is_end_stream() {
            self.progress.set(Stage::Whole);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
