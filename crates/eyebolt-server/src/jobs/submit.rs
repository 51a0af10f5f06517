//! A request becomes a job, or learns of the job that its key stands for.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use eyebolt_store::{
    Acceptance, Idempotency, LeasedJob, Line, NewImage, NewJob, Principal, Seen, StoreError, TakenOver,
    image_blob,
};
use eyebolt_types::{
    AnalyzeRequest, Dedup, Degraded, ErrorCode, Policy,
    id::{ImageId, JobId},
    pipeline::PipelineRef,
};
use jiff::Timestamp;
use tokio::time::timeout;

use super::{
    Ended, Jobs, Room, Waiter,
    abandoned::Abandoned,
    arrivals::Arrival,
    new_job::{frozen, just_accepted},
    place::{Place, Urgency},
};
use crate::{
    ApiError, BodyMemory,
    admission::Permit,
    analysis::{Checked, Submission},
    clients::Sighting,
    idempotency::{self, IdempotencyKey},
    quotas::{self, Exceeded, Taken, Told},
};

/// What is asked beside the submission itself.
#[derive(Debug)]
pub(crate) struct Ask {
    /// What a retry is known by.
    pub(crate) key: Option<IdempotencyKey>,
    /// Digest of the whole request, where its body was declared.
    pub(crate) body: Option<Vec<u8>>,
    /// The route, for the fingerprint.
    pub(crate) route: String,
    /// This request.
    pub(crate) request_id: String,
    /// Who waits for it.
    pub(crate) urgency: Urgency,
    /// What its caller is told of limits.
    pub(crate) told: Told,
    /// What is seen of it.
    pub(crate) sighting: Sighting,
}

/// A request on its way to become a job.
pub(super) struct Arriving {
    pub(super) caller: Principal,
    pub(super) submission: Submission,
    pub(super) checked: Checked,
    /// What is to be done, with its snapshots.
    pub(super) frozen: AnalyzeRequest,
    /// How that is less than what was asked.
    pub(super) degraded: Option<Degraded>,
    /// The pipeline, where there is one.
    pub(super) pipeline: Option<PipelineRef>,
    /// What another job found.
    pub(super) taken_over: TakenOver,
    pub(super) ask: Ask,
    pub(super) idempotency: Option<Idempotency>,
    pub(super) looked: Looked,
    taken: Taken,
    /// A twin waits for it; and it counts among the project's jobs at once, until it is one.
    _on_its_way: (Option<Arrival>, Option<quotas::Arriving>),
}

/// What another job found with the same pipeline and image, and what that job tells of the pipeline.
pub(super) struct Beside {
    pub(super) pipeline: Option<PipelineRef>,
    pub(super) taken_over: TakenOver,
}

/// A file that was written for an image.
struct WrittenFile {
    image: ImageId,
    name: String,
}

/// What is known of a file by its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Looked {
    /// Nobody has looked.
    NotYet,
    /// The oldest job that had it, where there is one.
    Yes(Option<Seen>),
}

/// What is known of a key.
enum Arrived {
    /// Nothing: it is new. And what is known of the file.
    First(Arrival, Looked),
    /// What it stands for.
    Known(Submitted),
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Submitted {
    /// A job of its own; one that nobody can ask for later ends with whoever holds this.
    New(Waiter, Option<Abandoned>),
    /// The job of an earlier request with the same key, which has not ended.
    Joined(Waiter),
    /// The answer to an earlier request with the same key.
    Replay(Replay),
}

/// An answer that is given again.
#[derive(Debug)]
pub(crate) struct Replay {
    /// Byte for byte as it was.
    pub(crate) ended: Ended,
    /// The earlier request.
    pub(crate) request_id: String,
    /// Its job.
    pub(crate) job: JobId,
}

impl Jobs {
    /// Accepts a request as a job: durable when this returns.
    ///
    /// # Errors
    /// Where image or settings are refused, the key stands for another request or is expired, there is no room, or the store
    /// fails. Then nothing was accepted.
    pub(crate) async fn submit(
        &self,
        caller: &Principal,
        submission: Submission,
        ask: Ask,
    ) -> Result<Submitted, ApiError> {
        self.submit_beside(caller, (submission, None), ask).await
    }

