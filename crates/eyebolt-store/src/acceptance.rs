//! Accepting a job: its key, its image, itself, its steps and the reservation of its price, in one transaction or not
//! at all.

use std::time::Duration;

use eyebolt_types::{
    Class, Feature, Mode, StepStatus,
    id::{ImageId, JobId, KeyId, ProjectId, StepId},
};
use jiff::Timestamp;

use crate::{
    Caps, Closing, Known, Overrun, Store, StoreError, StoredStep, TakenOver, accepting::Accepting,
    closing::Ending, database::drive,
};

/// A job to be accepted.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Its name.
    pub id: JobId,
    /// Whose it is.
    pub project: ProjectId,
    /// Real or sandbox.
    pub mode: Mode,
    /// The key that asked.
    pub key: Option<KeyId>,
    /// The request that asked.
    pub request_id: String,
    /// What was asked, as JSON.
    pub request: String,
    /// What is known of the image, as JSON.
    pub input: String,
    /// The image.
    pub image: NewImage,
    /// Whether the image was seen before, as JSON.
    pub dedup: String,
    /// Digest of what is asked, where the image is to be known when it comes again.
    pub operation: Option<[u8; 32]>,
    /// What is to be done, in this order. What each may cost is reserved now.
    pub steps: Vec<NewStep>,
    /// How urgent it is: where it waits.
    pub class: Class,
    /// How long a worker will be busy with it.
    pub predicted: Duration,
    /// When it ends at the latest.
    pub deadline: Timestamp,
    /// What a retry is known by.
    pub idempotency: Option<Idempotency>,
    /// Whoever accepts it runs it at once, under token 1.
    pub lease: Option<Lease>,
    /// What is taken over from another job with the same pipeline and image: steps that cost nothing, with their parts.
    pub taken_over: TakenOver,
    /// Limits that are decided with it. Not for one that is answered already, since it costs nothing and never waits.
    pub caps: Option<Caps>,
}

/// Who runs a job, and until when without a sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// A name of this process's run, never used again.
    pub owner: String,
    /// The end of the lease.
    pub until: Timestamp,
}

/// The image of a job to be accepted.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// Its name, and its file's, where the content is not there yet.
    pub id: ImageId,
    /// Digest of its bytes: what it is known by inside the project and mode.
    pub sha256: [u8; 32],
    /// Size of the file.
    pub bytes: u64,
    /// The file, where it is small; otherwise it is a blob already.
    pub content: Option<Vec<u8>>,
}

/// One step of a job to be accepted.
#[derive(Debug, Clone)]
pub struct NewStep {
    /// Its name.
    pub id: StepId,
    /// What is asked.
    pub feature: Feature,
    /// The snapshot that answers.
    pub model: Option<String>,
    /// Units that it costs at most: more than one where it is done for each of several parts.
    pub units: u64,
}

impl NewJob {
    /// Units that are reserved for it.
    pub fn units(&self) -> u64 {
        self.steps.iter().map(|step| step.units).sum()
    }
}

impl NewStep {
    /// The step as it stands after acceptance, at its place.
    pub fn pending(self, position: u32) -> StoredStep {
        StoredStep {
            position,
            id: self.id,
            feature: self.feature,
            model: self.model,
            units: self.units,
            tasks: None,
            key: None,
            status: StepStatus::Pending,
            attempts: 0,
            result: None,
            error: None,
            started_at: None,
            finished_at: None,
        }
    }
}

/// What a retry is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// Digest of the idempotency key.
    pub key_hash: Vec<u8>,
    /// Digest of what was asked.
    pub fingerprint: Vec<u8>,
    /// Digest of the body and its form, where the client declared one.
    pub body: Option<Vec<u8>>,
}

/// What became of a request to accept a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acceptance {
    /// The job is durable, and this is the name of its image.
    Accepted(ImageId),
    /// The key was used before: nothing was done.
    Known(Known),
    /// There is no room under a limit: nothing was done, and the key is free.
    Over(Overrun),
}

impl Store {
    /// Accepts a job, unless its key was used before: of two at once, one is accepted and the other learns of it.
    ///
    /// # Errors
    /// Where the database fails; then nothing was accepted, or a repeat with the key tells.
    pub async fn accept(&self, job: NewJob, now: Timestamp) -> Result<Acceptance, StoreError> {
        self.database.write_rounds(Accepting::new(job, now)).await
    }

    /// Accepts a job that is answered already, from another job's results: it costs nothing. It must have a lease.
    ///
    /// # Errors
    /// As [`Store::accept`].
    pub async fn accept_answered(
        &self,
        job: NewJob,
        closing: Closing,
        now: Timestamp,
    ) -> Result<Acceptance, StoreError> {
        let project = job.project;
        let accepted = self
            .database
            .write(move |transaction| {
                let accepted = drive(transaction, &mut Accepting::new(job.clone(), now))?;
                if let Acceptance::Accepted(_) = accepted {
                    let _ = drive(transaction, &mut Ending::new((job.id, 1), closing.clone(), now))?;
                }
                Ok(accepted)
            })
            .await?;
        if let Acceptance::Accepted(_) = accepted {
            self.tell_event(project);
        }
        Ok(accepted)
    }
}
