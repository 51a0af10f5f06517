//! Streams of server-sent events (WHATWG HTML, section 9.2). A stream reads its next events when the connection has taken
//! the last ones: whoever reads slowly holds up nothing and is cut by the connection's own patience.

use std::{fmt::Write, time::Duration};

use bytes::Bytes;
use eyebolt_store::{StoredEvent, StoredJob};
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

/// All events of a project and mode.
pub(super) struct ProjectStream {
    pace: Pace,
    mode: Mode,
    after: u64,
}

impl ProjectStream {
    pub(super) fn new(slot: Slot, (project, mode): (ProjectId, Mode), after: u64) -> Self {
        Self { pace: Pace::new(slot, project), mode, after }
    }

    /// It begins with its position: who is cut before the first event loses nothing.
    pub(super) fn frames(self) -> Frames {
        let head = Bytes::from(format!("retry: {RETRY}\nid: {}\n\n", self.after));
        let rest = unfold(self, |mut stream| async move {
            let piece = stream.next().await?;
            Some((piece, stream))
        });
        futures_util::stream::once(async move { head }).chain(rest).boxed()
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let whose = (self.pace.project, self.mode);
            let found = read(self.pace.slot.0.store.events(whose, self.after, PAGE).await)?;
            if let Some(last) = found.last() {
                self.after = last.position;
                return Some(written(&found, |event| event.position));
            }
            match self.pace.wait(POLL).await {
                Woken::Look => {}
                Woken::Beat => return Some(Bytes::from_static(b": still here\n\n")),
                Woken::Over => return None,
            }
        }
    }
}

/// The events of a job, and how it comes along until then.
pub(super) struct JobStream {
    pace: Pace,
    mode: Mode,
    job: JobId,
    after: u64,
    shown: Option<String>,
}

impl JobStream {
    pub(super) fn new(slot: Slot, (project, mode, job): (ProjectId, Mode, JobId), after: u64) -> Self {
        Self { pace: Pace::new(slot, project), mode, job, after, shown: None }
    }

    pub(super) fn frames(self) -> Frames {
        let head = Bytes::from(format!("retry: {RETRY}\n\n"));
        let rest = unfold(self, |mut stream| async move {
            let piece = stream.next().await?;
            Some((piece, stream))
        });
        futures_util::stream::once(async move { head }).chain(rest).boxed()
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let store = self.pace.slot.0.store.clone();
            // The job first: where it has ended, its event is there.
            let job = read(store.job((self.pace.project, self.mode), self.job).await)??;
            let found = read(store.events_of(self.job, self.after).await)?;
            if let Some(last) = found.last() {
                self.after = u64::from(last.version);
                return Some(written(&found, |event| event.version.into()));
            }
            if job.status.is_terminal() {
                return None;
            }
            let progress = progress(&job);
            if self.shown.as_ref() != Some(&progress) {
                let piece = format!("event: job.progress\ndata: {progress}\n\n");
                self.shown = Some(progress);
                return Some(piece.into());
            }
            match self.pace.wait(JOB_POLL).await {
                Woken::Look => {}
                Woken::Beat => return Some(Bytes::from_static(b": still here\n\n")),
                Woken::Over => return None,
            }
        }
    }
}

/// The events of a batch and its items, and how it comes along until its end.
pub(super) struct BatchStream {
    pace: Pace,
    mode: Mode,
    batch: BatchId,
    after: u64,
    shown: Option<String>,
}

impl BatchStream {
    pub(super) fn new(slot: Slot, (project, mode, batch): (ProjectId, Mode, BatchId), after: u64) -> Self {
        Self { pace: Pace::new(slot, project), mode, batch, after, shown: None }
    }

    pub(super) fn frames(self) -> Frames {
        let head = Bytes::from(format!("retry: {RETRY}\n\n"));
        let rest = unfold(self, |mut stream| async move {
            let piece = stream.next().await?;
            Some((piece, stream))
        });
        futures_util::stream::once(async move { head }).chain(rest).boxed()
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let store = self.pace.slot.0.store.clone();
            let whose = (self.pace.project, self.mode);
            // The batch first: where it has ended, its event is there.
            let (batch, counts) = read(store.batch(whose, self.batch).await)??;
            let named = (whose.0, whose.1, self.batch);
            let found = read(store.events_of_batch(named, self.after, PAGE).await)?;
            if let Some(last) = found.last() {
                self.after = last.position;
                return Some(written(&found, |event| event.position));
            }
            if batch.status.is_terminal() {
                return None;
            }
            let (id, object, status, round) = (batch.id, "batch_progress", batch.status, batch.round);
            let progress = BatchProgress { id, object, status, round, counts };
            let progress = serde_json::to_string(&progress).expect("progress is plain data");
            if self.shown.as_ref() != Some(&progress) {
                let piece = format!("event: batch.progress\ndata: {progress}\n\n");
                self.shown = Some(progress);
                return Some(piece.into());
            }
            match self.pace.wait(POLL).await {
                Woken::Look => {}
                Woken::Beat => return Some(Bytes::from_static(b": still here\n\n")),
                Woken::Over => return None,
            }
        }
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

fn progress(job: &StoredJob) -> String {
    let steps = job.steps.iter().map(|step| StepProgress {
        id: step.id,
        feature: step.feature,
        status: step.status,
        attempt: step.attempts,
    });
    let (id, status, round) = (job.id, job.status, job.round);
    let progress = Progress { id, object: "job_progress", status, round, steps: steps.collect() };
    serde_json::to_string(&progress).expect("progress is plain data")
}
