//! What content each job carried, so that the same image is known when it comes again: by its bytes, by its pixels, or
//! as a near picture. The store knows no pixels: bands and distance of perceptual digests come from the caller.

mod keys;
mod near;

use eyebolt_types::{
    DuplicateKind, Mode,
    id::{JobId, ProjectId},
};
use jiff::Timestamp;

use self::keys::place;
pub(crate) use self::near::Entering;
use crate::{
    Store, StoreError,
    database::{Row, Statement, Transaction, Value},
    times,
};

/// Whose content it is, and what was asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentKey {
    /// Whose it is.
    pub project: ProjectId,
    /// Real or sandbox.
    pub mode: Mode,
    /// Digest of what was asked: features, parameters, model snapshots.
    pub operation: [u8; 32],
    /// The job.
    pub job: JobId,
}

/// A perceptual digest to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearEntry {
    /// The digest.
    pub digest: Vec<u8>,
    /// What it is found by.
    pub bands: Vec<u32>,
}

/// What is known of an image that is looked for.
#[derive(Debug, Clone, Default)]
pub struct Sought {
    /// SHA-256 of its bytes.
    pub bytes: Option<[u8; 32]>,
    /// Digest of its pixels.
    pub pixels: Option<[u8; 32]>,
    /// Its perceptual digest.
    pub near: Option<NearSought>,
}

/// How near pictures are looked for.
#[derive(Debug, Clone)]
pub struct NearSought {
    /// The digest.
    pub digest: Vec<u8>,
    /// Bands to look into, the likeliest first; those after the 48th are left out.
    pub probes: Vec<u32>,
    /// The distance of two digests; none where the two are not near.
    pub distance: fn(&[u8], &[u8]) -> Option<u32>,
}

/// Which jobs count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// Every job that is not dead, whatever was asked.
    Flag,
    /// Jobs that succeeded and were asked the same. Near pictures are never reused.
    Reuse,
}

/// A job that carried the content before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The oldest one.
    pub job: JobId,
    /// In what the two are alike.
    pub kind: DuplicateKind,
    /// How far near pictures are apart; 0 for the other kinds.
    pub distance: u32,
}

const REMEMBER: &str = "INSERT INTO contents (place, job_id, project_id, mode, operation, bytes, created_at) \
                        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (place, job_id) DO NOTHING";
const PIXELS: &str = "UPDATE contents SET pixels = $1, perceptual = $2 WHERE place = $3 AND job_id = $4 \
                      RETURNING project_id, mode";
const FORGET_BANDS: &str = "DELETE FROM content_bands WHERE place = $1";
const FORGET: &str = "DELETE FROM contents WHERE place = $1 AND job_id = $2";
const SWEEP_BANDS: &str = "DELETE FROM content_bands WHERE place IN \
     (SELECT place FROM contents WHERE created_at < $1 ORDER BY created_at, place LIMIT $2)";
const SWEEP: &str = "DELETE FROM contents WHERE created_at < $1 AND place IN \
     (SELECT place FROM contents WHERE created_at < $1 ORDER BY created_at, place LIMIT $2)";

/// The oldest job before this one whose content has that digest. An unknown job is a dead one.
macro_rules! oldest {
    ($column:literal, $counts:literal) => {
        concat!(
            "SELECT c.job_id FROM contents c JOIN jobs j ON j.id = c.job_id WHERE c.",
            $column,
            " = $1 AND c.project_id = $2 AND c.mode = $3 AND c.created_at >= $4 AND c.job_id < $5 AND ",
            $counts,
            " ORDER BY c.job_id LIMIT 1"
        )
    };
}

macro_rules! alive {
    ($column:literal) => {
        oldest!($column, "j.status NOT IN ('failed', 'canceled', 'expired')")
    };
}

macro_rules! reusable {
    ($column:literal) => {
        oldest!($column, "j.status = 'succeeded' AND c.operation = $6")
    };
}

/// Keeps the digest of a job's bytes; to be run when the job is accepted. Again: nothing.
pub(crate) fn remember_bytes(key: &ContentKey, sha256: &[u8; 32], now: Timestamp) -> Statement {
    let row = [
        place(key.job).into(),
        key.job.to_string().into(),
        key.project.to_string().into(),
        key.mode.name().into(),
        key.operation.as_slice().into(),
        sha256.as_slice().into(),
        times::micros(now).into(),
    ];
    (REMEMBER, row.into())
}

