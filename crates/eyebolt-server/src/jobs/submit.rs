//! A request becomes a job, or learns of the job that its key stands for.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use eyebolt_store::{
    Acceptance, Idempotency, Known, LeasedJob, NewImage, NewJob, NewStep, Principal, Record, Replays,
    StoreError, StoredAnswer, StoredJob, image_blob,
};
use eyebolt_types::{
    Dedup, DedupStatus, ErrorCode, JobStatus, Policy,
    id::{ImageId, JobId, StepId},
};
use jiff::Timestamp;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Ended, Jobs, Room, Waiter,
    abandoned::Abandoned,
    document::{self, Intake},
    end::dedup_status,
    signed,
};
use crate::{
    ApiError, BodyMemory,
    analysis::{Checked, Submission},
    idempotency::{self, IdempotencyKey},
};

/// What is asked beside the submission itself.
#[derive(Debug)]
pub(crate) struct Ask {
    /// What a retry is known by.
    pub(crate) key: Option<IdempotencyKey>,
    /// The route, for the fingerprint.
    pub(crate) route: &'static str,
    /// This request.
    pub(crate) request_id: String,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Submitted {
    /// A job of its own; one that nobody can ask for later ends with whoever holds this.
    New(Waiter, Option<Abandoned>),
    /// The job of an earlier request with the same key, which has not ended.
    Joined(Waiter),
    /// The answer to an earlier request with the same key.
    Replay {
        /// Byte for byte as it was.
        ended: Ended,
        /// The earlier request.
        request_id: String,
        /// Its job.
        job: JobId,
    },
}

impl Jobs {
    /// Accepts a request as a job: durable when this returns.
    ///
    /// # Errors
    /// Where image or settings are refused, the key stands for another request or is expired, or the store fails. Then
    /// nothing was accepted.
    pub(crate) async fn submit(
        &self,
        caller: &Principal,
        submission: Submission,
        ask: Ask,
    ) -> Result<Submitted, ApiError> {
        let room = &self.0;
        let idempotency = ask.key.as_ref().map(|key| Idempotency {
            key_hash: key.hash(),
            fingerprint: idempotency::fingerprint(ask.route, &submission.request, &submission.sha256),
        });
        if let Some(idempotency) = &idempotency {
            let hash = idempotency.key_hash.clone();
            let whose = (caller.project, caller.mode);
            let known = room.tools.store.idempotency_record(whose, hash, room.now()).await?;
            if let Some(known) = known {
                return self.known(caller, known, idempotency).await;
            }
        }
        let checked = room.tools.analyzer.check(&submission).await?;
        let (jobs, caller) = (self.clone(), caller.clone());
        let accepting = async move {
            jobs.accept_within_limits(&caller, (submission, checked), (ask, idempotency)).await
        };
        self.to_its_end(accepting).await
    }

    /// What comes of nothing costs nothing: a refusal, or a twin that was faster.
    async fn accept_within_limits(
        &self,
        caller: &Principal,
        (submission, checked): (Submission, Checked),
        asked: (Ask, Option<Idempotency>),
    ) -> Result<Submitted, ApiError> {
        let quotas = &self.0.tools.quotas;
        let thousandths = (checked.input.megapixels * 1000.0).ceil() as u64;
        let taken = quotas.take(
            caller,
            &[
                (Policy::UnitsPerMinute, checked.snapshots.len() as u64),
                (Policy::MegapixelsPerMinute, thousandths),
                (Policy::BytesPerDay, submission.bytes.len() as u64),
            ],
        )?;
        let submitted = self.accept(caller, (submission, checked), asked).await;
        if !matches!(submitted, Ok(Submitted::New(..))) {
            quotas.give_back(caller, &taken);
        }
        submitted
    }

