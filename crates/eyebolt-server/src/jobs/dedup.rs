//! The room "dedup": a weaker layer under the idempotency key. Was this image here before, under another key?

use eyebolt_engine::digest::{ContentDigests, perceptual_distance};
use eyebolt_store::{
    ContentKey, LeasedJob, NearEntry, NearSought, Principal, Search, Seen, Sought, StoredJob,
};
use eyebolt_types::{AnalyzeRequest, Dedup, DedupPolicy, DedupStatus, id::JobId};
use jiff::Timestamp;

use super::{
    Room, document, signed,
    submit::{Arriving, Looked},
};
use crate::{
    ApiError,
    analysis::{Remarks, Submission},
    idempotency,
};

impl Room {
    /// What the caller's project wants.
    pub(super) fn dedup_policy(&self, caller: &Principal) -> DedupPolicy {
        caller.dedup_policy.unwrap_or(self.rules.dedup.policy)
    }

    /// What is asked of the file together with its key, where the project only flags what was seen: then that is all.
    pub(super) fn first_sought(
        &self,
        caller: &Principal,
        submission: &Submission,
    ) -> Option<(ContentKey, [u8; 32], Timestamp)> {
        let flags = self.dedup_policy(caller) == DedupPolicy::Flag && !submission.request.reprocess;
        // What was asked does not matter to a flag.
        let (project, mode, job) = (caller.project, caller.mode, JobId::new());
        let key = ContentKey { project, mode, operation: [0; 32], job };
        flags.then(|| (key, submission.sha256, self.dedup_since()))
    }

    /// What is known of the file at acceptance.
    pub(super) async fn seen(&self, arriving: &Arriving) -> Result<Dedup, ApiError> {
        let Arriving { caller, submission, frozen, looked, .. } = arriving;
        self.seen_before((caller, frozen), submission.sha256, *looked).await
    }

    /// The same of a file that is asked this.
    pub(super) async fn seen_before(
        &self,
        (caller, frozen): (&Principal, &AnalyzeRequest),
        sha256: [u8; 32],
        looked: Looked,
    ) -> Result<Dedup, ApiError> {
        let policy = self.dedup_policy(caller);
        if policy == DedupPolicy::Off {
            return Ok(Dedup::none());
        }
        if frozen.reprocess {
            return Ok(Dedup { status: DedupStatus::Bypassed, ..Dedup::none() });
        }
        let (operation, job) = (idempotency::operation(frozen), JobId::new());
        let key = ContentKey { project: caller.project, mode: caller.mode, operation, job };
        let sought = Sought { bytes: Some(sha256), ..Sought::default() };
        if policy == DedupPolicy::Reuse
            && let Some(seen) = self.find((key, Search::Reuse), sought.clone()).await?
        {
            return Ok(found(DedupStatus::Reused, seen));
        }
        let seen = match looked {
            Looked::Yes(seen) => seen,
            Looked::NotYet => self.find((key, Search::Flag), sought).await?,
        };
        let unique = Dedup { status: DedupStatus::Unique, ..Dedup::none() };
        Ok(seen.map_or(unique, |seen| found(DedupStatus::Duplicate, seen)))
    }

    /// What is known of the pixels at the end; `None`: no more than at acceptance.
    pub(super) async fn recognise(
        &self,
        leased: &LeasedJob,
        remarks: &Remarks,
    ) -> Result<Option<Dedup>, ApiError> {
        let (job, known) = (&leased.job, document::read::<Dedup>(&leased.job.dedup)?);
        let Some(content) = remarks.content.as_ref().filter(|_| known.status == DedupStatus::Unique) else {
            return Ok(None);
        };
        // What was asked does not matter to a flag.
        let key = ContentKey { project: job.project, mode: job.mode, operation: [0; 32], job: job.id };
        let near = NearSought {
            digest: content.perceptual.as_bytes().to_vec(),
            probes: content.perceptual.probes(),
            distance: perceptual_distance,
        };
        let sought = Sought { bytes: None, pixels: Some(content.pixels), near: Some(near) };
        let since = self.dedup_since();
        // What was found must not be lost to a database that restarts.
        let look = || self.tools.store.find_content((key, Search::Flag), sought.clone(), since);
        let seen = self.persistently(look).await?;
        Ok(seen.map(|seen| found(DedupStatus::Duplicate, seen)))
    }

    /// What a job that has succeeded leaves behind, to be known when it comes again. `None` where nothing was looked for
    /// when it was accepted.
    pub(super) fn remember(job: &StoredJob, content: &ContentDigests) -> Option<([u8; 32], NearEntry)> {
        let known = document::read::<Dedup>(&job.dedup).ok()?;
        if known.status == DedupStatus::None {
            return None;
        }
        let digest = content.perceptual.as_bytes().to_vec();
        Some((content.pixels, NearEntry { digest, bands: content.perceptual.bands() }))
    }

    /// Before this, nothing is remembered.
    pub(super) fn dedup_since(&self) -> Timestamp {
        self.now() - signed(self.rules.dedup.window)
    }

    async fn find(&self, key: (ContentKey, Search), sought: Sought) -> Result<Option<Seen>, ApiError> {
        Ok(self.tools.store.find_content(key, sought, self.dedup_since()).await?)
    }
}

fn found(status: DedupStatus, seen: Seen) -> Dedup {
    Dedup { status, of: Some(seen.job), kind: Some(seen.kind) }
}
