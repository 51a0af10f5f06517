//! Facts that are told to whoever listens: as server-sent events, and to webhook endpoints.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    BatchEvent, BatchStatus, ErrorCode, Job, JobStatus, Links, Mode, Usage,
    id::{EndpointId, EventId, JobId},
    job::UnknownName,
};

/// What happened. More kinds will come: take an unknown one for granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub enum EventType {
    /// Every feature of a job was answered.
    #[serde(rename = "job.succeeded")]
    JobSucceeded,
    /// A job failed; it may run again.
    #[serde(rename = "job.failed")]
    JobFailed,
    /// A job was canceled.
    #[serde(rename = "job.canceled")]
    JobCanceled,
    /// A job's deadline passed.
    #[serde(rename = "job.expired")]
    JobExpired,
    /// Every item of a batch has ended.
    #[serde(rename = "batch.completed")]
    BatchCompleted,
    /// A batch was stopped, since too many of its items failed.
    #[serde(rename = "batch.failed")]
    BatchFailed,
    /// A batch was canceled.
    #[serde(rename = "batch.canceled")]
    BatchCanceled,
    /// A batch's time was over before all of its items had ended.
    #[serde(rename = "batch.expired")]
    BatchExpired,
    /// Somebody wanted to see whether an endpoint can be reached. It is sent to that endpoint alone.
    #[serde(rename = "webhook.test")]
    WebhookTest,
}

impl EventType {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::JobSucceeded,
        Self::JobFailed,
        Self::JobCanceled,
        Self::JobExpired,
        Self::BatchCompleted,
        Self::BatchFailed,
        Self::BatchCanceled,
        Self::BatchExpired,
        Self::WebhookTest,
    ];

    /// The name in answers and rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::JobSucceeded => "job.succeeded",
            Self::JobFailed => "job.failed",
            Self::JobCanceled => "job.canceled",
            Self::JobExpired => "job.expired",
            Self::BatchCompleted => "batch.completed",
            Self::BatchFailed => "batch.failed",
            Self::BatchCanceled => "batch.canceled",
            Self::BatchExpired => "batch.expired",
            Self::WebhookTest => "webhook.test",
        }
    }

    /// What a job's end is told as; `None` of a state that is no end.
    pub fn of_end(status: JobStatus) -> Option<Self> {
        match status {
            JobStatus::Pending | JobStatus::Processing => None,
            JobStatus::Succeeded => Some(Self::JobSucceeded),
            JobStatus::Failed => Some(Self::JobFailed),
            JobStatus::Canceled => Some(Self::JobCanceled),
            JobStatus::Expired => Some(Self::JobExpired),
        }
    }

    /// What a batch's end is told as; `None` of a state that is no end.
    pub fn of_batch(status: BatchStatus) -> Option<Self> {
        match status {
            BatchStatus::Processing | BatchStatus::Canceling => None,
            BatchStatus::Completed => Some(Self::BatchCompleted),
            BatchStatus::Failed => Some(Self::BatchFailed),
            BatchStatus::Canceled => Some(Self::BatchCanceled),
            BatchStatus::Expired => Some(Self::BatchExpired),
        }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for EventType {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or(UnknownName)
    }
}

/// An event as it is sent: the body of a webhook, the data of a server-sent event. Its bytes are written once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its name: the same each time that it is sent, and the header `webhook-id`.
    pub id: EventId,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// When it happened.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
    /// Whom it happened to, without results: they are read where `links` says.
    pub data: EventData,
}

/// Whom an event happened to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum EventData {
    /// A job: every `job.…`.
    Job(Box<JobEvent>),
    /// A batch: every `batch.…`.
    Batch(Box<BatchEvent>),
    /// An endpoint: `webhook.test`.
    Endpoint(EndpointEvent),
}

/// An endpoint as a test tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndpointEvent {
    /// Its name.
    pub id: EndpointId,
    /// Always `webhook_endpoint`.
    pub object: String,
}

/// A job as an event tells of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobEvent {
    /// Its name.
    pub id: JobId,
    /// Always `job`.
    pub object: String,
    /// How it ended.
    pub status: JobStatus,
    /// Real or sandbox.
    pub mode: Mode,
    /// 1, and one more for each time that it was run again after it had failed.
    pub round: u32,
    /// The request that asked.
    pub request_id: String,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When work began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// What it costs.
    pub usage: Usage,
    /// Why it failed: the `code` of its problem.
    #[schema(value_type = Option<String>)]
    pub error_code: Option<ErrorCode>,
    /// Until when what failed can be run again.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub retryable_until: Option<Timestamp>,
    /// Where its results are.
    pub links: Links,
}

impl JobEvent {
    /// What is told of a job that has ended.
    pub fn of(job: &Job, round: u32, request_id: &str) -> Self {
        Self {
            id: job.id,
            object: "job".to_owned(),
            status: job.status,
            mode: job.mode,
            round,
            request_id: request_id.to_owned(),
            created_at: job.created_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
            usage: job.usage,
            error_code: job.error.as_ref().map(|problem| problem.code),
            retryable_until: job.retryable_until,
            links: job.links.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_read_back_in_rows_and_in_json() {
        for kind in EventType::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
    }

    #[test]
    fn every_end_of_a_job_is_told_and_nothing_else() {
        let told = JobStatus::ALL.map(|status| EventType::of_end(status).is_some());
        assert_eq!(told, JobStatus::ALL.map(JobStatus::is_terminal));
        let told = BatchStatus::ALL.map(|status| EventType::of_batch(status).is_some());
        assert_eq!(told, BatchStatus::ALL.map(BatchStatus::is_terminal));
    }
}
