//! Removing what is old: ended jobs with their steps and documents, the bytes of images, and images that no job names.
//! What jobs cost stays in the ledger.
//!
//! Rows go first, in one transaction a batch, and then the files that only they named; a crash in between leaves files that
//! the sweep of blobs finds. No file's name is ever used again, so that none is removed under somebody who has just written
//! it.

use std::collections::HashSet;

use eyebolt_types::{
    Mode,
    id::{ImageId, ProjectId},
};
use jiff::{SignedDuration, Timestamp};

use crate::{
    Store, StoreError, content,
    database::{Row, Statement, Transaction, Value},
    image::{former_image_blob, image_blob},
    times,
};

/// What a key or a retry needs is kept for so much longer: somebody may have looked at it just before, and reads the rest
/// now. Longer than any request lasts, and than the clocks of servers differ.
const GRACE: SignedDuration = SignedDuration::from_hours(1);

/// How far a sweep has come: what is older was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepPlace(i64, String);

/// What one batch of a sweep did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removed {
    /// How many rows it removed, or emptied.
    pub count: u64,
    /// Files that nothing names any more.
    pub blobs: Vec<String>,
    /// The last row that it looked at: the next batch begins after it.
    pub reached: Option<SweepPlace>,
    /// Whether there may be more.
    pub more: bool,
}

/// What [`blobs_of`] reads: the last one tells whether the bytes are a file.
macro_rules! image {
    () => {
        "id, created_at, project_id, mode, sha256, \
         CAST(CASE WHEN content IS NULL AND removed_at IS NULL THEN 1 ELSE 0 END AS BIGINT)"
    };
}

const ENDED: &str = "SELECT id, finished_at, image_id, document_digest, retryable_until FROM jobs \
                     WHERE finished_at IS NOT NULL AND finished_at < $1 AND (finished_at, id) > ($2, $3) \
                     ORDER BY finished_at, id LIMIT $4 FOR UPDATE SKIP LOCKED";
const PROMISED: &str =
    "SELECT job_id FROM idempotency_records WHERE job_id = $1 AND (expires_at IS NULL OR expires_at > $2)";
const REMOVE_STEPS: &str = "DELETE FROM steps WHERE job_id = $1";
const REMOVE_JOB: &str = "DELETE FROM jobs WHERE id = $1";
const LOCK_IMAGE: &str = concat!("SELECT ", image!(), " FROM images WHERE id = $1 FOR UPDATE");
const REMOVE_IMAGE: &str = "DELETE FROM images WHERE id = $1 \
                            AND NOT EXISTS (SELECT 1 FROM jobs WHERE image_id = images.id) \
                            AND NOT EXISTS (SELECT 1 FROM batch_items WHERE image_id = images.id \
                            AND status = 'pending') RETURNING id";
const NOTE: &str = "INSERT INTO removals (what, ended_before) VALUES ('jobs', $1) ON CONFLICT (what) DO UPDATE SET \
                    ended_before = CASE WHEN removals.ended_before < excluded.ended_before \
                    THEN excluded.ended_before ELSE removals.ended_before END";
const OLD_IMAGES: &str = concat!(
    "SELECT ",
    image!(),
    " FROM images WHERE removed_at IS NULL AND created_at < $1 AND (created_at, id) > ($2, $3) \
     ORDER BY created_at, id LIMIT $4 FOR UPDATE SKIP LOCKED"
);
/// The newest job that needs the bytes is asked for first: of an image that is sent again and again, one look finds it.
const EMPTY_IMAGE: &str = "UPDATE images SET removed_at = $2, content = NULL WHERE id = $1 AND (SELECT j.id FROM jobs j \
                           WHERE j.image_id = images.id AND (j.finished_at IS NULL OR j.finished_at >= $3 \
                           OR j.retryable_until > $4) ORDER BY j.id DESC LIMIT 1) IS NULL \
                           AND NOT EXISTS (SELECT 1 FROM batch_items WHERE image_id = images.id AND status = 'pending') \
                           RETURNING id";

impl Store {
    /// Removes jobs that ended before then, at most so many, the oldest first: with their steps, what they are known by, and
    /// images that no other job names. One whose key still stands for it, or that can be run again, is passed over.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn remove_jobs(
        &self,
        ended_before: Timestamp,
        (after, limit): (Option<SweepPlace>, u32),
        now: Timestamp,
    ) -> Result<Removed, StoreError> {
        self.database
            .write(move |transaction| {
                let rows = transaction.query(ENDED, &batch(ended_before, after.as_ref(), limit))?;
                let gone = removable(transaction, &rows, now)?;
                let mut removed = looked_at(&rows, limit)?;
                if gone.is_empty() {
                    return Ok(removed);
                }
                remove_rows(transaction, &gone)?;
                transaction.execute(NOTE, &[times::micros(ended_before).into()])?;
                removed.count = gone.len() as u64;
                for row in &gone {
                    removed.blobs.extend(row.optional_text(3)?);
                }
                removed.blobs.extend(remove_images_of(transaction, &gone)?);
                Ok(removed)
            })
            .await
    }

    /// Takes the bytes from images, at most so many, the oldest first, where every job of theirs ended before then and none
    /// can be run again.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn empty_images(
        &self,
        ended_before: Timestamp,
        (after, limit): (Option<SweepPlace>, u32),
        now: Timestamp,
    ) -> Result<Removed, StoreError> {
        self.database
            .write(move |transaction| {
                let rows = transaction.query(OLD_IMAGES, &batch(ended_before, after.as_ref(), limit))?;
                let mut removed = looked_at(&rows, limit)?;
                let ids = rows.iter().map(|row| row.text(0)).collect::<Result<Vec<_>, _>>()?;
                let (before, long_ago) = (times::micros(ended_before), times::micros(now - GRACE));
                let empty = |id: &String| -> Statement {
                    (
                        EMPTY_IMAGE,
                        vec![id.as_str().into(), times::micros(now).into(), before.into(), long_ago.into()],
                    )
                };
                // Statements of their own, after the lock: they see every job that was accepted before it, and none can be
                // accepted for the image from now on.
                let unnamed = ids.iter().map(|id| (REMOVE_IMAGE, vec![id.as_str().into()]));
                let statements: Vec<_> = unnamed.chain(ids.iter().map(empty)).collect();
                let done = transaction.query_all(&statements)?.concat();
                removed.count = done.len() as u64;
                removed.blobs = blobs_of(&rows, &done)?;
                Ok(removed)
            })
            .await
    }
}

