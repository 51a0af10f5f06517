//! The room "dedup": a weaker layer under the idempotency key. Was this image here before?

use eyebolt_store::{LeasedJob, Principal};
use eyebolt_types::{AnalyzeRequest, Dedup};

use super::Room;
use crate::{
    ApiError,
    analysis::{Remarks, Submission},
};

impl Room {
    /// What is known of the file at acceptance.
    pub(super) async fn seen(
        &self,
        _caller: &Principal,
        _submission: &Submission,
        _frozen: &AnalyzeRequest,
    ) -> Result<Dedup, ApiError> {
        Ok(Dedup::none())
    }

    /// What is known of the pixels at the end.
    pub(super) async fn recognise(&self, _leased: &LeasedJob, _remarks: &Remarks) -> Result<Option<Dedup>, ApiError> {
        Ok(None)
    }
}
