//! Idempotency records: what a key stands for.

use eyebolt_types::{
    BatchStatus, DuplicateKind, JobStatus, Mode,
    id::{BatchId, JobId, ProjectId},
};
use jiff::{SignedDuration, Timestamp};

use crate::{
    ContentKey, Document, Idempotency, Seen, Store, StoreError, content,
    database::{Row, Statement, Value},
    job, times,
};

/// How long an expired key is remembered, so that a late retry is told apart from a new request.
pub const TOMBSTONE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What a used key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// A job that runs, or whose answer is kept.
    Record(Record),
    /// A batch.
    Batch(BatchRecord),
    /// It was used, and its answer is no longer kept since then.
    Expired(Timestamp),
}

/// A key's job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its job.
    pub job: JobId,
    /// Digest of what was asked then.
    pub fingerprint: Vec<u8>,
    /// Digest of the body that it was asked by, where the client declared one.
    pub body: Option<Vec<u8>>,
    /// When it was first seen.
    pub created_at: Timestamp,
    /// Until when it is kept; none while its job runs.
    pub expires_at: Option<Timestamp>,
    /// Where the job stands.
    pub status: JobStatus,
    /// Until when the job can be run again, where it failed for a reason that may pass.
    pub retryable_until: Option<Timestamp>,
    /// The answer to be given again, once there is one.
    pub answer: Option<StoredAnswer>,
}

/// A key's batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRecord {
    /// Its batch.
    pub batch: BatchId,
    /// Digest of what was asked then.
    pub fingerprint: Vec<u8>,
    /// Digest of the body that it was asked by, where the client declared one.
    pub body: Option<Vec<u8>>,
    /// When it was first seen.
    pub created_at: Timestamp,
    /// Until when it is kept; none while its batch is worked on.
    pub expires_at: Option<Timestamp>,
    /// Where the batch stands.
    pub status: BatchStatus,
    /// The request that was answered first.
    pub request_id: String,
    /// The answer to be given again.
    pub answer: Vec<u8>,
}

/// Whose a key is, and what it stands for: a job or a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holder<'a> {
    pub(crate) project: ProjectId,
    pub(crate) mode: Mode,
    pub(crate) subject: &'a str,
}

/// An answer, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// HTTP status.
    pub status: u16,
    /// The request that was answered first.
    pub request_id: String,
    /// The body.
    pub body: Document,
}

const RESERVE: &str = "INSERT INTO idempotency_records (project_id, mode, key_hash, fingerprint, job_id, created_at, \
                       body_digest) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (project_id, mode, key_hash) DO NOTHING \
                       RETURNING job_id";
const RECORD: &str = "SELECT r.job_id, r.fingerprint, r.created_at, r.expires_at, j.status, j.retryable_until, \
                      j.request_id, j.answer_status, j.answer_body, j.document, j.document_digest, \
                      r.body_digest, b.status, b.request_id, b.answer FROM idempotency_records r \
                      LEFT JOIN jobs j ON j.id = r.job_id LEFT JOIN batches b ON b.id = r.job_id \
                      WHERE r.project_id = $1 AND r.mode = $2 AND r.key_hash = $3";
const ANSWER: &str = "SELECT request_id, answer_status, answer_body, document, document_digest FROM jobs \
                      WHERE id = $1";
const RELEASE: &str = "DELETE FROM idempotency_records WHERE project_id = $1 AND mode = $2 AND key_hash = $3 \
                       AND job_id = $4";
const FORGET: &str = "DELETE FROM idempotency_records WHERE project_id = $1 AND mode = $2 AND key_hash = $3 \
                      AND expires_at <= $4";
const SWEEP: &str = "DELETE FROM idempotency_records WHERE job_id IN (SELECT job_id FROM idempotency_records \
                     WHERE expires_at <= $1 AND length(fingerprint) = 0 ORDER BY expires_at LIMIT $2)";
const WIPE: &str = "UPDATE idempotency_records SET fingerprint = $3, body_digest = NULL WHERE job_id IN (SELECT job_id \
                    FROM idempotency_records WHERE expires_at <= $1 AND length(fingerprint) > 0 \
                    ORDER BY expires_at LIMIT $2)";

