//! A batch is written down while its request is read, and becomes one in a single transaction at its end. Until then nobody
//! sees anything of it.

use eyebolt_types::{
    Mode,
    id::{BatchId, ImageId, KeyId, ProjectId},
};
use jiff::Timestamp;

use crate::{
    Idempotency, ItemKey, Known, NewImage, Removed, Store, StoreError,
    database::{Statement, Transaction, Value},
    record::{self, Holder},
    retention::remove_images,
    times,
};

/// A batch to be written down, and then to be accepted.
#[derive(Debug, Clone)]
pub struct NewBatch {
    /// Its name.
    pub id: BatchId,
    /// Whose it is.
    pub project: ProjectId,
    /// Real or sandbox.
    pub mode: Mode,
    /// The key that asks.
    pub key: KeyId,
    /// The request that asks.
    pub request_id: String,
    /// A name of this process's run.
    pub owner: String,
    /// Which of several goes first: the greater.
    pub priority: i64,
    /// What is asked for all items, as JSON.
    pub settings: String,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
}

/// An item to be written down.
#[derive(Debug, Clone)]
pub struct StagedItem {
    /// Its place, from 0.
    pub position: u32,
    /// The client's name for it.
    pub custom_id: String,
    /// Its idempotency key, where it has one.
    pub key: Option<ItemKey>,
    /// What is asked, as JSON, with its models.
    pub request: String,
    /// Its image and what is known of it as JSON, or why it is refused: a problem as JSON.
    pub image: Result<(StagedImage, String), String>,
}

/// The image of an item.
#[derive(Debug, Clone)]
pub enum StagedImage {
    /// It came with the request.
    New(NewImage),
    /// It was stored before: its digest, and the problem as JSON where it was removed since it was looked at.
    Stored([u8; 32], String),
}

impl StagedImage {
    /// Digest of its bytes.
    pub fn sha256(&self) -> &[u8; 32] {
        match self {
            Self::New(image) => &image.sha256,
            Self::Stored(sha256, _) => sha256,
        }
    }
}

/// An image as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    /// Its name.
    pub id: ImageId,
    /// Digest of its bytes.
    pub sha256: Vec<u8>,
    /// The file, where it is small; otherwise it is a blob.
    pub content: Option<Vec<u8>>,
}

/// What became of a request to accept a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchAcceptance {
    /// It is durable.
    Accepted,
    /// The key was used before: nothing was done.
    Known(Known),
    /// What was written down was removed meanwhile.
    Gone,
}

/// Items that one transaction removes: others wait for no longer.
const PIECE: i64 = 50;

const INSERT: &str = "INSERT INTO batches (id, project_id, mode, key_id, request_id, owner, status, priority, settings, \
                      total, max_failures, created_at, expires_at) \
                      VALUES ($1, $2, $3, $4, $5, $6, 'accepting', $7, $8, 0, 0, $9, $10)";
const STAGED: &str =
    "SELECT id FROM batches WHERE id = $1 AND status = 'accepting' AND ending IS NULL FOR UPDATE";
const IMAGE: &str = "INSERT INTO images (id, project_id, mode, sha256, bytes, content, created_at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (project_id, mode, sha256) \
                     WHERE removed_at IS NULL DO NOTHING";
/// The lock: a sweep that is removing the image is waited for.
const FIND_IMAGE: &str = "SELECT id FROM images WHERE project_id = $1 AND mode = $2 AND sha256 = $3 \
                          AND removed_at IS NULL FOR KEY SHARE";
const ITEM: &str = "INSERT INTO batch_items (batch_id, position, custom_id, image_id, request, checked, status, error, \
                    finished_at, idempotency_key, fingerprint) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
const ACCEPT: &str = "UPDATE batches SET status = 'processing', total = $1, max_failures = $2, settings = $3, \
                      priority = $4, created_at = $5, expires_at = $6, answer = $7 \
                      WHERE id = $8 AND status = 'accepting' AND ending IS NULL RETURNING id";
const STORED: &str = "SELECT id, sha256, content FROM images WHERE id = $1 AND project_id = $2 AND mode = $3 \
                      AND removed_at IS NULL";
const ABANDONED: &str = "SELECT id FROM batches WHERE status = 'accepting' AND (id = $1 OR created_at < $2 \
                         OR ($3 <> '' AND owner <> $4 AND substr(owner, 1, length($3)) = $3)) \
                         ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED";
/// From the first piece on nobody can add to it, or accept it.
const REMOVING: &str = "UPDATE batches SET ending = 'removing' WHERE id = $1 AND ending IS NULL";
const FIRST_ITEMS: &str =
    "SELECT position, image_id FROM batch_items WHERE batch_id = $1 ORDER BY position LIMIT $2";
const REMOVE_ITEMS: &str = "DELETE FROM batch_items WHERE batch_id = $1 AND position <= $2";
const REMOVE: &str = "DELETE FROM batches WHERE id = $1";

