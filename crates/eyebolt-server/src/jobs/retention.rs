//! What is old goes: jobs with their documents, and before them the images that nobody needs any more.

use std::time::Duration;

use eyebolt_store::{Removed, StoreError, SweepPlace};
use tokio::time::{Instant, sleep};

use super::{Jobs, Room, signed};

/// Jobs or images in one transaction.
const BATCH: u32 = 50;

/// After each batch so many times what it took: whoever waits for a commit waits for no row of batches.
const REST: u32 = 2;

/// In a build for crash tests images go as soon as no job needs them: whoever sends one again meets the sweep.
const IMAGES_KEPT: Option<Duration> =
    if cfg!(feature = "torture") { Some(Duration::from_secs(1)) } else { None };

/// How far the sweep has come. Those passed over are looked at again when it begins anew.
#[derive(Debug, Default)]
pub(super) struct Reached {
    jobs: Option<SweepPlace>,
    images: Option<SweepPlace>,
}

impl Jobs {
    /// Removes at once what is older than the settings keep it; by itself that is done once a minute.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn remove_old(&self) -> Result<(), StoreError> {
        self.0.remove_old(&mut Reached::default()).await
    }
}

impl Room {
    /// Removes what is older than the settings keep it.
    pub(super) async fn remove_old(&self, reached: &mut Reached) -> Result<(), StoreError> {
        let (now, rules, store) = (self.now(), &self.rules.jobs, &self.tools.store);
        let (mut jobs, mut images, mut more) = (0, 0, true);
        while more && !self.halting.is_cancelled() {
            let (began, after) = (Instant::now(), (reached.jobs.clone(), BATCH));
            let removed = store.remove_jobs(now - signed(rules.retention), after, now).await?;
            more = removed.more;
            jobs += self.clear(removed, &mut reached.jobs).await;
            rest(began.elapsed(), more).await;
        }
        let image_retention = IMAGES_KEPT.unwrap_or(rules.image_retention);
        more = true;
        while more && !self.halting.is_cancelled() {
            let (began, after) = (Instant::now(), (reached.images.clone(), BATCH));
            let removed = store.empty_images(now - signed(image_retention), after, now).await?;
            more = removed.more;
            images += self.clear(removed, &mut reached.images).await;
            rest(began.elapsed(), more).await;
        }
        if jobs + images > 0 {
            tracing::info!(jobs, images, "removed what was old");
        }
        Ok(())
    }

    /// The files go after their rows; those that a crash leaves are found by the sweep of blobs.
    async fn clear(&self, removed: Removed, reached: &mut Option<SweepPlace>) -> u64 {
        crate::failpoint::hit("in_removal");
        if removed.reached.is_some() {
            *reached = removed.reached;
        }
        if let Err(error) = self.tools.blobs.remove(&removed.blobs).await {
            tracing::warn!(%error, "files of removed rows are left to the sweep of blobs");
        }
        removed.count
    }
}

async fn rest(took: Duration, more: bool) {
    if more {
        sleep(took * REST).await;
    }
}
