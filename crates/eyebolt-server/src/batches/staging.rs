//! A batch that is being written down, until it is accepted or comes to nothing.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use eyebolt_store::{
    BatchAcceptance, BatchRecord, Idempotency, ItemKey, Known, MAX_INLINE, NewBatch, NewImage, Principal,
    StagedImage, StagedItem, StoreError, StoredBatch, image_blob,
};
use eyebolt_types::{AnalyzeRequest, BatchCounts, BatchStatus, ErrorCode, Policy, error::Fault, id::ImageId};

use super::{
    Asked, Room,
    accept::{Submitted, known_by},
    fingerprint::{Fingerprint, Image},
    signed,
    view::BatchView,
};
use crate::{
    ApiError, BodyMemory, Declared, Jobs,
    analysis::Submission,
    idempotency::{self, IdempotencyKey},
    ingest::{self, BatchItem, ItemImage},
    jobs::{self, document},
    quotas::{Taken, Told},
};

/// Items, or bytes of small images, in one transaction.
const CHUNK_ITEMS: usize = 100;
const CHUNK_BYTES: usize = 1 << 20;

/// A batch that is being written down; removed when dropped, unless it was accepted.
pub(super) struct Staging {
    room: Arc<Room>,
    jobs: Jobs,
    new: NewBatch,
    asked: Asked,
    chunk: Vec<StagedItem>,
    chunk_bytes: usize,
    /// Files that were written for images of the chunk.
    files: Vec<(usize, ImageId, String)>,
    items: u32,
    /// Items that were written down as refused.
    refused: u32,
    /// Bytes of images that came and were not yet taken from the caller's limits.
    unpaid: u64,
    /// Bytes of images that came.
    came: u64,
    /// What was taken: given back where it comes to nothing.
    taken: Vec<Taken>,
    told: Told,
    accepted: bool,
}

impl Staging {
    /// Nothing of it is written yet.
    pub(super) fn new(room: &Arc<Room>, (new, asked): (NewBatch, Asked), told: Told) -> Self {
        Self {
            room: Arc::clone(room),
            jobs: room.tools.jobs.clone(),
            new,
            asked,
            chunk: Vec::new(),
            chunk_bytes: 0,
            files: Vec::new(),
            items: 0,
            refused: 0,
            unpaid: 0,
            came: 0,
            taken: Vec::new(),
            told,
            accepted: false,
        }
    }

    /// How many items it has so far.
    pub(super) fn items(&self) -> u32 {
        self.items
    }

