//! Defects that a build for crash tests can be told to have (`EYEBOLT_TORTURE_DEFECT`), so that the tests can be seen to
//! find them.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use eyebolt_types::id::JobId;
use jiff::Timestamp;

use crate::{NewJob, database::Statement, record};

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

/// The key that was kept, to be written now.
pub(crate) fn late_key(job: JobId, now: Timestamp) -> Option<Statement> {
    let kept = LATE.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().remove(&job)?;
    let holder = record::Holder { project: kept.project, mode: kept.mode, subject: &kept.id.to_string() };
    Some(record::reserve(holder, kept.idempotency.as_ref()?, now))
}