impl Store {
    /// Begins to write a batch down.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn begin_batch(&self, batch: NewBatch, now: Timestamp) -> Result<(), StoreError> {
        self.database
            .write(move |transaction| {
                let row = [
                    batch.id.to_string().into(),
                    batch.project.to_string().into(),
                    batch.mode.name().into(),
                    batch.key.to_string().into(),
                    batch.request_id.as_str().into(),
                    batch.owner.as_str().into(),
                    batch.priority.into(),
                    batch.settings.as_str().into(),
                    times::micros(now).into(),
                    times::micros(batch.expires_at).into(),
                ];
                transaction.execute(INSERT, &row).map(drop)
            })
            .await
    }

    /// Writes items of a batch down that is not accepted yet. The names that their images have, in their order, none of those
    /// that are refused; `None` where the batch was removed meanwhile.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn stage_items(
        &self,
        (batch, project, mode): (BatchId, ProjectId, Mode),
        items: Vec<StagedItem>,
        now: Timestamp,
    ) -> Result<Option<Vec<Option<ImageId>>>, StoreError> {
        self.database
            .write(move |transaction| {
                if transaction.query_one(STAGED, &[batch.to_string().into()])?.is_none() {
                    return Ok(None);
                }
                let images = images(transaction, (project, mode), (&items, now))?;
                let rows = items.iter().zip(&images).map(|(item, image)| row(batch, (item, *image), now));
                transaction.query_all(&rows.collect::<Vec<_>>())?;
                Ok(Some(images))
            })
            .await
    }

    /// Accepts a batch whose items are written down, unless its key was used before. `answer`: what a retry gets;
    /// `max_failures`: more failed items than these end it.
    ///
    /// # Errors
    /// Where the database fails; then nothing was accepted, or a repeat with the key tells.
    pub async fn accept_batch(
        &self,
        (batch, idempotency): (NewBatch, Option<Idempotency>),
        (total, max_failures, answer): (u32, u32, Vec<u8>),
        now: Timestamp,
    ) -> Result<BatchAcceptance, StoreError> {
        self.database
            .write(move |transaction| {
                if let Some(key) = &idempotency {
                    let id = batch.id.to_string();
                    let holder = Holder { project: batch.project, mode: batch.mode, subject: &id };
                    if let Some(known) = reserve(transaction, (holder, key), now)? {
                        return Ok(BatchAcceptance::Known(known));
                    }
                }
                let row = [
                    i64::from(total).into(),
                    i64::from(max_failures).into(),
                    batch.settings.as_str().into(),
                    batch.priority.into(),
                    times::micros(now).into(),
                    times::micros(batch.expires_at).into(),
                    answer.as_slice().into(),
                    batch.id.to_string().into(),
                ];
                if transaction.query_one(ACCEPT, &row)?.is_some() {
                    return Ok(BatchAcceptance::Accepted);
                }
                if let Some(key) = &idempotency {
                    let id = batch.id.to_string();
                    let holder = Holder { project: batch.project, mode: batch.mode, subject: &id };
                    transaction.query_all(&[record::release(holder, key)])?;
                }
                Ok(BatchAcceptance::Gone)
            })
            .await
    }

    /// Removes a piece of a batch that was written down and never accepted, or is to be removed: of this one, of one begun before
    /// then, or of one whose owner's name begins with `gone` and is not `owner`. `count`: whether it was the last piece; `more`:
    /// whether there was any.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn remove_staged(
        &self,
        (id, before): (Option<BatchId>, Option<Timestamp>),
        (gone, owner): (String, String),
    ) -> Result<Removed, StoreError> {
        self.database
            .write(move |transaction| {
                let which: [Value; 4] = [
                    id.map_or_else(String::new, |id| id.to_string()).into(),
                    before.map_or(i64::MIN, times::micros).into(),
                    gone.as_str().into(),
                    owner.as_str().into(),
                ];
                let Some(row) = transaction.query_one(ABANDONED, &which)? else {
                    return Ok(Removed::default());
                };
                let (last, blobs) = remove_piece(transaction, &row.text(0)?)?;
                Ok(Removed { count: u64::from(last), blobs, more: true, ..Removed::default() })
            })
            .await
    }

    /// An image of this project and mode, while its bytes are kept.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn image(
        &self,
        (project, mode): (ProjectId, Mode),
        id: ImageId,
    ) -> Result<Option<StoredImage>, StoreError> {
        let key = [id.to_string().into(), project.to_string().into(), mode.name().into()];
        let row = self.database.read(move |transaction| transaction.query_one(STORED, &key)).await?;
        let read = |row: crate::database::Row| {
            Ok(StoredImage { id: row.parsed(0)?, sha256: row.blob(1)?, content: row.optional_blob(2)? })
        };
        row.map(read).transpose()
    }
}

