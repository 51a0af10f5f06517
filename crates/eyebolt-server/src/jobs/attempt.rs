//! One attempt at a job: what is still to be done is done, each step is committed as it ends, and the job ends or waits
//! for its next attempt.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use eyebolt_store::{LeasedJob, MAX_CRASHES, StepOutcome, StoreError, StoredJob, StoredStep};
use eyebolt_types::{AnalyzeRequest, ErrorCode, Problem, id::JobId};
use futures_util::FutureExt;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};

use super::{
    Room, Running, Stop,
    document::{self, Intake},
    end::{End, Found, failed_step, outcome},
    retry_policy::RetryPolicy,
    signed,
};
use crate::{
    ApiError, BodyMemory,
    admission::{Look, Permit, Worker},
    analysis::{Attempt, Remarks, StepEnd},
    chance,
};

/// How an attempt came to its end.
pub(super) enum Outcome {
    Done(Result<Box<Remarks>, ApiError>),
    Stopped(Stop),
    Overdue,
    /// The process wants to end.
    Halted,
}

/// Keeps the job among those that run here.
struct Registered<'a> {
    room: &'a Room,
    job: JobId,
    token: i64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut running = self.room.running();
        // A later attempt at the same job may have taken its place.
        if running.get(&self.job).is_some_and(|running| running.token == self.token) {
            running.remove(&self.job);
        }
        drop(running);
        self.room.freed.notify_waiters();
    }
}

impl Room {
    /// Runs a leased job in a task of its own. `upload`: the file, where it is still in memory.
    pub(super) fn start(
        self: &Arc<Self>,
        leased: LeasedJob,
        upload: Option<(Bytes, Option<BodyMemory>)>,
        permit: Permit,
    ) {
        let room = Arc::clone(self);
        self.spawn(async move {
            let job = leased.job.id;
            let worker = Worker::from(permit);
            if let Err(error) = room.attempt(leased, upload, worker.clone()).await {
                // The lease runs out, and the job is claimed again.
                tracing::error!(%job, %error, "an attempt was given up");
            }
            drop(worker);
        });
    }

    pub(super) async fn attempt(
        &self,
        leased: LeasedJob,
        upload: Option<(Bytes, Option<BodyMemory>)>,
        worker: Worker,
    ) -> Result<(), ApiError> {
        let job = &leased.job;
        let (stop, mut stopped) = watch::channel(None);
        self.running().insert(job.id, Running { token: leased.token, stop });
        let _registered = Registered { room: self, job: job.id, token: leased.token };
        if let Some(end) = self.ends_at_once(&leased) {
            return self.end(&leased, end, Found::default()).await;
        }
        let file = self.file(&leased, upload).await;
        let request: AnalyzeRequest = document::read(&job.request)?;
        if request.pipeline.is_some() {
            return self.attempt_pipeline(&leased, (file, worker), &mut stopped).await;
        }
        let (mut found, began) = (Found::default(), Instant::now());
        let outcome = match file {
            Ok(file) => self.run((&leased, request), (file, worker), (&mut found, &mut stopped)).await?,
            Err(error) => Outcome::Done(Err(error)),
        };
        if let Outcome::Done(Ok(_)) = &outcome {
            self.learn(job, &found, began.elapsed())?;
        }
        match outcome {
            Outcome::Done(done) => self.conclude(&leased, done, found).await,
            Outcome::Stopped(Stop::Cancel) => self.end(&leased, End::Canceled, found).await,
            Outcome::Overdue => self.end(&leased, End::Expired, found).await,
            Outcome::Halted => self.give_back(&leased, Vec::new(), Duration::ZERO).await,
            Outcome::Stopped(Stop::Lost) => {
                tracing::warn!(job = %job.id, token = leased.token, "fenced: the lease was lost");
                Ok(())
            }
        }
    }

