//! One attempt at a job with a pipeline.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use eyebolt_store::{Advance, LeasedJob, StoredJob};
use eyebolt_types::{
    ErrorCode, Problem, Results,
    pipeline::{OnError, Stage},
};
use futures_util::FutureExt;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    super::{
        Room, Stop,
        attempt::{Outcome, panicked, told},
        end::{End, Found},
    },
    Sat, of_step,
    progress::{Ended, Progress, Unit},
};
use crate::{
    ApiError, BodyMemory,
    admission::Worker,
    analysis::{Order, Remarks, Sitting},
};

/// The lease was lost: another worker has the job.
struct Lost;

impl Room {
    /// Runs a leased job with a pipeline, from its file.
    pub(in crate::jobs) async fn attempt_pipeline(
        &self,
        leased: &LeasedJob,
        (file, worker): (Result<(Bytes, Option<BodyMemory>), ApiError>, Worker),
        stopped: &mut watch::Receiver<Option<Stop>>,
    ) -> Result<(), ApiError> {
        let (file, failed) = match file {
            Ok(file) => (file, None),
            Err(error) => ((Bytes::new(), None), Some(error)),
        };
        let mut sat = Sat { worker, ..Sat::of(leased, file, self.rules.jobs.max_attempts)? };
        let began = Instant::now();
        let outcome = match failed {
            Some(error) => Outcome::Done(Err(error)),
            None => self.sit(leased, &mut sat, stopped).await?,
        };
        // What was found and is not known to be written is written first: whoever goes on finds it.
        if matches!(outcome, Outcome::Stopped(Stop::Lost))
            || self.write(leased, &mut sat.progress).await?.is_err()
        {
            tracing::warn!(job = %leased.job.id, token = leased.token, "fenced: the lease was lost");
            return Ok(());
        }
        let leased = &LeasedJob { job: sat.progress.job(&leased.job), ..leased.clone() };
        match outcome {
            Outcome::Done(Ok(remarks)) => {
                self.learn_of(&leased.job, (&sat.course, sat.progress.ran()), began.elapsed())?;
                self.conclude_pipeline(leased, *remarks, sat.progress).await
            }
            Outcome::Done(Err(error)) if error.problem().code == ErrorCode::ShuttingDown => {
                self.give_back(leased, Vec::new(), Duration::ZERO).await
            }
            // Nothing was left to be done: what fails now takes nothing away.
            Outcome::Done(Err(_)) if sat.progress.is_over() => {
                self.conclude_pipeline(leased, Remarks::default(), sat.progress).await
            }
            Outcome::Done(Err(error)) => self.fail_pipeline(leased, error, sat.progress).await,
            Outcome::Stopped(_) => self.end(leased, End::Canceled, Found::default()).await,
            Outcome::Overdue => self.end(leased, End::Expired, Found::default()).await,
            Outcome::Halted => self.give_back(leased, Vec::new(), Duration::ZERO).await,
        }
    }

    /// Decodes, and orders what is still to be done.
    async fn sit(
        &self,
        leased: &LeasedJob,
        sat: &mut Sat,
        stopped: &mut watch::Receiver<Option<Stop>>,
    ) -> Result<Outcome, ApiError> {
        let (order, orders) = mpsc::unbounded_channel();
        let (bytes, memory) = (std::mem::take(&mut sat.bytes), sat.memory.take());
        let (job, course, worker) = (leased.job.id, Arc::clone(&sat.course), std::mem::take(&mut sat.worker));
        let (token, class) = (leased.token, leased.job.class);
        let sitting = Sitting { job, token, class, bytes, memory, worker, course, orders };
        // A panic is a failed attempt like any other.
        let sitting = AssertUnwindSafe(self.tools.analyzer.sit(sitting)).catch_unwind();
        tokio::pin!(sitting);
        let driving = self.drive(leased, &mut sat.progress, order);
        tokio::pin!(driving);
        let left = leased.job.deadline.duration_since(self.now());
        let overdue = sleep(Duration::try_from(left).unwrap_or_default());
        tokio::pin!(overdue);
        let mut driven = false;
        loop {
            tokio::select! {
                biased;
                done = &mut driving, if !driven => match done? {
                    // With it ends whoever could order anything: the sitting comes to its end.
                    Ok(()) => driven = true,
                    Err(Lost) => return Ok(Outcome::Stopped(Stop::Lost)),
                },
                sat = &mut sitting => {
                    let sat: Result<Remarks, ApiError> = sat.unwrap_or_else(|_| Err(panicked()));
                    return Ok(Outcome::Done(match sat {
                        Ok(_) if !driven => Err(panicked()),
                        sat => sat.map(Box::new),
                    }));
                }
                stop = told(stopped) => return Ok(Outcome::Stopped(stop)),
                // All may be done, and only an attempt that was given up hold the thread.
                () = &mut overdue => {
                    return Ok(if driven { Outcome::Done(Ok(Box::default())) } else { Outcome::Overdue });
                }
                () = self.halting.cancelled() => return Ok(Outcome::Halted),
            }
        }
    }

    /// Orders one thing after the other, and writes each end with what follows from it. While a part is written, the next one
    /// runs; whatever follows from an end waits until that is written.
    async fn drive(
        &self,
        leased: &LeasedJob,
        progress: &mut Progress,
        order: mpsc::UnboundedSender<Order>,
    ) -> Result<Result<(), Lost>, ApiError> {
        progress.settle(self.now());
        loop {
            if !progress.may_go_on()
                && let Err(lost) = self.write(leased, progress).await?
            {
                return Ok(Err(lost));
            }
            let Some(unit) = progress.next() else { break };
            let advance = progress.unwritten();
            let (ended, written) =
                tokio::join!(self.order(unit, progress, &order), self.advance(leased, advance));
            if let Err(lost) = written? {
                return Ok(Err(lost));
            }
            progress.written();
            progress.ended(unit.place, ended);
        }
        self.write(leased, progress).await
    }