/// Removes the first items of a batch, with the images that nothing else names, and with the last ones the batch. Whether it did;
/// their files.
fn remove_piece(transaction: &mut dyn Transaction, id: &str) -> Result<(bool, Vec<String>), StoreError> {
    transaction.execute(REMOVING, &[id.into()])?;
    let items = transaction.query(FIRST_ITEMS, &[id.into(), PIECE.into()])?;
    if let Some(last) = items.last() {
        transaction.execute(REMOVE_ITEMS, &[id.into(), last.integer(0)?.into()])?;
    }
    let last = (items.len() as i64) < PIECE;
    if last {
        transaction.execute(REMOVE, &[id.into()])?;
    }
    let images = items.iter().filter_map(|row| row.optional_text(1).transpose());
    Ok((last, remove_images(transaction, images.collect::<Result<_, _>>()?)?))
}

/// Takes the key, or tells what it stands for.
fn reserve(
    transaction: &mut dyn Transaction,
    (holder, key): (Holder<'_>, &Idempotency),
    now: Timestamp,
) -> Result<Option<Known>, StoreError> {
    let taken = |transaction: &mut dyn Transaction| {
        let answers = transaction.query_all(&[record::reserve(holder, key, now)])?;
        Ok::<_, StoreError>(answers.first().is_some_and(|rows| !rows.is_empty()))
    };
    if taken(transaction)? {
        return Ok(None);
    }
    let (sql, parameters) = record::sought(holder, key);
    // No row: the winner's transaction ended between the two statements, and its record went with it.
    let row = transaction.query_one(sql, &parameters)?.ok_or(StoreError::Conflict)?;
    if let Some(known) = record::known(&row, now)? {
        return Ok(Some(known));
    }
    transaction.query_all(&[record::forget(holder, key, now)])?;
    if taken(transaction)? { Ok(None) } else { Err(StoreError::Conflict) }
}

/// Writes the images that are new; the names of all that are there.
fn images(
    transaction: &mut dyn Transaction,
    (project, mode): (ProjectId, Mode),
    (items, now): (&[StagedItem], Timestamp),
) -> Result<Vec<Option<ImageId>>, StoreError> {
    let whose = || [project.to_string().into(), mode.name().into()];
    let images = || items.iter().filter_map(|item| item.image.as_ref().ok().map(|(image, _)| image));
    let new = images().filter_map(|image| match image {
        StagedImage::New(image) => Some(image),
        StagedImage::Stored(..) => None,
    });
    // In one order: two batches with the same images don't wait for each other's.
    let mut new: Vec<_> = new.collect();
    new.sort_by_key(|image| image.sha256);
    let insert = |image: &NewImage| -> Statement {
        let [project, mode] = whose();
        let row = vec![
            image.id.to_string().into(),
            project,
            mode,
            image.sha256.as_slice().into(),
            (image.bytes as i64).into(),
            image.content.clone().into(),
            times::micros(now).into(),
        ];
        (IMAGE, row)
    };
    transaction.query_all(&new.into_iter().map(insert).collect::<Vec<_>>())?;
    let find = |image: &StagedImage| -> Statement {
        let [project, mode] = whose();
        (FIND_IMAGE, vec![project, mode, image.sha256().as_slice().into()])
    };
    let mut found = transaction.query_all(&images().map(find).collect::<Vec<_>>())?.into_iter();
    let named = items.iter().map(|item| {
        let Ok((image, _)) = &item.image else { return Ok(None) };
        match (found.next().and_then(|rows| rows.into_iter().next()), image) {
            (Some(row), _) => row.parsed(0).map(Some),
            (None, StagedImage::Stored(..)) => Ok(None),
            // It was removed between the two statements: everything is done again.
            (None, StagedImage::New(_)) => Err(StoreError::Conflict),
        }
    });
    named.collect()
}

fn row(batch: BatchId, (item, image): (&StagedItem, Option<ImageId>), now: Timestamp) -> Statement {
    let refused = match (&item.image, image) {
        (Err(problem), _) | (Ok((StagedImage::Stored(_, problem), _)), None) => Some(problem),
        (Ok(_), _) => None,
    };
    let row = vec![
        batch.to_string().into(),
        i64::from(item.position).into(),
        item.custom_id.as_str().into(),
        image.map(|image| image.to_string()).into(),
        item.request.as_str().into(),
        item.image.as_ref().map_or("", |(_, checked)| checked).into(),
        if refused.is_some() { "failed" } else { "pending" }.into(),
        refused.map(String::as_str).into(),
        refused.map(|_| times::micros(now)).into(),
        item.key.as_ref().map(|key| key.text.as_str()).into(),
        item.key.as_ref().map(|key| key.fingerprint.clone()).into(),
    ];
    (ITEM, row)
}