    /// How long it took says how long others will.
    fn learn(&self, job: &StoredJob, found: &Found, took: Duration) -> Result<(), ApiError> {
        let Intake { input, .. } = document::read(&job.input)?;
        let request: AnalyzeRequest = document::read(&job.request)?;
        let ends = found.ends.iter().chain(&found.committed).filter(|end| end.result.is_ok());
        let steps = ends.map(|end| {
            let took = end.finished_at.duration_since(end.started_at);
            let look = Look {
                feature: end.feature,
                model: end.model.clone(),
                detail: request.detail_of(end.feature),
            };
            (look, Duration::try_from(took).unwrap_or_default())
        });
        self.admission.learn(steps, input.megapixels.into(), took);
        Ok(())
    }

    /// A job that must not be run.
    fn ends_at_once(&self, leased: &LeasedJob) -> Option<End> {
        let job = &leased.job;
        if job.cancel_requested {
            return Some(End::Canceled);
        }
        if job.crashes >= MAX_CRASHES {
            let detail = format!("The job's worker died {} times.", job.crashes);
            let problem = Problem::new(ErrorCode::WorkerDied, detail)
                .with("limit_name", "max_crashes")
                .with("limit", MAX_CRASHES)
                .with("found", job.crashes);
            return Some(End::Failed(Box::new(problem)));
        }
        (self.now() >= job.deadline).then_some(End::Expired)
    }

    async fn file(
        &self,
        leased: &LeasedJob,
        upload: Option<(Bytes, Option<BodyMemory>)>,
    ) -> Result<(Bytes, Option<BodyMemory>), ApiError> {
        if let Some(upload) = upload {
            return Ok(upload);
        }
        if let Some(content) = &leased.content {
            return Ok((content.clone().into(), None));
        }
        let whose = (leased.job.project, leased.job.mode);
        Ok((self.tools.blobs.image(whose, (leased.job.image, &leased.sha256)).await?, None))
    }

    /// Runs what is still to be done. What it finds is in `found`, however it ends.
    async fn run(
        &self,
        (leased, request): (&LeasedJob, AnalyzeRequest),
        ((bytes, memory), worker): ((Bytes, Option<BodyMemory>), Worker),
        (found, stopped): (&mut Found, &mut watch::Receiver<Option<Stop>>),
    ) -> Result<Outcome, ApiError> {
        let job = &leased.job;
        let unfinished: Vec<_> = unfinished(leased).map(|step| step.feature).collect();
        let planned = unfinished.len();
        let request = AnalyzeRequest { features: unfinished, ..request };
        let (ended, mut ends) = mpsc::unbounded_channel();
        let (token, class) = (leased.token, leased.job.class);
        let attempt = Attempt { job: job.id, token, class, bytes, memory, worker, request, ended };
        // A panic is a failed attempt like any other.
        let running = AssertUnwindSafe(self.tools.analyzer.run(attempt)).catch_unwind();
        tokio::pin!(running);
        let left = job.deadline.duration_since(self.now());
        let overdue = sleep(Duration::try_from(left).unwrap_or_default());
        tokio::pin!(overdue);
        loop {
            tokio::select! {
                biased;
                Some(end) = ends.recv() => self.note(leased, (end, planned), found).await?,
                done = &mut running => {
                    while let Ok(end) = ends.try_recv() {
                        found.ends.push(end);
                    }
                    let done = done.unwrap_or_else(|_| Err(panicked()));
                    return Ok(Outcome::Done(done.map(Box::new)));
                }
                stop = told(stopped) => return Ok(Outcome::Stopped(stop)),
                () = &mut overdue => return Ok(Outcome::Overdue),
                () = self.halting.cancelled() => return Ok(Outcome::Halted),
            }
        }
    }

    /// Commits a step that succeeded, unless it is the last: that one is committed with the job's end.
    async fn note(
        &self,
        leased: &LeasedJob,
        (end, planned): (StepEnd, usize),
        found: &mut Found,
    ) -> Result<(), ApiError> {
        let last = found.ends.len() + found.committed.len() + 1 == planned;
        let outcome = outcome(&leased.job, &end, true).filter(|_| end.result.is_ok() && !last);
        let Some(outcome) = outcome else {
            found.ends.push(end);
            return Ok(());
        };
        let lease = (leased.job.id, leased.token);
        if self.persistently(|| self.tools.store.finish_step(lease, outcome.clone())).await?.is_ok() {
            found.committed.push(end);
        } else {
            // The end will be fenced as well; until then the work goes on.
            tracing::warn!(job = %lease.0, token = lease.1, "fenced: another worker has the job");
        }
        crate::failpoint::hit("after_step_commit");
        Ok(())
    }