/// Keeps what was seen in a job's pixels; to be run when the job has succeeded. A row for [`Entering`], or none where its
/// bytes were forgotten.
pub(crate) fn remember_pixels(job: JobId, pixels: &[u8; 32], near: Option<&NearEntry>) -> Statement {
    let digest: Value = near.map(|near| near.digest.as_slice()).into();
    (PIXELS, vec![pixels.as_slice().into(), digest, place(job).into(), job.to_string().into()])
}

/// The oldest job before `key.job`, accepted at `since` or later, that carried the content: same bytes before same
/// pixels before near pictures.
pub(crate) fn find(
    transaction: &mut dyn Transaction,
    (key, search): (&ContentKey, Search),
    sought: &Sought,
    since: Timestamp,
) -> Result<Option<Seen>, StoreError> {
    let kinds = [
        (DuplicateKind::Bytes, &sought.bytes, alive!("bytes"), reusable!("bytes")),
        (DuplicateKind::Pixels, &sought.pixels, alive!("pixels"), reusable!("pixels")),
    ];
    for (kind, digest, alive, reusable) in kinds {
        let Some(digest) = digest else { continue };
        let mut parameters = vec![digest.as_slice().into()];
        parameters.extend(scope(key, since));
        let sql = match search {
            Search::Flag => alive,
            Search::Reuse => {
                parameters.push(key.operation.as_slice().into());
                reusable
            }
        };
        if let Some(row) = transaction.query_one(sql, &parameters)? {
            return same(&row, kind).map(Some);
        }
    }
    match &sought.near {
        Some(near) if search == Search::Flag => near::find(transaction, key, near, since),
        _ => Ok(None),
    }
}

/// The oldest job that is not dead and carried these bytes: a row for [`same`], where there is one.
pub(crate) fn with_bytes(key: &ContentKey, sha256: &[u8; 32], since: Timestamp) -> Statement {
    let mut parameters = vec![sha256.as_slice().into()];
    parameters.extend(scope(key, since));
    (alive!("bytes"), parameters)
}

/// A job whose content is the same.
pub(crate) fn same(row: &Row, kind: DuplicateKind) -> Result<Seen, StoreError> {
    Ok(Seen { job: row.parsed(0)?, kind, distance: 0 })
}

/// Whose entries, since when, and before which job.
fn scope(key: &ContentKey, since: Timestamp) -> [Value; 4] {
    [
        key.project.to_string().into(),
        key.mode.name().into(),
        times::micros(since).into(),
        key.job.to_string().into(),
    ]
}

/// Forgets what a job carried.
pub(crate) fn forgotten(job: JobId) -> [Statement; 2] {
    let bands = (FORGET_BANDS, vec![place(job).into()]);
    [bands, (FORGET, vec![place(job).into(), job.to_string().into()])]
}

impl Store {
    /// Keeps what a job carried: its bytes, and where they are known its pixels. The room that accepts and closes jobs
    /// does the same inside its own transactions.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn remember_content(
        &self,
        (key, sha256): (ContentKey, [u8; 32]),
        seen: Option<([u8; 32], Option<NearEntry>)>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.database
            .write(move |transaction| {
                let mut rows = vec![remember_bytes(&key, &sha256, now)];
                let pixels = seen.as_ref();
                rows.extend(pixels.map(|(pixels, near)| remember_pixels(key.job, pixels, near.as_ref())));
                transaction.query_all(&rows)?;
                let Some((_, Some(near))) = &seen else { return Ok(()) };
                let owner = (&*key.project.to_string(), key.mode.name());
                let mut entering = Entering::new(key.job, owner, &near.bands);
                let mut answers = Vec::new();
                while let Some(round) = entering.next(&answers) {
                    answers = transaction.query_all(&round)?;
                }
                Ok(())
            })
            .await
    }

    /// The oldest job before `key.job`, accepted at `since` or later and not dead, that carried the content: same bytes
    /// before same pixels before near pictures.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn find_content(
        &self,
        (key, search): (ContentKey, Search),
        sought: Sought,
        since: Timestamp,
    ) -> Result<Option<Seen>, StoreError> {
        self.database.read(move |transaction| find(transaction, (&key, search), &sought, since)).await
    }

    /// Forgets what a job carried.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn forget_content(&self, job: JobId) -> Result<(), StoreError> {
        self.database.write(move |transaction| transaction.query_all(&forgotten(job)).map(drop)).await
    }

    /// Forgets what jobs carried that were accepted before then, `limit` of them at most, the oldest first. Returns
    /// how many: fewer than `limit` where none is left.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn sweep_contents(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.database
            .write(move |transaction| {
                let parameters = || [times::micros(before).into(), i64::from(limit).into()];
                transaction.execute(SWEEP_BANDS, &parameters())?;
                transaction.execute(SWEEP, &parameters())
            })
            .await
    }
}
