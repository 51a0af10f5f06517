//! A batch is accepted: its items are written down as they come, and it is a batch once the last one is there.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use eyebolt_store::{BatchRecord, Idempotency, Known, NewBatch, Principal, StoreError};
use eyebolt_types::{
    ErrorCode, Mode,
    id::{BatchId, ProjectId},
};
use tokio::time::sleep;

use super::{
    Asked, Batches, Room,
    fingerprint::{Fingerprint, Image, Names},
    staging::Staging,
    work::REST,
};
use crate::{
    ApiError,
    idempotency::IdempotencyKey,
    ingest::{self, BatchBody, ItemImage},
    jobs::{self, document},
    quotas::Told,
};

/// How often what was left is looked for, and how long in between.
const DISCARDS: u32 = 5;
const DISCARD_PAUSE: Duration = Duration::from_millis(200);

/// What is asked beside the body itself.
#[derive(Debug)]
pub(crate) struct Ask {
    /// What a retry is known by.
    pub(crate) key: Option<IdempotencyKey>,
    /// Digest of the whole request, where its body was declared.
    pub(crate) body: Option<Vec<u8>>,
    /// This request.
    pub(crate) request_id: String,
    /// What its caller is told of limits.
    pub(crate) told: Told,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Submitted {
    /// A batch: what is answered.
    New(BatchId, Bytes),
    /// The answer to an earlier request with the same key.
    Replay(BatchRecord),
}

/// A key whose batch is being read; over when dropped.
struct Arrival(Arc<Room>, (ProjectId, Mode, Vec<u8>));

impl Drop for Arrival {
    fn drop(&mut self) {
        self.0.arriving().remove(&self.1);
    }
}

impl Batches {
    /// Accepts a batch: durable when this returns.
    ///
    /// # Errors
    /// Where its body or settings are refused, the key stands for another request or is expired, or the store fails. Then
    /// nothing of it is there.
    pub(crate) async fn submit(
        &self,
        caller: &Principal,
        mut body: BatchBody,
        ask: Ask,
    ) -> Result<Submitted, ApiError> {
        let done = self.0.submit(caller, &mut body, ask).await;
        done.map_err(|error| body.closing(error))
    }

    /// The kept answer to a request of which all but the body is known, and the body by what was declared of it.
    ///
    /// # Errors
    /// Where the database fails.
    pub(crate) async fn replay_unread(
        &self,
        caller: &Principal,
        (key, body): (&IdempotencyKey, &[u8]),
    ) -> Result<Option<BatchRecord>, ApiError> {
        match self.0.tools.jobs.key(caller, key).await? {
            Some(Known::Batch(record)) if record.body.as_deref() == Some(body) => Ok(Some(record)),
            _ => Ok(None),
        }
    }
}

impl Room {
    async fn submit(
        self: &Arc<Self>,
        caller: &Principal,
        body: &mut BatchBody,
        ask: Ask,
    ) -> Result<Submitted, ApiError> {
        let mut arrival = None;
        if let Some(key) = &ask.key {
            match self.tools.jobs.key(caller, key).await? {
                None => arrival = Some(self.arrive(caller, key)?),
                Some(known) => return self.compare(body, known).await.map(Submitted::Replay),
            }
        }
        let head = body.head().await?;
        if let Some(url) = &head.webhook_url {
            let admitted = self.tools.webhooks.admit(caller, url).await;
            admitted.map_err(|error| ApiError::from(error).moved_to("/webhook_url"))?;
        }
        let expires_in = head.expires_in.unwrap_or(self.settings.expires_in);
        let mut fingerprint = Fingerprint::of(&head, expires_in);
        let asked = Asked {
            max_failure_rate: head.max_failure_rate,
            expires_in_seconds: expires_in.as_secs(),
            webhook_url: head.webhook_url.clone(),
        };
        let mut staging = self.begin((caller, &ask), (asked, head.priority)).await?;
        let mut names = Names::default();
        while let Some(item) = body.next().await? {
            names.take(&item)?;
            self.count(u64::from(staging.items()) + 1)?;
            let place = item.place;
            let memory = body.memory();
            let added = staging.add(caller, (item, memory), &mut fingerprint).await;
            added.map_err(|error| place.tell(error))?;
        }
        if staging.items() == 0 {
            return Err(ApiError::wrong_field("/items", "holds no item".to_owned()));
        }
        staging.flush().await?;
        let key_hash = ask.key.as_ref().map(IdempotencyKey::hash);
        let (fingerprint, body) = (fingerprint.finish(), ask.body);
        let idempotency = key_hash.map(|key_hash| Idempotency { key_hash, fingerprint, body });
        let submitted = staging.accept(caller, idempotency).await;
        drop(arrival);
        submitted
    }

