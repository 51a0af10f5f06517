//! Batches: many images under one name, each an item of its own.

use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Mode, UnknownName, id::BatchId};

/// Where a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchStatus {
    /// Its items are worked on, or wait.
    Processing,
    /// Somebody canceled it; some items still run.
    Canceling,
    /// Every item has ended.
    Completed,
    /// More items failed than its `max_failure_rate` allows: the others were canceled.
    Failed,
    /// It was canceled.
    Canceled,
    /// Its time was over before all items had ended.
    Expired,
}

impl BatchStatus {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Processing, Self::Canceling, Self::Completed, Self::Failed, Self::Canceled, Self::Expired];

    /// The name in answers and rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Processing => "processing",
            Self::Canceling => "canceling",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Expired => "expired",
        }
    }

    /// Whether every item of it has ended.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Processing | Self::Canceling)
    }
}

impl FromStr for BatchStatus {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|status| status.name() == name).ok_or(UnknownName)
    }
}

/// How many items of a batch stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchCounts {
    /// All of them.
    pub total: u32,
    /// Wait for their turn.
    pub pending: u32,
    /// Are jobs that have not ended.
    pub processing: u32,
    /// Were answered.
    pub succeeded: u32,
    /// Could not be answered.
    pub failed: u32,
    /// Were canceled with the batch, or by themselves.
    pub canceled: u32,
    /// Were not done in time.
    pub expired: u32,
}

/// Where to go from a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchLinks {
    /// The batch.
    #[serde(rename = "self")]
    pub batch: String,
    /// Its items.
    pub items: String,
    /// What was found, as lines of JSON.
    pub results: String,
    /// What failed, as lines of JSON.
    pub errors: String,
    /// What happens, as it happens.
    pub events: String,
}

impl BatchLinks {
    /// Of a batch.
    pub fn of(batch: BatchId) -> Self {
        let at = |what: &str| format!("/v1/batches/{batch}{what}");
        Self {
            batch: at(""),
            items: at("/items"),
            results: at("/results"),
            errors: at("/errors"),
            events: at("/events"),
        }
    }
}

/// A batch as an event tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchEvent {
    /// Its name.
    pub id: BatchId,
    /// Always `batch`.
    pub object: String,
    /// How it ended.
    pub status: BatchStatus,
    /// Real or sandbox.
    pub mode: Mode,
    /// 1, and one more for each time that its failed items were run again after its end.
    pub round: u32,
    /// The request that asked.
    pub request_id: String,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it ended.
    #[schema(value_type = String, format = DateTime)]
    pub finished_at: Timestamp,
    /// What became of its items.
    pub counts: BatchCounts,
    /// Where its results are.
    pub links: BatchLinks,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_read_back_in_rows_and_in_json() {
        for status in BatchStatus::ALL {
            assert_eq!(status.name().parse(), Ok(status));
            assert_eq!(serde_json::to_string(&status).unwrap(), format!("\"{}\"", status.name()));
        }
    }
}
