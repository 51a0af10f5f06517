//! A batch is accepted: its items are written down as they come, and it is a batch once the last one is there.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use eyebolt_store::{
    BatchAcceptance, BatchRecord, Idempotency, Known, MAX_INLINE, NewBatch, NewImage, Principal, StagedImage,
    StagedItem, StoreError, StoredBatch, image_blob,
};
use eyebolt_types::{
    AnalyzeRequest, BatchCounts, BatchStatus, ErrorCode, Mode, Policy,
    error::Fault,
    id::{BatchId, ImageId, ProjectId},
};
use tokio::time::sleep;

use super::{
    Asked, Batches, Room,
    fingerprint::{Fingerprint, Image, Names},
    signed,
    view::BatchView,
};
use crate::{
    ApiError, BodyMemory, Declared,
    analysis::Submission,
    idempotency::IdempotencyKey,
    ingest::{self, BatchBody, BatchItem, ItemImage},
    jobs::{self, ItemCheck, document},
    quotas::Told,
};

/// Items, or bytes of small images, in one transaction.
const CHUNK_ITEMS: usize = 100;
const CHUNK_BYTES: usize = 1 << 20;

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

/// A batch that is being written down; removed when dropped, unless it was accepted.
struct Staging {
    room: Arc<Room>,
    jobs: crate::Jobs,
    new: NewBatch,
    asked: Asked,
    chunk: Vec<StagedItem>,
    chunk_bytes: usize,
    /// Files that were written for images of the chunk.
    files: Vec<(usize, ImageId, String)>,
    items: u32,
    refused: u32,
    /// Bytes of all images that came.
    bytes: u64,
    accepted: bool,
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
            self.tools.webhooks.admit(caller, url).await?;
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
            names.take(&item.custom_id, item.place)?;
            self.count(u64::from(staging.items) + 1)?;
            let place = item.place;
            let memory = body.memory();
            let added = staging.add(caller, (item, memory), &mut fingerprint).await;
            added.map_err(|error| place.tell(error))?;
        }
        if staging.items == 0 {
            return Err(ApiError::wrong_field("/items", "holds no item".to_owned()));
        }
        staging.flush().await?;
        let key_hash = ask.key.as_ref().map(IdempotencyKey::hash);
        let (fingerprint, body) = (fingerprint.finish(), ask.body);
        let idempotency = key_hash.map(|key_hash| Idempotency { key_hash, fingerprint, body });
        let submitted = staging.accept((caller, &ask.told), idempotency).await;
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
            fingerprint.item(&item.custom_id, &item.request, image);
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
        let staging = Staging {
            room: Arc::clone(self),
            jobs: self.tools.jobs.clone(),
            new: new.clone(),
            asked,
            chunk: Vec::new(),
            chunk_bytes: 0,
            files: Vec::new(),
            items: 0,
            refused: 0,
            bytes: 0,
            accepted: false,
        };
        self.tools.store.begin_batch(new, now).await?;
        Ok(staging)
    }

    /// Removes what was written down of a batch that came to nothing.
    async fn discard(&self, id: BatchId) -> Result<(), StoreError> {
        for _ in 0..DISCARDS {
            let nobody = (String::new(), String::new());
            let (removed, blobs) = self.tools.store.remove_staged((Some(id), None), nobody).await?;
            self.tools.blobs.remove(&blobs).await?;
            if removed > 0 {
                return Ok(());
            }
            // The last chunk is still being written, or it was accepted after all.
            sleep(DISCARD_PAUSE).await;
        }
        Ok(())
    }
}

/// What an image is known by, without a look at what it shows.
async fn known_by(image: &ItemImage) -> Image {
    match image {
        ItemImage::File(bytes, _) => Image::Bytes(ingest::digest(bytes.clone()).await),
        ItemImage::Stored(id) => Image::Stored(*id),
        ItemImage::Refused(error) => Image::Refused(error.problem().code),
    }
}