    /// The same of one that takes over what another job found.
    pub(super) async fn submit_beside(
        &self,
        caller: &Principal,
        (mut submission, beside): (Submission, Option<Beside>),
        ask: Ask,
    ) -> Result<Submitted, ApiError> {
        let room = &self.0;
        let fingerprint = idempotency::fingerprint(&ask.route, &submission.request, &submission.sha256);
        ask.sighting.read(&fingerprint);
        let idempotency = ask.key.as_ref().map(|key| Idempotency {
            key_hash: key.hash(),
            fingerprint,
            body: ask.body.clone(),
        });
        let (arrival, looked) = match &idempotency {
            None => (None, Looked::NotYet),
            Some(idempotency) => match self.arrive(caller, idempotency, (&submission, &ask)).await? {
                Arrived::First(arrival, looked) => (Some(arrival), looked),
                Arrived::Known(submitted) => return Ok(submitted),
            },
        };
        let mut pipeline = self.name_resolved(caller, &mut submission.request).await?;
        let mut checked = room.tools.analyzer.check(&submission).await?;
        let mut taken_over = TakenOver::default();
        if let Some(beside) = beside {
            checked.kept = beside.taken_over.steps.iter().map(|step| step.position as usize).collect();
            (pipeline, taken_over) = (beside.pipeline, beside.taken_over);
        }
        if let Some(url) = &submission.request.webhook_url {
            let place = if submission.by_field { "webhook_url" } else { "/webhook_url" };
            let admitted = room.tools.webhooks.admit(caller, url).await;
            admitted.map_err(|error| ApiError::from(error).moved_to(place))?;
        }
        let place = room.tools.quotas.arrive(caller, checked.units(), room.until_an_end(caller))?;
        let taken = room.take(caller, (&submission, &checked), &ask.told).await?;
        let frozen = frozen(&submission.request, &checked);
        let caller = caller.clone();
        let mut arriving = Arriving {
            caller,
            submission,
            checked,
            frozen,
            degraded: None,
            pipeline,
            taken_over,
            ask,
            idempotency,
            looked,
            taken,
            _on_its_way: (arrival, place),
        };
        let jobs = self.clone();
        if arriving.idempotency.is_none() {
            // Whoever hangs up while it waits has gone.
            let found = self.find_place(&mut arriving).await?;
            return self.to_its_end(async move { jobs.accept(arriving, found).await }).await;
        }
        // It keeps its place although its caller hangs up: the retry finds it further on.
        let accepting = async move {
            let found = jobs.find_place(&mut arriving).await?;
            jobs.accept(arriving, found).await
        };
        self.to_its_end(accepting).await
    }

    /// Whether the key is known, or the first one with it is on its way.
    async fn arrive(
        &self,
        caller: &Principal,
        idempotency: &Idempotency,
        (submission, ask): (&Submission, &Ask),
    ) -> Result<Arrived, ApiError> {
        let (room, whose) = (&self.0, (caller.project, caller.mode));
        loop {
            let (hash, sought) = (idempotency.key_hash.clone(), room.first_sought(caller, submission));
            let looks = sought.is_some();
            let (known, seen) = room.tools.store.first_look(whose, hash, (sought, room.now())).await?;
            if let Some(known) = known {
                ask.sighting.known();
                return Ok(Arrived::Known(self.known(caller, known, idempotency).await?));
            }
            let key = (caller.project, caller.mode, idempotency.key_hash.clone());
            match room.arrivals.begin(key) {
                Ok(arrival) => {
                    return Ok(Arrived::First(
                        arrival,
                        if looks { Looked::Yes(seen) } else { Looked::NotYet },
                    ));
                }
                Err(first) => {
                    ask.sighting.known();
                    timeout(ask.urgency.left(), first.over()).await.map_err(|_| still_waits())?;
                }
            }
        }
    }

