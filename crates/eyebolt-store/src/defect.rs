//! Defects that a build for crash tests can be told to have (`EYEBOLT_TORTURE_DEFECT`), so that the tests can be seen to
//! find them.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use eyebolt_types::id::JobId;
use jiff::Timestamp;

use crate::{Advance, NewJob, WorkEnd, database::Statement, record};

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

/// `late_parts`: ends of parts that will be written with the end of their step.
static PARTS: Mutex<Option<HashMap<JobId, Vec<WorkEnd>>>> = Mutex::new(None);

/// What is written now of a move of a pipeline: with the defect ends of parts are kept until their step ends.
pub(crate) fn late_parts(job: JobId, advance: Advance) -> Advance {
    if !has("late_parts") {
        return advance;
    }
    let Advance { ends, fan_outs } = advance;
    let (parts, mut ends): (Vec<_>, Vec<_>) = ends.into_iter().partition(|end| end.place.1.is_some());
    let mut kept = PARTS.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = kept.get_or_insert_default().entry(job).or_default();
    kept.extend(parts);
    if !ends.is_empty() {
        ends.splice(0..0, kept.drain(..));
    }
    Advance { ends, fan_outs }
}