impl Store {
    /// What a key stands for; `None` where it is free: never used, or forgotten.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn idempotency_record(
        &self,
        (project, mode): (ProjectId, Mode),
        key_hash: Vec<u8>,
        now: Timestamp,
    ) -> Result<Option<Known>, StoreError> {
        Ok(self.first_look((project, mode), key_hash, (None, now)).await?.0)
    }

    /// The same, and the oldest job that carried the image's bytes ([`Search::Flag`](crate::Search::Flag)): what a request
    /// that has just come asks first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn first_look(
        &self,
        (project, mode): (ProjectId, Mode),
        key_hash: Vec<u8>,
        (bytes, now): (Option<(ContentKey, [u8; 32], Timestamp)>, Timestamp),
    ) -> Result<(Option<Known>, Option<Seen>), StoreError> {
        let key = vec![project.to_string().into(), mode.name().into(), key_hash.into()];
        let mut asked = vec![(RECORD, key)];
        asked.extend(bytes.map(|(key, sha256, since)| content::with_bytes(&key, &sha256, since)));
        let answers = self.database.look(asked).await?;
        let row = |place: usize| answers.get(place).and_then(|rows| rows.first());
        let known = row(0).map(|row| known(row, now)).transpose()?.flatten();
        let seen = row(1).map(|row| content::same(row, DuplicateKind::Bytes)).transpose()?;
        Ok((known, seen))
    }

    /// The answer that is kept of an ended job.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn answer(&self, job: JobId) -> Result<Option<StoredAnswer>, StoreError> {
        let row =
            self.database.read(move |transaction| transaction.query_one(ANSWER, &[job.to_string().into()]));
        row.await?.map_or(Ok(None), |row| answer(&row, 0))
    }

    /// Takes from expired records all but the key's hash, and forgets those that expired a tombstone's time ago: at
    /// most `limit` of each. Returns how many rows were changed.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn sweep_records(&self, limit: u32, now: Timestamp) -> Result<u64, StoreError> {
        self.database
            .write(move |transaction| {
                let limit = || i64::from(limit).into();
                let long_ago = times::micros(now - TOMBSTONE).into();
                let nothing = [].as_slice().into();
                let wiped = transaction.execute(WIPE, &[times::micros(now).into(), limit(), nothing])?;
                Ok(wiped + transaction.execute(SWEEP, &[long_ago, limit()])?)
            })
            .await
    }
}

/// Takes the key: gives a row where it was free.
pub(crate) fn reserve(holder: Holder<'_>, key: &Idempotency, now: Timestamp) -> Statement {
    let mut row = name(holder, key);
    row.extend([key.fingerprint.as_slice().into(), holder.subject.into(), times::micros(now).into()]);
    row.push(key.body.clone().into());
    (RESERVE, row)
}

/// Gives the key back that was taken.
pub(crate) fn release(holder: Holder<'_>, key: &Idempotency) -> Statement {
    let mut row = name(holder, key);
    row.push(holder.subject.into());
    (RELEASE, row)
}

/// What the key stands for: a row for [`known`].
pub(crate) fn sought(holder: Holder<'_>, key: &Idempotency) -> Statement {
    (RECORD, name(holder, key))
}

/// Frees a key that expired a tombstone's time ago.
pub(crate) fn forget(holder: Holder<'_>, key: &Idempotency, now: Timestamp) -> Statement {
    let mut row = name(holder, key);
    row.push(times::micros(now - TOMBSTONE).into());
    (FORGET, row)
}

fn name(holder: Holder<'_>, key: &Idempotency) -> Vec<Value> {
    vec![holder.project.to_string().into(), holder.mode.name().into(), key.key_hash.as_slice().into()]
}

/// `None`: so long expired that it is as good as forgotten. A record without a fingerprint was swept by somebody whose
/// clock is ahead: it is over, since nobody could tell any more whether the same was asked. So is one whose job is gone.
pub(crate) fn known(row: &Row, now: Timestamp) -> Result<Option<Known>, StoreError> {
    let fingerprint = row.blob(1)?;
    let expires_at = times::optional(row.optional_integer(3)?)?;
    let batch = row.optional_text(12)?.is_some();
    let over = fingerprint.is_empty() || (row.optional_text(4)?.is_none() && !batch);
    match expires_at {
        Some(expired) if expired + TOMBSTONE <= now => Ok(None),
        Some(expired) if expired <= now || over => Ok(Some(Known::Expired(expired))),
        _ if batch => Ok(Some(Known::Batch(BatchRecord {
            batch: row.parsed(0)?,
            fingerprint,
            body: row.optional_blob(11)?,
            created_at: times::timestamp(row.integer(2)?)?,
            expires_at,
            status: row.parsed(12)?,
            request_id: row.text(13)?,
            answer: row.blob(14)?,
        }))),
        _ => Ok(Some(Known::Record(Record {
            job: row.parsed(0)?,
            fingerprint,
            body: row.optional_blob(11)?,
            created_at: times::timestamp(row.integer(2)?)?,
            expires_at,
            status: row.parsed(4)?,
            retryable_until: times::optional(row.optional_integer(5)?)?,
            answer: answer(row, 6)?,
        }))),
    }
}

/// The answer in this column and the next ones: request, status, own body, document, its blob.
fn answer(row: &Row, column: usize) -> Result<Option<StoredAnswer>, StoreError> {
    let Some(status) = row.optional_integer(column + 1)? else { return Ok(None) };
    let status = u16::try_from(status)
        .map_err(|_| StoreError::Corrupt { what: format!("an answer of status {status}") })?;
    let body = match row.optional_blob(column + 2)? {
        Some(own) => Some(Document::Inline(own)),
        None => job::document(row, column + 3)?,
    };
    let body = body.ok_or_else(|| StoreError::Corrupt { what: "an answer without a body".to_owned() })?;
    Ok(Some(StoredAnswer { status, request_id: row.text(column)?, body }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::plans;

    #[test]
    fn tombstones_are_not_passed_over_again_and_again() {
        let plans = plans(&[WIPE, SWEEP]);
        assert!(
            !plans.iter().any(|line| line.starts_with("SCAN") || line.contains("TEMP B-TREE")),
            "{plans:#?}"
        );
        for index in ["idempotency_records_expiring", "idempotency_records_tombstones"] {
            assert!(plans.iter().any(|line| line.contains(index)), "{index}: {plans:#?}");
        }
    }
}