    async fn write(&self, leased: &LeasedJob, progress: &mut Progress) -> Result<Result<(), Lost>, ApiError> {
        let written = self.advance(leased, progress.unwritten()).await?;
        progress.written();
        Ok(written)
    }

    async fn advance(
        &self,
        leased: &LeasedJob,
        advance: Option<Advance>,
    ) -> Result<Result<(), Lost>, ApiError> {
        let Some(advance) = advance else { return Ok(Ok(())) };
        let lease = (leased.job.id, leased.token);
        let fans_out = !advance.fan_outs.is_empty();
        crate::failpoint::hit(if fans_out { "before_fan_out" } else { "before_advance" });
        let written = self.persistently(|| self.tools.store.advance(lease, advance.clone())).await?;
        crate::failpoint::hit(if fans_out { "after_fan_out" } else { "after_advance" });
        Ok(written.map_err(|_| Lost))
    }

    /// Has one thing done; where that fails for good, its fallback.
    async fn order(&self, unit: Unit, progress: &Progress, order: &mpsc::UnboundedSender<Order>) -> Ended {
        let (stage, started_at) = (progress.stage(unit.place), self.now());
        let mut fallback = false;
        let mut result = ordered(order, (unit, stage), fallback).await;
        if let Err(problem) = &result
            && stage.on_error == OnError::Fallback
            && progress.is_final(unit.place, problem.code)
        {
            fallback = true;
            result = ordered(order, (unit, stage), fallback).await;
        }
        Ended { fallback, result, started_at, finished_at: self.now() }
    }

    async fn conclude_pipeline(
        &self,
        leased: &LeasedJob,
        remarks: Remarks,
        progress: Progress,
    ) -> Result<(), ApiError> {
        if let Some(delay) = progress.put_off() {
            tracing::info!(job = %leased.job.id, ?delay, "to be tried again");
            return self.give_back(leased, Vec::new(), delay).await;
        }
        let dedup = self.recognise(leased, &remarks).await?;
        let found = Found { remarks, dedup, ..Found::default() };
        match progress.failure() {
            None => self.end(leased, End::Succeeded, found).await,
            Some(problem) => self.end(leased, End::Failed(Box::new(problem)), found).await,
        }
    }

    /// The image or the engine failed, and not one step alone.
    async fn fail_pipeline(
        &self,
        leased: &LeasedJob,
        error: ApiError,
        mut progress: Progress,
    ) -> Result<(), ApiError> {
        let (problem, now) = (Problem::from(error), self.now());
        progress.failed(&problem, now);
        if self.write(leased, &mut progress).await?.is_err() {
            return Ok(());
        }
        let leased = &LeasedJob { job: progress.job(&leased.job), ..leased.clone() };
        match progress.put_off() {
            Some(delay) => self.give_back(leased, Vec::new(), delay).await,
            // What may be missing is not what fails here: without the image there is nothing.
            None => self.end(leased, End::Failed(Box::new(problem)), Found::default()).await,
        }
    }
}

impl Room {
    /// Ends a job that succeeded before, and was begun again for what it went on without: that is left out again, and what was
    /// found stands.
    pub(in crate::jobs) async fn end_as_before(&self, leased: &LeasedJob) -> Result<(), ApiError> {
        let sat = Sat::of(leased, (Bytes::new(), None), self.rules.jobs.max_attempts)?;
        let mut progress = sat.progress;
        let problem = Problem::new(ErrorCode::JobCanceled, "It was begun again, and that came to nothing.");
        progress.failed(&problem, self.now());
        if self.write(leased, &mut progress).await?.is_err() {
            return Ok(());
        }
        let job = StoredJob { retryable_until: None, ..progress.job(&leased.job) };
        self.end(&LeasedJob { job, ..leased.clone() }, End::Succeeded, Found::default()).await
    }
}

async fn ordered(
    order: &mpsc::UnboundedSender<Order>,
    (unit, stage): (Unit, &Stage),
    fallback: bool,
) -> Result<Results, Problem> {
    let ((begun, has_begun), (done, is_done)) = (oneshot::channel(), oneshot::channel());
    let part = unit.place.1.zip(unit.region);
    let sent = order.send(Order { step: unit.place.0, fallback, part, begun, done });
    // An attempt that is slow because of the one before it is not slow itself.
    let begun = has_begun.await;
    if sent.is_err() || begun.is_err() {
        return gone().await;
    }
    let Some(seconds) = stage.timeout else {
        return match is_done.await {
            Ok(found) => found,
            Err(_) => gone().await,
        };
    };
    match timeout(Duration::from_secs_f32(seconds), is_done).await {
        Ok(Ok(found)) => found,
        Ok(Err(_)) => gone().await,
        Err(_) => {
            let detail = format!("One attempt at {} took longer than {seconds} s.", stage.id);
            let problem = Problem::new(ErrorCode::StepTimeout, detail);
            Err(of_step(problem.with("limit_name", "timeout").with("limit", seconds), &stage.id))
        }
    }
}

/// The sitting has ended: it says why itself.
async fn gone() -> Result<Results, Problem> {
    std::future::pending().await
}