    fn arrive(self: &Arc<Self>, caller: &Principal, key: &IdempotencyKey) -> Result<Arrival, ApiError> {
        let name = (caller.project, caller.mode, key.hash());
        if !self.arriving().insert(name.clone()) {
            let detail = "The first request with this key is still being read.";
            return Err(ApiError::new(ErrorCode::IdempotencyKeyInUse, detail));
        }
        Ok(Arrival(Arc::clone(self), name))
    }

    fn count(&self, found: u64) -> Result<(), ApiError> {
        let limit = u64::from(self.settings.max_items);
        if found <= limit {
            return Ok(());
        }
        let detail = format!("The batch has at least {found} items, more than {limit}.");
        let mut error = ApiError::new(ErrorCode::PayloadTooLarge, detail);
        let params = &mut error.problem_mut().params;
        params.insert("limit_name".to_owned(), "max_items".into());
        params.insert("limit".to_owned(), limit.into());
        params.insert("found".to_owned(), found.into());
        Err(error)
    }

    /// The answer that a used key stands for, where the same is asked again: nothing of the body is kept.
    async fn compare(&self, body: &mut BatchBody, known: Known) -> Result<BatchRecord, ApiError> {
        let record = match known {
            Known::Batch(record) => record,
            Known::Record(record) => return Err(jobs::reused(record.created_at)),
            Known::Expired(since) => return Err(jobs::expired(since)),
        };
        let head = body.head().await?;
        let expires_in = head.expires_in.unwrap_or(self.settings.expires_in);
        let mut fingerprint = Fingerprint::of(&head, expires_in);
        while let Some(item) = body.next().await? {
            let image = known_by(&item.image).await;
            fingerprint.item(&item, image);
        }
        if fingerprint.finish() == record.fingerprint {
            Ok(record)
        } else {
            Err(jobs::reused(record.created_at))
        }
    }

    async fn begin(
        self: &Arc<Self>,
        (caller, ask): (&Principal, &Ask),
        (asked, priority): (Asked, i64),
    ) -> Result<Staging, ApiError> {
        let now = self.now();
        let new = NewBatch {
            id: BatchId::new(),
            project: caller.project,
            mode: caller.mode,
            key: caller.key,
            request_id: ask.request_id.clone(),
            owner: self.owner.clone(),
            priority,
            settings: document::write(&asked),
            expires_at: now,
        };
        let staging = Staging::new(self, (new.clone(), asked), ask.told.clone());
        self.tools.store.begin_batch(new, now).await?;
        Ok(staging)
    }

    /// Removes what was written down of a batch that came to nothing.
    pub(super) async fn discard(&self, id: BatchId) -> Result<(), StoreError> {
        for _ in 0..DISCARDS {
            let nobody = (String::new(), String::new());
            if self.remove_pieces((Some(id), None), nobody, REST).await? > 0 {
                return Ok(());
            }
            // The last chunk is still being written, or it was accepted after all.
            sleep(DISCARD_PAUSE).await;
        }
        Ok(())
    }
}

/// What an image is known by, without a look at what it shows.
pub(super) async fn known_by(image: &ItemImage) -> Image {
    match image {
        ItemImage::File(bytes, _) => Image::Bytes(ingest::digest(bytes.clone()).await),
        ItemImage::Stored(id) => Image::Stored(*id),
        ItemImage::Refused(error) => Image::Refused(error.problem().code),
    }
}
