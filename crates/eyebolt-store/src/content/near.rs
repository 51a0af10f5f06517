use std::collections::HashSet;

use eyebolt_types::{DuplicateKind, JobStatus, id::JobId};
use jiff::Timestamp;

use super::{
    ContentKey, NearSought, Seen,
    keys::{band, place, slots},
    scope,
};
use crate::{
    StoreError,
    database::{Row, Statement, Transaction, Value},
};

/// Bands in one look-up: as many as [`CANDIDATES`] has parameters for.
const PROBES: usize = 48;

const INSERT: &str = "INSERT INTO content_bands (band, slot, place) VALUES ($1, $2, $3) \
                      ON CONFLICT (band, slot) DO NOTHING RETURNING band, slot";
/// At most so many digests are compared.
const CANDIDATES: &str = "SELECT c.job_id, c.perceptual FROM content_bands b JOIN contents c ON c.place = b.place \
     WHERE c.project_id = $1 AND c.mode = $2 AND c.created_at >= $3 AND c.job_id < $4 \
     AND c.perceptual IS NOT NULL AND b.band IN ( \
     $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, \
     $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, \
     $42, $43, $44, $45, $46, $47, $48, $49, $50, $51, $52) \
     ORDER BY c.job_id LIMIT 256";
const STATUS: &str = "SELECT status FROM jobs WHERE id = $1";

/// Enters a job into its bands, in rounds. Where several slots in a row are taken, it is left out of that band: those
/// before it are older.
pub(crate) struct Entering {
    job: JobId,
    left: Vec<i64>,
    slots: std::vec::IntoIter<i64>,
}

impl Entering {
    pub(crate) fn new(job: JobId, owner: (&str, &str), bands: &[u32]) -> Self {
        let left = bands.iter().map(|one| band(owner, *one)).collect();
        Self { job, left, slots: slots(job).collect::<Vec<_>>().into_iter() }
    }

    /// The next statements; `None` where it is done. `answers`: the rows of the last ones.
    pub(crate) fn next(&mut self, answers: &[Vec<Row>]) -> Option<Vec<Statement>> {
        let entered = answers.iter().map(|rows| !rows.is_empty()).chain(std::iter::repeat(false));
        let left = self.left.iter().zip(entered).filter(|(_, entered)| !entered);
        self.left = left.map(|(band, _)| *band).collect();
        let slot = self.slots.next().filter(|_| !self.left.is_empty())?;
        let row = |band: &i64| (INSERT, vec![(*band).into(), slot.into(), place(self.job).into()]);
        Some(self.left.iter().map(row).collect())
    }
}

/// The oldest near picture of a job that is not dead.
pub(super) fn find(
    transaction: &mut dyn Transaction,
    key: &ContentKey,
    sought: &NearSought,
    since: Timestamp,
) -> Result<Option<Seen>, StoreError> {
    if sought.probes.is_empty() {
        return Ok(None);
    }
    let mut compared = HashSet::new();
    for row in transaction.query(CANDIDATES, &parameters(key, sought, since))? {
        let job: JobId = row.parsed(0)?;
        if !compared.insert(job) {
            continue;
        }
        if let Some(distance) = (sought.distance)(&sought.digest, &row.blob(1)?)
            && is_alive(transaction, job)?
        {
            return Ok(Some(Seen { job, kind: DuplicateKind::Perceptual, distance }));
        }
    }
    Ok(None)
}

/// Probes that are missing are the first one again, which finds nothing more.
fn parameters(key: &ContentKey, sought: &NearSought, since: Timestamp) -> Vec<Value> {
    let (project, mode) = (key.project.to_string(), key.mode.name());
    let first = sought.probes.iter().take(1).cycle();
    let probes = sought.probes.iter().chain(first).take(PROBES);
    let probes = probes.map(|probe| band((&project, mode), *probe).into());
    scope(key, since).into_iter().chain(probes).collect()
}

fn is_alive(transaction: &mut dyn Transaction, job: JobId) -> Result<bool, StoreError> {
    let row = transaction.query_one(STATUS, &[job.to_string().into()])?;
    let status = row.map(|row| row.parsed::<JobStatus>(0)).transpose()?;
    let dead = [JobStatus::Failed, JobStatus::Canceled, JobStatus::Expired];
    Ok(status.is_some_and(|status| !dead.contains(&status)))
}