    async fn accept(
        &self,
        caller: &Principal,
        (submission, checked): (Submission, Checked),
        (ask, idempotency): (Ask, Option<Idempotency>),
    ) -> Result<Submitted, ApiError> {
        let room = &self.0;
        let image = room.keep_image(caller, &submission).await?;
        let frozen = submission.request.clone().with_models(&checked.snapshots);
        let id = JobId::new();
        let seen = room.seen((caller, id), submission.sha256, &frozen).await?;
        let (dedup, reused) = room.reusable(caller, seen).await?;
        let slot = room.free_slot().filter(|_| reused.is_none());
        let mut job = NewJob {
            id,
            project: caller.project,
            mode: caller.mode,
            key: Some(caller.key),
            request_id: ask.request_id,
            request: document::write(&frozen),
            input: document::write(&Intake { input: checked.input, warnings: checked.warnings }),
            image,
            dedup: document::write(&dedup),
            steps: new_steps(checked.snapshots),
            deadline: room.now() + signed(room.rules.jobs.deadline),
            idempotency,
            operation: (dedup.status != DedupStatus::None).then(|| idempotency::operation(&frozen)),
            lease: (slot.is_some() || reused.is_some()).then(|| room.lease()),
        };
        // Before it can end: the end must not be missed.
        let waiter = room.waiters.register(job.id);
        let now = room.now();
        let accepted = match &reused {
            None => room.write_down(job.clone(), now).await?,
            Some(earlier) => room.accept_answered(&job, earlier, (dedup, now)).await?,
        };
        match accepted {
            Acceptance::Known(known) => {
                drop(slot);
                let Some(idempotency) = job.idempotency.take() else { return Err(twice()) };
                self.known(caller, known, &idempotency).await
            }
            Acceptance::Accepted(image) => {
                crate::failpoint::hit("after_accept");
                // Made here, where no connection can be lost in between: a call that has gone leaves it to be dropped.
                let keyless = job.idempotency.is_none();
                let abandoned = keyless.then(|| self.cancel_when_abandoned(caller, job.id));
                let Submission { bytes, sha256, memory, .. } = submission;
                match slot {
                    _ if reused.is_some() => {}
                    Some(slot) => room.run_now((job, image, now), (bytes, sha256, memory), slot),
                    None => room.wake(),
                }
                Ok(Submitted::New(waiter, abandoned))
            }
        }
    }

    /// What a used key stands for.
    async fn known(
        &self,
        caller: &Principal,
        known: Known,
        idempotency: &Idempotency,
    ) -> Result<Submitted, ApiError> {
        let room = &self.0;
        let record = match known {
            Known::Record(record) => record,
            Known::Expired(since) => {
                let detail = format!("The answer to this key was kept until {since}.");
                return Err(with(ErrorCode::IdempotencyKeyExpired, &detail, ("expired_at", since)));
            }
        };
        if record.fingerprint != idempotency.fingerprint {
            let since = record.created_at;
            let detail = format!("The key was first used at {since} for another request.");
            return Err(with(ErrorCode::IdempotencyKeyReused, &detail, ("first_used_at", since)));
        }
        let again = record.retryable_until.is_some_and(|until| until > room.now());
        if record.status == JobStatus::Failed && again {
            // It failed for a reason that may have passed: what is not finished runs again.
            let waiter = room.waiters.register(record.job);
            match self.retry(caller, record.job).await {
                Ok(_) => return Ok(Submitted::Joined(waiter)),
                // A twin ran it to its end meanwhile.
                Err(error) if error.problem().code == ErrorCode::JobNotRetryable => {}
                Err(error) => return Err(error),
            }
            let Some(answer) = room.answer_of(caller, record.job).await? else {
                return Ok(Submitted::Joined(waiter));
            };
            return self.replay(caller, record.job, answer).await;
        }
        self.answered(caller, record).await
    }

    async fn answered(&self, caller: &Principal, record: Record) -> Result<Submitted, ApiError> {
        let room = &self.0;
        let job = record.job;
        let Some(answer) = record.answer else {
            // Registered first: an end between the two looks is not missed.
            let waiter = room.waiters.register(job);
            let Some(answer) = room.answer_of(caller, job).await? else {
                return Ok(Submitted::Joined(waiter));
            };
            return self.replay(caller, job, answer).await;
        };
        self.replay(caller, job, answer).await
    }

    async fn replay(
        &self,
        caller: &Principal,
        job: JobId,
        answer: StoredAnswer,
    ) -> Result<Submitted, ApiError> {
        let room = &self.0;
        room.count_replay(Replays { project: caller.project, mode: caller.mode, key: caller.key });
        let (ended, request_id) = room.ended(job, answer).await?;
        Ok(Submitted::Replay { ended, request_id, job })
    }
}

impl Jobs {
    /// What was answered when a job ended, and to which request.
    ///
    /// # Errors
    /// Where it can't be read.
    pub(crate) async fn kept_answer(&self, job: JobId) -> Result<Option<(Ended, String)>, ApiError> {
        let Some(answer) = self.0.tools.store.answer(job).await? else { return Ok(None) };
        Ok(Some(self.0.ended(job, answer).await?))
    }