    async fn accept(
        &self,
        arriving: Arriving,
        (dedup, place): (Dedup, Place),
    ) -> Result<Submitted, ApiError> {
        let room = &self.0;
        let (image, file) = room.keep_image(&arriving.caller, &arriving.submission).await?;
        let mut job = room.new_job(&arriving, (image, &dedup), &place);
        // Before it can end: the end must not be missed.
        let waiter = room.waiters.register(job.id);
        let now = room.now();
        let accepted = match &place {
            Place::Now(_) | Place::Later(..) => room.write_down(job.clone(), now).await?,
            Place::Answered(earlier) => room.accept_answered(&job, earlier, (dedup, now)).await?,
        };
        let Arriving { caller, submission, taken, .. } = arriving;
        match accepted {
            Acceptance::Known(known) => {
                drop((place, taken));
                room.discard(file, None);
                let Some(idempotency) = job.idempotency.take() else { return Err(twice()) };
                self.known(&caller, known, &idempotency).await
            }
            Acceptance::Over(overrun) => {
                drop((place, taken));
                room.discard(file, None);
                let wait = room.until_an_end(&caller);
                let over = room.tools.quotas.over(&caller, overrun, wait);
                Err(over.map_or_else(unlimited, ApiError::from))
            }
            Acceptance::Accepted(image) => {
                crate::failpoint::hit("after_accept");
                taken.spend();
                room.tools.quotas.accepted(&caller, job.caps, job.units());
                room.discard(file, Some(image));
                // Made here, where no connection can be lost in between: a call that has gone leaves it to be dropped.
                let keyless = job.idempotency.is_none();
                let abandoned = keyless.then(|| self.cancel_when_abandoned(&caller, job.id));
                let Submission { bytes, sha256, memory, .. } = submission;
                match place {
                    Place::Answered(_) => {}
                    Place::Now(permit) => room.run_now((job, image, now), (bytes, sha256, memory), permit),
                    Place::Later(waiting, class) => {
                        room.wait_in_line(waiting, Line { project: caller.project, class });
                    }
                }
                Ok(Submitted::New(waiter, abandoned))
            }
        }
    }
}

impl Room {
    /// Takes from the project's limits what the request costs. What comes of nothing costs nothing: a refusal, or a twin
    /// that was faster.
    async fn take(
        &self,
        caller: &Principal,
        (submission, checked): (&Submission, &Checked),
        told: &Told,
    ) -> Result<Taken, Exceeded> {
        let thousandths = (checked.input.megapixels * 1000.0).ceil() as u64;
        let costs = [
            (Policy::UnitsPerMinute, checked.units()),
            (Policy::MegapixelsPerMinute, thousandths),
            (Policy::BytesPerDay, submission.bytes.len() as u64),
        ];
        self.tools.quotas.take(caller, &costs, told).await
    }

    /// How long it may be until a job of the caller's project ends: no more than a guess.
    pub(super) fn until_an_end(&self, caller: &Principal) -> Duration {
        let (_, wait) = self.admission.standing(caller.project);
        Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX)
    }

    /// Makes the file durable, where it is too large for its row: before any row names it.
    async fn keep_image(
        &self,
        caller: &Principal,
        submission: &Submission,
    ) -> Result<(NewImage, Option<WrittenFile>), ApiError> {
        let (bytes, sha256, id) = (&submission.bytes, submission.sha256, ImageId::new());
        let small = bytes.len() <= eyebolt_store::MAX_INLINE;
        let content = small.then(|| bytes.to_vec());
        let image = NewImage { id, sha256, bytes: bytes.len() as u64, content };
        if small {
            return Ok((image, None));
        }
        let name = image_blob((caller.project, caller.mode), id, &sha256);
        self.tools.blobs.put(&name, bytes.clone()).await?;
        crate::failpoint::hit("after_blob");
        Ok((image, Some(WrittenFile { image: id, name })))
    }

    /// Removes a file that no row names, since the image was known already. `named`: whose file a row names.
    fn discard(&self, file: Option<WrittenFile>, named: Option<ImageId>) {
        let Some(file) = file.filter(|file| Some(file.image) != named) else { return };
        let blobs = self.tools.blobs.clone();
        self.spawn(async move {
            if let Err(error) = blobs.remove(&[file.name]).await {
                tracing::debug!(%error, "a file that nobody needs is left to the sweep");
            }
        });
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

    /// Runs a job that was accepted under a lease of its own, from the file in memory.
    fn run_now(
        self: &Arc<Self>,
        (job, image, now): (NewJob, ImageId, Timestamp),
        (bytes, sha256, memory): (Bytes, [u8; 32], Option<BodyMemory>),
        permit: Permit,
    ) {
        let leased = LeasedJob {
            job: just_accepted(job, image, now),
            token: 1,
            sha256: sha256.to_vec(),
            content: None,
        };
        self.start(leased, Some((bytes, memory)), permit);
    }
}

fn still_waits() -> ApiError {
    let detail = "The first request with this key still waits for a worker.";
    ApiError::new(ErrorCode::IdempotencyKeyInUse, detail)
}

/// In shadow mode nothing is over a limit.
pub(super) fn unlimited() -> ApiError {
    ApiError::new(ErrorCode::Internal, "A limit was crossed that refuses nothing.")
}

/// What has no key is never known by one.
pub(super) fn twice() -> ApiError {
    ApiError::new(ErrorCode::Internal, "A job without a key met another.")
}
