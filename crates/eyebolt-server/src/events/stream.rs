//! Streams of server-sent events (WHATWG HTML, section 9.2). A stream reads its next events when the connection has taken
//! the last ones: whoever reads slowly holds up nothing and is cut by the connection's own patience.

use std::{fmt::Write, time::Duration};

use bytes::Bytes;
use eyebolt_store::{Store, StoredEvent, StoredJob};
use eyebolt_types::{
    BatchCounts, BatchStatus, Feature, JobStatus, Mode, StepStatus,
    id::{BatchId, JobId, ProjectId, StepId},
};
use futures_util::stream::{BoxStream, StreamExt, unfold};
use serde::Serialize;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, sleep, sleep_until},
};

use super::{EventError, Slot};

/// Pieces of a stream, as they are sent.
pub(crate) type Frames = BoxStream<'static, Bytes>;

/// Events in one piece.
const PAGE: u32 = 100;

/// What is told within such a time is read together.
const TOGETHER: Duration = Duration::from_millis(10);

/// How often somebody looks who was told of nothing.
const POLL: Duration = Duration::from_secs(1);

/// The same of a job that has not ended: its steps are told by nobody.
const JOB_POLL: Duration = Duration::from_millis(250);

/// When a client comes back whose stream ended, milliseconds.
const RETRY: u32 = 1000;

/// The pace of a stream.
struct Pace {
    slot: Slot,
    news: Receiver<ProjectId>,
    project: ProjectId,
    beat_at: Instant,
    ends_at: Instant,
}

/// Why a stream woke up.
enum Woken {
    Look,
    Beat,
    Over,
}

impl Pace {
    fn new(slot: Slot, project: ProjectId) -> Self {
        let (now, settings) = (Instant::now(), &slot.0.settings);
        let (beat_at, ends_at) = (now + settings.heartbeat, now + settings.stream_lifetime);
        Self { news: slot.0.store.news(), project, beat_at, ends_at, slot }
    }

    async fn wait(&mut self, poll: Duration) -> Woken {
        let stopping = self.slot.0.stopping.clone();
        tokio::select! {
            biased;
            () = stopping.cancelled() => Woken::Over,
            () = sleep_until(self.ends_at) => Woken::Over,
            () = sleep_until(self.beat_at) => {
                self.beat_at = Instant::now() + self.slot.0.settings.heartbeat;
                Woken::Beat
            }
            () = told(&mut self.news, self.project) => {
                sleep(TOGETHER).await;
                self.news = self.news.resubscribe();
                Woken::Look
            }
            () = sleep(poll) => Woken::Look,
        }
    }
}