pub(crate) fn batch(before: Timestamp, after: Option<&SweepPlace>, limit: u32) -> [Value; 4] {
    let (time, id) = after.map_or((i64::MIN, ""), |SweepPlace(time, id)| (*time, id));
    [times::micros(before).into(), time.into(), id.into(), i64::from(limit).into()]
}

/// Of rows that begin with an id and a time.
pub(crate) fn looked_at(rows: &[Row], limit: u32) -> Result<Removed, StoreError> {
    let place = |row: &Row| Ok::<_, StoreError>(SweepPlace(row.integer(1)?, row.text(0)?));
    let reached = rows.last().map(place).transpose()?;
    Ok(Removed { reached, more: rows.len() >= limit as usize, ..Removed::default() })
}

/// Gives a row where a key still stands for this job or batch.
pub(crate) fn promised(subject: &str, now: Timestamp) -> Statement {
    (PROMISED, vec![subject.into(), times::micros(now - GRACE).into()])
}

/// Rows of [`ENDED`] that nobody was promised any more.
fn removable(
    transaction: &mut dyn Transaction,
    rows: &[Row],
    now: Timestamp,
) -> Result<Vec<Row>, StoreError> {
    let long_ago = times::micros(now - GRACE);
    let promised = rows.iter().map(|row| Ok(self::promised(&row.text(0)?, now)));
    let promised = transaction.query_all(&promised.collect::<Result<Vec<_>, StoreError>>()?)?;
    let mut removable = Vec::new();
    for (row, promised) in rows.iter().zip(&promised) {
        let again = row.optional_integer(4)?.is_some_and(|until| until > long_ago);
        if promised.is_empty() && !again {
            removable.push(row.clone());
        }
    }
    Ok(removable)
}

fn remove_rows(transaction: &mut dyn Transaction, gone: &[Row]) -> Result<(), StoreError> {
    let mut statements = Vec::new();
    for row in gone {
        let id = row.text(0)?;
        statements.push((REMOVE_STEPS, vec![id.as_str().into()]));
        statements.extend(content::forgotten(row.parsed(0)?));
        statements.push((REMOVE_JOB, vec![id.into()]));
    }
    transaction.query_all(&statements).map(drop)
}

/// Removes the images of these jobs that no other job names; their files.
fn remove_images_of(transaction: &mut dyn Transaction, gone: &[Row]) -> Result<Vec<String>, StoreError> {
    remove_images(transaction, gone.iter().map(|row| row.text(2)).collect::<Result<Vec<_>, _>>()?)
}

/// Removes those of these images that nothing names any more; their files.
pub(crate) fn remove_images(
    transaction: &mut dyn Transaction,
    mut images: Vec<String>,
) -> Result<Vec<String>, StoreError> {
    // In one order everywhere, so that two sweeps wait for each other and not both for both.
    images.sort_unstable();
    images.dedup();
    let each = |sql| images.iter().map(|id| (sql, vec![id.as_str().into()])).collect::<Vec<Statement>>();
    // Somebody may be accepting a job for one of them: that is seen once the lock is there.
    let locked = transaction.query_all(&each(LOCK_IMAGE))?.concat();
    let removed = transaction.query_all(&each(REMOVE_IMAGE))?.concat();
    blobs_of(&locked, &removed)
}

/// The files of those images whose ids are among `removed`.
fn blobs_of(images: &[Row], removed: &[Row]) -> Result<Vec<String>, StoreError> {
    let removed = removed.iter().map(|row| row.text(0)).collect::<Result<HashSet<_>, _>>()?;
    let mut blobs = Vec::new();
    for row in images {
        if row.integer(5)? == 1 && removed.contains(&row.text(0)?) {
            let whose: (ProjectId, Mode) = (row.parsed(2)?, row.parsed(3)?);
            let (image, sha256) = (row.parsed::<ImageId>(0)?, row.blob(4)?);
            blobs.extend([image_blob(whose, image, &sha256), former_image_blob(whose, &sha256)]);
        }
    }
    Ok(blobs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::plans;

    #[test]
    fn no_batch_reads_or_sorts_a_whole_table() {
        let statements =
            [ENDED, PROMISED, REMOVE_STEPS, REMOVE_JOB, LOCK_IMAGE, REMOVE_IMAGE, OLD_IMAGES, EMPTY_IMAGE];
        let plans = plans(&statements);
        let bad = |line: &&String| line.starts_with("SCAN") || line.contains("TEMP B-TREE");
        assert_eq!(plans.iter().find(bad), None, "{plans:#?}");
        for index in ["jobs_ended", "images_by_age", "jobs_by_image"] {
            assert!(plans.iter().any(|line| line.contains(index)), "{index}: {plans:#?}");
        }
    }
}