    /// Writes an item down, or keeps it for the next chunk.
    pub(super) async fn add(
        &mut self,
        caller: &Principal,
        (item, memory): (BatchItem, BodyMemory),
        fingerprint: &mut Fingerprint,
    ) -> Result<(), ApiError> {
        let known = known_by(&item.image).await;
        fingerprint.item(&item, known);
        let BatchItem { custom_id, key, request, image, .. } = item;
        let asked = key.is_some().then(|| request.clone());
        let staged = match (image, known) {
            (ItemImage::File(bytes, declared), Image::Bytes(sha256)) => {
                self.unpaid += bytes.len() as u64;
                // The first image tells whether there is anything left.
                if self.taken.is_empty() || self.unpaid >= CHUNK_BYTES as u64 {
                    self.pay(caller).await?;
                }
                let looked = self.look(caller, (bytes.clone(), sha256), (&request, declared, memory)).await?;
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
        self.chunk.push(StagedItem {
            position: self.items,
            custom_id,
            key: key.zip(asked).map(|(key, asked)| item_key(&key, &asked, &image)),
            request: document::write(&request),
            image: image.map_err(|error| document::write(error.problem())),
        });
        self.items += 1;
        if self.chunk.len() >= CHUNK_ITEMS || self.chunk_bytes >= CHUNK_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    /// Takes the bytes that came from the caller's limits, before more of them are written.
    async fn pay(&mut self, caller: &Principal) -> Result<(), ApiError> {
        let costs = [(Policy::BytesPerDay, std::mem::take(&mut self.unpaid))];
        self.came += costs[0].1;
        let taken = self.room.tools.jobs.quotas().take(caller, &costs, &self.told).await;
        self.taken.push(taken.map_err(|exceeded| exceeded.of_all(self.came))?);
        Ok(())
    }

    /// Looks at an image and what is asked of it. A fault of the image is the item's matter, any other the whole batch's.
    async fn look(
        &self,
        caller: &Principal,
        (bytes, sha256): (Bytes, [u8; 32]),
        (request, declared, memory): (&AnalyzeRequest, Declared, BodyMemory),
    ) -> Result<Result<(AnalyzeRequest, String), ApiError>, ApiError> {
        let request = request.clone();
        let submission =
            Submission { bytes, sha256, request, declared, by_field: false, memory: Some(memory) };
        match self.jobs.check_item(caller, submission).await {
            Ok((frozen, check)) => Ok(Ok((frozen, document::write(&check)))),
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
        let looked = self.look(caller, (bytes, sha256), (&request, Declared::default(), memory)).await?;
        Ok(match looked {
            Ok((frozen, check)) => {
                let gone = document::write(ingest::no_image().problem());
                (frozen, Ok((StagedImage::Stored(sha256, gone), check)))
            }
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
    pub(super) async fn flush(&mut self) -> Result<(), ApiError> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let whose = (self.new.id, self.new.project, self.new.mode);
        let chunk = std::mem::take(&mut self.chunk);
        self.chunk_bytes = 0;
        let images = self.room.tools.store.stage_items(whose, chunk, self.room.now()).await?;
        crate::failpoint::hit("after_stage");
        let images = images.ok_or_else(gone)?;
        // An image that was there when it was looked at may be gone by now.
        self.refused += images.iter().filter(|image| image.is_none()).count() as u32;
        let named = |(place, id, _): &(usize, ImageId, String)| images.get(*place) == Some(&Some(*id));
        let known: Vec<_> = std::mem::take(&mut self.files).into_iter().filter(|file| !named(file)).collect();
        let known: Vec<_> = known.into_iter().map(|(_, _, name)| name).collect();
        if let Err(error) = self.room.tools.blobs.remove(&known).await {
            tracing::debug!(%error, "files that nobody needs are left to the sweep");
        }
        Ok(())
    }

    pub(super) async fn accept(
        mut self,
        caller: &Principal,
        idempotency: Option<Idempotency>,
    ) -> Result<Submitted, ApiError> {
        let room = Arc::clone(&self.room);
        self.pay(caller).await?;
        let now = room.now();
        self.new.expires_at = now + signed(Duration::from_secs(self.asked.expires_in_seconds));
        let answer = self.answer(now)?;
        let max_failures = self.asked.allowed_failures(self.items);
        let accepted = self.write_down((idempotency.clone(), max_failures, answer.clone()), now).await?;
        crate::failpoint::hit("after_accept_batch");
        match accepted {
            BatchAcceptance::Accepted => {
                self.accepted = true;
                self.taken.drain(..).for_each(Taken::spend);
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

    /// Accepts it, at the time that is answered. Where the database went away before it told whether it did, it is asked again.
    async fn write_down(
        &self,
        (idempotency, max_failures, answer): (Option<Idempotency>, u32, Bytes),
        now: jiff::Timestamp,
    ) -> Result<BatchAcceptance, StoreError> {
        let (store, whose) = (&self.room.tools.store, (self.new.project, self.new.mode));
        let rest = (self.items, max_failures, answer.to_vec());
        match store.accept_batch((self.new.clone(), idempotency), rest, now).await {
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
        // Files of a chunk that is being written may be named by rows: those are found with the rows, or by the sweep.
        let unnamed = if self.chunk.is_empty() { Vec::new() } else { std::mem::take(&mut self.files) };
        let unnamed: Vec<_> = unnamed.into_iter().map(|(_, _, name)| name).collect();
        self.jobs.spawn(async move {
            let removed = room.tools.blobs.remove(&unnamed).await;
            if let Err(error) = room.discard(id).await.and(removed) {
                tracing::debug!(%error, "what is left of a batch is left to the sweep");
            }
        });
    }
}

/// The key of an item, and what the same call for its image alone would be known by.
fn item_key(
    key: &IdempotencyKey,
    asked: &AnalyzeRequest,
    image: &Result<(StagedImage, String), ApiError>,
) -> ItemKey {
    let sha256 = image.as_ref().ok().map(|(image, _)| image.sha256());
    let fingerprint = sha256.map(|sha256| idempotency::fingerprint(idempotency::ANALYZE, asked, sha256));
    ItemKey { text: key.as_str().to_owned(), fingerprint: fingerprint.unwrap_or_default() }
}

fn gone() -> ApiError {
    ApiError::new(ErrorCode::Internal, "What was written of the batch is gone.")
}