impl Staging {
    /// Writes an item down, or keeps it for the next chunk.
    async fn add(
        &mut self,
        caller: &Principal,
        (item, memory): (BatchItem, BodyMemory),
        fingerprint: &mut Fingerprint,
    ) -> Result<(), ApiError> {
        let BatchItem { custom_id, request, image, .. } = item;
        let known = known_by(&image).await;
        fingerprint.item(&custom_id, &request, known);
        let staged = match (image, known) {
            (ItemImage::File(bytes, declared), Image::Bytes(sha256)) => {
                self.bytes += bytes.len() as u64;
                let looked = self.look((bytes.clone(), sha256), (&request, declared), memory).await?;
                match looked {
                    Err(refused) => (request, Err(refused)),
                    Ok((frozen, check)) => (frozen, Ok((self.keep(bytes, sha256).await?, check))),
                }
            }
            (ItemImage::Stored(id), _) => self.stored(caller, (id, request), memory).await?,
            (ItemImage::Refused(error), _) => (request, Err(*error)),
            (ItemImage::File(..), _) => {
                return Err(ApiError::new(ErrorCode::Internal, "A file has no digest."));
            }
        };
        let (request, image) = staged;
        self.refused += u32::from(image.is_err());
        self.chunk.push(StagedItem {
            position: self.items,
            custom_id,
            request: document::write(&request),
            image: image.map_err(|error| document::write(error.problem())),
        });
        self.items += 1;
        if self.chunk.len() >= CHUNK_ITEMS || self.chunk_bytes >= CHUNK_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    /// Looks at an image and what is asked of it. A fault of the image is the item's matter, any other the whole batch's.
    async fn look(
        &self,
        (bytes, sha256): (Bytes, [u8; 32]),
        (request, declared): (&AnalyzeRequest, Declared),
        memory: BodyMemory,
    ) -> Result<Result<(AnalyzeRequest, String), ApiError>, ApiError> {
        let submission = Submission { bytes, sha256, request: request.clone(), declared, memory };
        match self.room.tools.analyzer.check(&submission).await {
            Ok(checked) => {
                let frozen = submission.request.with_models(&checked.snapshots);
                Ok(Ok((frozen, document::write(&ItemCheck::from(checked)))))
            }
            Err(error) if error.problem().code.row().fault == Fault::Image => Ok(Err(error)),
            Err(error) => Err(error),
        }
    }

    /// An image that was stored before.
    async fn stored(
        &self,
        caller: &Principal,
        (id, request): (ImageId, AnalyzeRequest),
        memory: BodyMemory,
    ) -> Result<(AnalyzeRequest, Result<(StagedImage, String), ApiError>), ApiError> {
        let (tools, whose) = (&self.room.tools, (caller.project, caller.mode));
        let Some(image) = tools.store.image(whose, id).await? else {
            return Ok((request, Err(ingest::no_image())));
        };
        let bytes = match image.content {
            Some(content) => content.into(),
            None => match tools.blobs.image(whose, (image.id, &image.sha256)).await {
                // Removed for its age between the row and the file.
                Err(StoreError::Corrupt { .. }) => return Ok((request, Err(ingest::no_image()))),
                read => read?,
            },
        };
        let sha256 = <[u8; 32]>::try_from(image.sha256.as_slice())
            .map_err(|_| ApiError::new(ErrorCode::Internal, "A stored digest has another length."))?;
        let looked = self.look((bytes, sha256), (&request, Declared::default()), memory).await?;
        Ok(match looked {
            Ok((frozen, check)) => (frozen, Ok((StagedImage::Stored(sha256), check))),
            Err(refused) => (request, Err(refused)),
        })
    }

    /// Makes the file durable, where it is too large for its row: before any row names it.
    async fn keep(&mut self, bytes: Bytes, sha256: [u8; 32]) -> Result<StagedImage, ApiError> {
        let (id, length) = (ImageId::new(), bytes.len());
        let small = length <= MAX_INLINE;
        if small {
            self.chunk_bytes += length;
        } else {
            let name = image_blob((self.new.project, self.new.mode), id, &sha256);
            self.room.tools.blobs.put(&name, bytes.clone()).await?;
            crate::failpoint::hit("after_blob");
            self.files.push((self.chunk.len(), id, name));
        }
        let content = small.then(|| bytes.to_vec());
        Ok(StagedImage::New(NewImage { id, sha256, bytes: length as u64, content }))
    }

    /// Writes the chunk down.
    async fn flush(&mut self) -> Result<(), ApiError> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let whose = (self.new.id, self.new.project, self.new.mode);
        let chunk = std::mem::take(&mut self.chunk);
        self.chunk_bytes = 0;
        let images = self.room.tools.store.stage_items(whose, chunk, self.room.now()).await?;
        crate::failpoint::hit("after_stage");
        let images = images.ok_or_else(gone)?;
        let named = |(place, id, _): &(usize, ImageId, String)| images.get(*place) == Some(&Some(*id));
        let known: Vec<_> = std::mem::take(&mut self.files).into_iter().filter(|file| !named(file)).collect();
        let known: Vec<_> = known.into_iter().map(|(_, _, name)| name).collect();
        if let Err(error) = self.room.tools.blobs.remove(&known).await {
            tracing::debug!(%error, "files that nobody needs are left to the sweep");
        }
        Ok(())
    }