    /// Ends the job, or gives it back for another attempt at what failed.
    async fn conclude(
        &self,
        leased: &LeasedJob,
        done: Result<Box<Remarks>, ApiError>,
        mut found: Found,
    ) -> Result<(), ApiError> {
        let job = &leased.job;
        let failure = match done {
            Ok(remarks) => {
                found.dedup = self.recognise(leased, &remarks).await?;
                found.remarks = *remarks;
                found.ends.iter().find_map(|end| end.result.as_ref().err().cloned())
            }
            Err(error) if error.problem().code == ErrorCode::ShuttingDown => {
                return self.give_back(leased, Vec::new(), Duration::ZERO).await;
            }
            Err(error) => {
                let (problem, now) = (Problem::from(error), self.now());
                let told: Vec<_> = found.ends.iter().chain(&found.committed).map(|end| end.feature).collect();
                let silent = unfinished(leased).filter(|step| !told.contains(&step.feature));
                found.ends.extend(silent.map(|step| failed_step(step, &problem, now)));
                Some(problem)
            }
        };
        let Some(problem) = failure else { return self.end(leased, End::Succeeded, found).await };
        let attempts = unfinished(leased).map(|step| step.attempts + 1).max().unwrap_or(1);
        let policy = RetryPolicy { max_attempts: self.rules.jobs.max_attempts };
        match policy.delay(problem.code, attempts, chance::roll()) {
            Some(delay) => {
                tracing::info!(job = %job.id, code = %problem.code, attempts, ?delay, "to be tried again");
                let tried = found.ends.iter().filter_map(|end| outcome(job, end, end.result.is_ok()));
                self.give_back(leased, tried.collect(), delay).await
            }
            None => self.end(leased, End::Failed(Box::new(problem)), found).await,
        }
    }

    pub(super) async fn give_back(
        &self,
        leased: &LeasedJob,
        tried: Vec<StepOutcome>,
        delay: Duration,
    ) -> Result<(), ApiError> {
        let not_before = (self.now() + signed(delay)).min(leased.job.deadline);
        let lease = (leased.job.id, leased.token);
        let released =
            self.persistently(|| self.tools.store.release(lease, tried.clone(), not_before)).await?;
        if released.is_err() {
            tracing::warn!(job = %lease.0, token = lease.1, "fenced: another worker has the job");
        }
        self.wake();
        Ok(())
    }

    /// Asks the store until it answers, or the process wants to end: what was found must not be lost to a full disk or
    /// a database that restarts.
    pub(super) async fn persistently<T, F>(&self, ask: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut pause = Duration::from_millis(100);
        loop {
            match ask().await {
                Err(error @ (StoreError::Unavailable { .. } | StoreError::Full)) => {
                    tracing::warn!(%error, ?pause, "the store is asked again");
                    tokio::select! {
                        () = sleep(pause) => {}
                        () = self.halting.cancelled() => return Err(error),
                    }
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
                done => return done,
            }
        }
    }
}

pub(super) fn panicked() -> ApiError {
    ApiError::new(ErrorCode::Internal, "The engine made a mistake; it has been logged.")
}

/// Resolves once somebody wants the attempt to stop.
pub(super) async fn told(stopped: &mut watch::Receiver<Option<Stop>>) -> Stop {
    loop {
        if let Some(stop) = *stopped.borrow_and_update() {
            return stop;
        }
        if stopped.changed().await.is_err() {
            // Nobody is left who could.
            std::future::pending::<()>().await;
        }
    }
}

fn unfinished(leased: &LeasedJob) -> impl Iterator<Item = &StoredStep> {
    leased.job.steps.iter().filter(|step| step.finished_at.is_none())
}
