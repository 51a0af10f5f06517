//! The room "dedup": a weaker layer under the idempotency key. Was this image here before, under another key?

use eyebolt_engine::digest::{ContentDigests, perceptual_distance};
use eyebolt_store::{
    ContentKey, LeasedJob, NearEntry, NearSought, Principal, Search, Seen, Sought, StoredJob,
};
use eyebolt_types::{AnalyzeRequest, Dedup, DedupPolicy, DedupStatus, id::JobId};
use jiff::Timestamp;

use super::{Room, document, signed};
use crate::{ApiError, analysis::Remarks, idempotency};

impl Room {
    /// What the caller's project wants.
    pub(super) fn dedup_policy(&self, caller: &Principal) -> DedupPolicy {
        caller.dedup_policy.unwrap_or(self.rules.dedup.policy)
    }

    /// What is known of the file at acceptance. `frozen`: what is asked, with its snapshots.
    pub(super) async fn seen(
        &self,
        (caller, job): (&Principal, JobId),
        sha256: [u8; 32],
        frozen: &AnalyzeRequest,
    ) -> Result<Dedup, ApiError> {
        let policy = self.dedup_policy(caller);
        if policy == DedupPolicy::Off {
            return Ok(Dedup::none());
        }
        if frozen.reprocess {
            return Ok(Dedup { status: DedupStatus::Bypassed, ..Dedup::none() });
        }
        let operation = idempotency::operation(frozen);
        let key = ContentKey { project: caller.project, mode: caller.mode, operation, job };
        let sought = Sought { bytes: Some(sha256), ..Sought::default() };
        if policy == DedupPolicy::Reuse
            && let Some(seen) = self.find((key, Search::Reuse), sought.clone()).await?
        {
            return Ok(found(DedupStatus::Reused, seen));
        }
        let seen = self.find((key, Search::Flag), sought).await?;
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