/// Resolves where this project has news, or something was missed.
async fn told(news: &mut Receiver<ProjectId>, project: ProjectId) {
    loop {
        match news.recv().await {
            Ok(one) if one == project => return,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// What a stream found.
enum Found {
    /// What is sent at once.
    Piece(Bytes),
    /// Nothing yet.
    Nothing,
}

/// What a stream tells.
trait Source: Send + 'static {
    /// How often it looks where it is told of nothing.
    const POLL: Duration;

    /// What comes next; `None`: no more will come.
    fn look(&mut self, store: &Store, whose: (ProjectId, Mode))
    -> impl Future<Output = Option<Found>> + Send;
}

/// A stream that is being read.
struct Open<S> {
    pace: Pace,
    mode: Mode,
    source: S,
}

/// Opens a stream: fields of its own to begin with, then what there is to tell.
fn open<S: Source>((slot, (project, mode)): (Slot, (ProjectId, Mode)), head: &str, source: S) -> Frames {
    let head = Bytes::from(format!("retry: {RETRY}\n{head}\n"));
    let open = Open { pace: Pace::new(slot, project), mode, source };
    let rest = unfold(open, |mut open| async move { Some((open.next().await?, open)) });
    futures_util::stream::once(async move { head }).chain(rest).boxed()
}

impl<S: Source> Open<S> {
    async fn next(&mut self) -> Option<Bytes> {
        let (store, whose) = (self.pace.slot.0.store.clone(), (self.pace.project, self.mode));
        loop {
            if let Found::Piece(piece) = self.source.look(&store, whose).await? {
                return Some(piece);
            }
            match self.pace.wait(S::POLL).await {
                Woken::Look => {}
                Woken::Beat => return Some(Bytes::from_static(b": still here\n\n")),
                Woken::Over => return None,
            }
        }
    }
}

/// All events of a project and mode after a position. It begins with that: who is cut before the first event loses nothing.
pub(super) fn of_project(slot: Slot, whose: (ProjectId, Mode), after: u64) -> Frames {
    open((slot, whose), &format!("id: {after}\n"), OfProject { after })
}

struct OfProject {
    after: u64,
}

impl Source for OfProject {
    const POLL: Duration = POLL;

    async fn look(&mut self, store: &Store, whose: (ProjectId, Mode)) -> Option<Found> {
        let found = read(store.events(whose, self.after, PAGE).await)?;
        let Some(last) = found.last() else { return Some(Found::Nothing) };
        self.after = last.position;
        Some(Found::Piece(written(&found, |event| event.position)))
    }
}

/// The events of a job after a version, and how it comes along until its end.
pub(super) fn of_job(slot: Slot, (project, mode, job): (ProjectId, Mode, JobId), after: u64) -> Frames {
    open((slot, (project, mode)), "", OfJob { job, after, shown: Shown::default() })
}

struct OfJob {
    job: JobId,
    after: u64,
    shown: Shown,
}

impl Source for OfJob {
    const POLL: Duration = JOB_POLL;

    async fn look(&mut self, store: &Store, whose: (ProjectId, Mode)) -> Option<Found> {
        // The job first: where it has ended, its event is there.
        let job = read(store.job(whose, self.job).await)??;
        let found = read(store.events_of(self.job, self.after).await)?;
        if let Some(last) = found.last() {
            self.after = u64::from(last.version);
            return Some(Found::Piece(written(&found, |event| event.version.into())));
        }
        (!job.status.is_terminal()).then(|| self.shown.tell("job.progress", &progress(&job)))
    }
}

/// The events of a batch and its items after a position, and how it comes along until its end.
pub(super) fn of_batch(slot: Slot, (project, mode, batch): (ProjectId, Mode, BatchId), after: u64) -> Frames {
    open((slot, (project, mode)), "", OfBatch { batch, after, shown: Shown::default() })
}

struct OfBatch {
    batch: BatchId,
    after: u64,
    shown: Shown,
}

impl Source for OfBatch {
    const POLL: Duration = POLL;

    async fn look(&mut self, store: &Store, whose: (ProjectId, Mode)) -> Option<Found> {
        // The batch first: where it has ended, its event is there.
        let (batch, counts) = read(store.batch(whose, self.batch).await)??;
        let found = read(store.events_of_batch((whose.0, whose.1, self.batch), self.after, PAGE).await)?;
        if let Some(last) = found.last() {
            self.after = last.position;
            return Some(Found::Piece(written(&found, |event| event.position)));
        }
        let (id, object, status, round) = (batch.id, "batch_progress", batch.status, batch.round);
        let progress = BatchProgress { id, object, status, round, counts };
        (!status.is_terminal()).then(|| self.shown.tell("batch.progress", &progress))
    }
}

/// The progress that was told last.
#[derive(Default)]
struct Shown(Option<String>);

impl Shown {
    /// Progress is told where it is other than before.
    fn tell(&mut self, kind: &str, progress: &impl Serialize) -> Found {
        let progress = serde_json::to_string(progress).expect("progress is plain data");
        if self.0.as_ref() == Some(&progress) {
            return Found::Nothing;
        }
        let piece = format!("event: {kind}\ndata: {progress}\n\n");
        self.0 = Some(progress);
        Found::Piece(piece.into())
    }
}

/// How a batch stands that has not ended. It is no event and has no id: the next one says all of it again.
#[derive(Serialize)]
struct BatchProgress {
    id: BatchId,
    object: &'static str,
    status: BatchStatus,
    round: u32,
    counts: BatchCounts,
}

/// A stream that can't go on ends: its client comes back.
fn read<T>(found: Result<T, eyebolt_store::StoreError>) -> Option<T> {
    found.map_err(|error| tracing::warn!(error = %EventError::from(error), "a stream of events ends")).ok()
}

fn written(events: &[StoredEvent], id: impl Fn(&StoredEvent) -> u64) -> Bytes {
    let mut text = String::new();
    for event in events {
        // JSON as it is stored has no line breaks.
        write!(text, "id: {}\nevent: {}\ndata: {}\n\n", id(event), event.kind, event.data)
            .expect("writing to a string does not fail");
    }
    text.into()
}

/// How a job stands that has not ended. It is no event and has no id: the next one says all of it again.
#[derive(Serialize)]
struct Progress {
    id: JobId,
    object: &'static str,
    status: JobStatus,
    round: u32,
    steps: Vec<StepProgress>,
}

#[derive(Serialize)]
struct StepProgress {
    id: StepId,
    feature: Feature,
    status: StepStatus,
    attempt: u32,
}

fn progress(job: &StoredJob) -> Progress {
    let steps = job.steps.iter().map(|step| StepProgress {
        id: step.id,
        feature: step.feature,
        status: step.status,
        attempt: step.attempts,
    });
    let (id, status, round) = (job.id, job.status, job.round);
    Progress { id, object: "job_progress", status, round, steps: steps.collect() }
}
