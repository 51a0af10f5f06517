//! Defects that a build for crash tests can be told to have (`EYEBOLT_TORTURE_DEFECT`), so that the tests can be seen to
//! find them.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use eyebolt_types::id::JobId;
use jiff::Timestamp;

use crate::{NewJob, StoreError, database::Transaction, record};

/// Whether this process has the defect.
pub(crate) fn has(name: &str) -> bool {
    std::env::var("EYEBOLT_TORTURE_DEFECT").is_ok_and(|defect| defect == name)
}

/// `late_key`: keys that will be written when their jobs end.
static LATE: Mutex<Option<HashMap<JobId, NewJob>>> = Mutex::new(None);

/// Keeps the job's key for later instead of writing it now.
pub(crate) fn keep_key(job: &NewJob) {
    let mut late = LATE.lock().unwrap_or_else(PoisonError::into_inner);
    late.get_or_insert_default().insert(job.id, job.clone());
}

/// Writes the key that was kept.
pub(crate) fn write_key(
    transaction: &mut dyn Transaction,
    job: JobId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let kept = LATE.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().remove(&job);
    if let Some((job, key)) = kept.as_ref().and_then(|job| Some((job, job.idempotency.as_ref()?))) {
        record::reserve(transaction, job, key, now)?;
    }
    Ok(())
}