    /// What a key stands for.
    ///
    /// # Errors
    /// Where the database fails.
    pub(crate) async fn key(
        &self,
        caller: &Principal,
        key: &IdempotencyKey,
    ) -> Result<Option<Known>, ApiError> {
        let whose = (caller.project, caller.mode);
        Ok(self.0.tools.store.idempotency_record(whose, key.hash(), self.0.now()).await?)
    }
}

impl Room {
    async fn ended(&self, job: JobId, answer: StoredAnswer) -> Result<(Ended, String), ApiError> {
        let body = self.bytes(job, answer.body).await?;
        let told = told_of(&body);
        let code = (answer.status >= 400).then_some(told.code).flatten();
        let dedup = told.dedup.as_ref().map(dedup_status);
        Ok((Ended { status: answer.status, body, code, dedup }, answer.request_id))
    }

    /// The answer that is kept of a job, where it has ended by now.
    async fn answer_of(&self, caller: &Principal, job: JobId) -> Result<Option<StoredAnswer>, ApiError> {
        let stored = self.tools.store.job((caller.project, caller.mode), job).await?;
        if !stored.is_some_and(|job| job.status.is_terminal()) {
            return Ok(None);
        }
        Ok(self.tools.store.answer(job).await?)
    }

    /// Makes the file durable, where it is too large for its row: before any row names it.
    async fn keep_image(&self, caller: &Principal, submission: &Submission) -> Result<NewImage, ApiError> {
        let (bytes, sha256) = (&submission.bytes, submission.sha256);
        let small = bytes.len() <= eyebolt_store::MAX_INLINE;
        if !small {
            let name = image_blob((caller.project, caller.mode), &sha256);
            self.tools.blobs.put(&name, bytes.clone()).await?;
            crate::failpoint::hit("after_blob");
        }
        Ok(NewImage { sha256, bytes: bytes.len() as u64, content: small.then(|| bytes.to_vec()) })
    }

    /// Accepts a job. Where the database went away before it told whether it did, it is asked again: a job that is there
    /// was accepted.
    async fn write_down(&self, job: NewJob, now: Timestamp) -> Result<Acceptance, StoreError> {
        let (id, whose) = (job.id, (job.project, job.mode));
        match self.tools.store.accept(job, now).await {
            Err(error @ StoreError::Unavailable { .. }) => match self.tools.store.job(whose, id).await {
                Ok(Some(job)) => Ok(Acceptance::Accepted(job.image)),
                Ok(None) | Err(_) => Err(error),
            },
            known => known,
        }
    }

    /// A slot for a job that need not wait: where there is one, and nobody waits already.
    fn free_slot(&self) -> Option<OwnedSemaphorePermit> {
        if self.backlog.load(Ordering::Acquire) || self.stopping.is_cancelled() {
            return None;
        }
        Arc::clone(&self.slots).try_acquire_owned().ok()
    }

    /// Runs a job that was accepted under a lease of its own, from the file in memory.
    fn run_now(
        self: &Arc<Self>,
        (job, image, now): (NewJob, ImageId, Timestamp),
        (bytes, sha256, memory): (Bytes, [u8; 32], BodyMemory),
        slot: OwnedSemaphorePermit,
    ) {
        let leased = LeasedJob {
            job: just_accepted(job, image, now),
            token: 1,
            sha256: sha256.to_vec(),
            content: None,
        };
        self.start(leased, Some((bytes, memory)), slot);
    }
}

fn new_steps(snapshots: Vec<(eyebolt_types::Feature, Option<String>)>) -> Vec<NewStep> {
    let step = |(feature, model)| NewStep { id: StepId::new(), feature, model };
    snapshots.into_iter().map(step).collect()
}

/// What a look at the database would find.
pub(super) fn just_accepted(job: NewJob, image: ImageId, now: Timestamp) -> StoredJob {
    StoredJob {
        id: job.id,
        project: job.project,
        mode: job.mode,
        key: job.key,
        request_id: job.request_id,
        status: JobStatus::Processing,
        request: job.request,
        input: job.input,
        image,
        dedup: job.dedup,
        error: None,
        crashes: 0,
        round: 1,
        deadline: job.deadline,
        cancel_requested: false,
        created_at: now,
        started_at: Some(now),
        finished_at: None,
        retryable_until: None,
        steps: (0..).zip(job.steps).map(|(position, step)| step.pending(position)).collect(),
    }
}

/// What of a body that is kept as bytes is told in headers too.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct ToldOf {
    /// Of a problem.
    code: Option<ErrorCode>,
    /// Of a job.
    dedup: Option<Dedup>,
}

fn told_of(body: &[u8]) -> ToldOf {
    serde_json::from_slice(body).unwrap_or_default()
}

fn with(code: ErrorCode, detail: &str, (name, time): (&str, Timestamp)) -> ApiError {
    let mut error = ApiError::new(code, detail);
    error.problem_mut().params.insert(name.to_owned(), time.to_string().into());
    error
}

fn twice() -> ApiError {
    ApiError::new(ErrorCode::Internal, "A job without a key met another.")
}
