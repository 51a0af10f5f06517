//! Reads a body under limits of size, time and memory.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{Stream, stream};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};

use super::{
    IngestError,
    digest::{Comparison, DeclaredDigest},
};

/// One permit of the budget, bytes.
const STEP_BYTES: u64 = 64 << 10;

/// What may stand between two findings of a parser: part headers are never longer. The parser searches its buffer
/// anew on each arrival, so without it a body without a boundary would cost quadratic time.
const MAX_UNPARSED_BYTES: u64 = 64 << 10;

/// Memory for all bodies together.
#[derive(Debug, Clone)]
pub(crate) struct BodyBudget {
    steps: Arc<Semaphore>,
    total: u64,
    patience: Duration,
}

impl BodyBudget {
    pub(crate) fn new(bytes: u64, patience: Duration) -> Self {
        let steps = usize::try_from(bytes / STEP_BYTES).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { steps: Arc::new(Semaphore::new(steps)), total: steps as u64, patience }
    }

    /// Bytes in use, and at most.
    pub(super) fn standing(&self) -> (u64, u64) {
        let free = self.steps.available_permits() as u64;
        ((self.total - free) * STEP_BYTES, self.total * STEP_BYTES)
    }

    async fn reserve(&self, steps: u32) -> Result<OwnedSemaphorePermit, IngestError> {
        match timeout(self.patience, self.steps.clone().acquire_many_owned(steps)).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(IngestError::NoMemory),
        }
    }
}

/// A body's share of the budget, given back when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct BodyMemory(#[expect(dead_code, reason = "held, and given back by its drop")] Arc<Intake>);

/// How far one body has come; shared by whoever reads it and whoever holds what was read.
#[derive(Debug)]
pub(super) struct Intake {
    budget: BodyBudget,
    held: Mutex<Option<OwnedSemaphorePermit>>,
    received: AtomicU64,
    unparsed: AtomicU64,
    over: AtomicBool,
}

impl Intake {
    pub(super) fn new(budget: BodyBudget, body: &Body) -> Arc<Self> {
        Arc::new(Self {
            budget,
            held: Mutex::new(None),
            received: AtomicU64::new(0),
            unparsed: AtomicU64::new(0),
            over: AtomicBool::new(body.is_end_stream()),
        })
    }

    /// Whether the body was read to its end.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Tells that the parser made sense of what it has.
    pub(super) fn parsed(&self) {
        self.unparsed.store(0, Ordering::Relaxed);
    }

    /// Gives back what was taken so far: what it was taken for is no longer held.
    pub(super) fn forget(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn memory(self: &Arc<Self>) -> BodyMemory {
        BodyMemory(self.clone())
    }

    async fn take(&self, bytes: u64) -> Result<u64, IngestError> {
        let before = self.received.fetch_add(bytes, Ordering::Relaxed);
        let after = before + bytes;
        let steps = after.div_ceil(STEP_BYTES) - before.div_ceil(STEP_BYTES);
        if steps > 0 {
            let more = self.budget.reserve(u32::try_from(steps).unwrap_or(u32::MAX)).await?;
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            match held.as_mut() {
                Some(held) => held.merge(more),
                None => *held = Some(more),
            }
        }
        self.unparsed.fetch_add(bytes, Ordering::Relaxed);
        Ok(after)
    }
}

/// What a body may be at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits {
    pub(super) max_bytes: u64,
    /// Between two pieces.
    pub(super) idle: Duration,
    /// For all of it.
    pub(super) total: Duration,
}

/// Reads a body piece by piece.
pub(super) struct BodyReader {
    body: Body,
    declared: Option<Comparison>,
    limits: BodyLimits,
    until: Instant,
    intake: Arc<Intake>,
}

impl BodyReader {
    pub(super) fn new(body: Body, limits: BodyLimits, intake: Arc<Intake>) -> Self {
        Self { body, declared: None, limits, until: Instant::now() + limits.total, intake }
    }

    /// The same, compared with what was declared of it.
    pub(super) fn compared(self, declared: Option<DeclaredDigest>) -> Self {
        Self { declared: declared.map(Comparison::with), ..self }
    }

    pub(super) fn intake(&self) -> &Arc<Intake> {
        &self.intake
    }

    /// Refuses a body that is too large by its own announcement, before a byte of it is read.
    pub(super) fn refuse_announced(&self, announced: Option<u64>) -> Result<(), IngestError> {
        announced.map_or(Ok(()), |found| self.refuse_above(found))
    }

    fn refuse_above(&self, found: u64) -> Result<(), IngestError> {
        let limit = self.limits.max_bytes;
        if found > limit {
            return Err(IngestError::TooLarge { what: "max_body_bytes", limit, found });
        }
        Ok(())
    }

    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, IngestError> {
        loop {
            let Some(frame) = self.frame().await? else {
                self.intake.over.store(true, Ordering::Relaxed);
                return self.declared.take().map_or(Ok(()), Comparison::finish).map(|()| None);
            };
            let Some(piece) = frame else { continue };
            if let Some(declared) = &mut self.declared {
                declared.take(&piece);
            }
            let found = self.intake.take(piece.len() as u64).await?;
            self.refuse_above(found)?;
            return Ok(Some(piece));
        }
    }

    /// `Some(None)`: a frame that carries no data.
    async fn frame(&mut self) -> Result<Option<Option<Bytes>>, IngestError> {
        let now = Instant::now();
        let idle = now + self.limits.idle;
        let received = self.intake.received.load(Ordering::Relaxed);
        match timeout_at(idle.min(self.until), self.body.frame()).await {
            Ok(None) => Ok(None),
            Ok(Some(Ok(frame))) => Ok(Some(frame.into_data().ok())),
            Ok(Some(Err(_))) => Err(IngestError::Broken),
            Err(_) if idle < self.until => Err(IngestError::Idle { limit: self.limits.idle, received }),
            Err(_) => Err(IngestError::Slow { limit: self.limits.total, received }),
        }
    }

    /// The pieces as a stream for a parser that reports its progress by [`Intake::parsed`].
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<Bytes, IngestError>> + Send + 'static {
        let intake = self.intake.clone();
        let pieces = stream::try_unfold(self, |mut reader| async move {
            Ok(reader.next().await?.map(|piece| (piece, reader)))
        });
        Watched { pieces: Box::pin(pieces), intake, waited: false }
    }
}

/// Ends a stream whose parser makes no sense of it.
struct Watched<S> {
    pieces: Pin<Box<S>>,
    intake: Arc<Intake>,
    waited: bool,
}

impl<S: Stream<Item = Result<Bytes, IngestError>>> Stream for Watched<S> {
    type Item = Result<Bytes, IngestError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // The parser first takes all there is and then looks at it: only after a wait has it looked.
        let unparsed = self.intake.unparsed.load(Ordering::Relaxed);
        if self.waited && unparsed > MAX_UNPARSED_BYTES {
            return Poll::Ready(Some(Err(IngestError::Multipart {
                reason: "the headers of a part are too long",
            })));
        }
        let next = self.pieces.as_mut().poll_next(cx);
        self.waited = next.is_pending();
        next
    }
}