    async fn accept(
        mut self,
        (caller, told): (&Principal, &Told),
        idempotency: Option<Idempotency>,
    ) -> Result<Submitted, ApiError> {
        let room = Arc::clone(&self.room);
        let costs = [(Policy::BytesPerDay, self.bytes)];
        let taken = room.tools.jobs.quotas().take(caller, &costs, told).await?;
        let now = room.now();
        self.new.expires_at = now + signed(Duration::from_secs(self.asked.expires_in_seconds));
        let answer = self.answer(now)?;
        let max_failures = (self.asked.max_failure_rate * f64::from(self.items)).floor() as u32;
        let accepted = self.write_down((idempotency.clone(), max_failures, answer.clone())).await?;
        crate::failpoint::hit("after_accept_batch");
        match accepted {
            BatchAcceptance::Accepted => {
                self.accepted = true;
                taken.spend();
                room.wake.notify_one();
                Ok(Submitted::New(self.new.id, answer))
            }
            BatchAcceptance::Gone => Err(gone()),
            BatchAcceptance::Known(Known::Batch(record))
                if idempotency.is_some_and(|key| key.fingerprint == record.fingerprint) =>
            {
                Ok(Submitted::Replay(record))
            }
            BatchAcceptance::Known(Known::Batch(BatchRecord { created_at, .. })) => {
                Err(jobs::reused(created_at))
            }
            BatchAcceptance::Known(Known::Record(record)) => Err(jobs::reused(record.created_at)),
            BatchAcceptance::Known(Known::Expired(since)) => Err(jobs::expired(since)),
        }
    }

    /// Accepts it. Where the database went away before it told whether it did, it is asked again.
    async fn write_down(
        &self,
        (idempotency, max_failures, answer): (Option<Idempotency>, u32, Bytes),
    ) -> Result<BatchAcceptance, StoreError> {
        let (store, whose) = (&self.room.tools.store, (self.new.project, self.new.mode));
        let rest = (self.items, max_failures, answer.to_vec());
        match store.accept_batch((self.new.clone(), idempotency), rest, self.room.now()).await {
            Err(error @ StoreError::Unavailable { .. }) => match store.batch(whose, self.new.id).await {
                Ok(Some(_)) => Ok(BatchAcceptance::Accepted),
                Ok(None) | Err(_) => Err(error),
            },
            done => done,
        }
    }

    /// What is answered, now and to every retry.
    fn answer(&self, now: jiff::Timestamp) -> Result<Bytes, ApiError> {
        let batch = StoredBatch {
            id: self.new.id,
            project: self.new.project,
            mode: self.new.mode,
            key: self.new.key,
            request_id: self.new.request_id.clone(),
            status: BatchStatus::Processing,
            priority: self.new.priority,
            settings: self.new.settings.clone(),
            total: self.items,
            round: 1,
            created_at: now,
            expires_at: self.new.expires_at,
            finished_at: None,
        };
        let counts = BatchCounts {
            total: self.items,
            pending: self.items - self.refused,
            failed: self.refused,
            ..BatchCounts::default()
        };
        let view = BatchView::of(&batch, counts)?;
        Ok(serde_json::to_vec(&view).expect("words of the API are plain data").into())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.accepted {
            return;
        }
        let (room, id) = (Arc::clone(&self.room), self.new.id);
        self.jobs.spawn(async move {
            if let Err(error) = room.discard(id).await {
                tracing::debug!(%error, "what is left of a batch is left to the sweep");
            }
        });
    }
}

fn gone() -> ApiError {
    ApiError::new(ErrorCode::Internal, "What was written of the batch is gone.")
}
