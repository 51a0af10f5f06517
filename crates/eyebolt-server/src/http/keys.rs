use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use eyebolt_store::Known;
use eyebolt_types::{
    BatchStatus, ErrorCode, JobStatus, Scope,
    id::{BatchId, JobId},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{App, accept::AcceptsJson, caller::Caller, openapi::KeyErrors};
use crate::{ApiError, idempotency::IdempotencyKey};

/// What an idempotency key stands for.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct KeyState {
    /// Always `idempotency_key`.
    pub object: String,
    /// Where it stands.
    pub state: KeyStatus,
    /// Its job, while it is known.
    pub job: Option<JobId>,
    /// Where the job stands.
    pub job_status: Option<JobStatus>,
    /// Its batch, where it stands for one.
    pub batch: Option<BatchId>,
    /// Where the batch stands.
    pub batch_status: Option<BatchStatus>,
    /// When it was first used.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_at: Option<Timestamp>,
    /// Until when its answer is kept, or was kept; none while its job runs.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

/// Where an idempotency key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyStatus {
    /// Never used, or forgotten: a request with it would run.
    Unused,
    /// Its job or batch has not ended: a request with it would join.
    Running,
    /// Its job or batch has ended: a request with it would get the same answer.
    Answered,
    /// Its answer is no longer kept: a request with it would be refused.
    Expired,
}

/// What does this idempotency key stand for?
///
/// For a client that lost an answer and does not want to send the image again. Only keys of the API key's own project
/// and mode.
#[utoipa::path(
    get, path = "/v1/idempotency-keys/{key}", tag = "jobs", operation_id = "getIdempotencyKey",
    params(("key" = String, Path, description = "The idempotency key, without quotes.")), security(("api_key" = [])),
    responses((status = 200, description = "What it stands for.", body = KeyState), KeyErrors)
)]
pub(super) async fn get_key(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
    key: Result<Path<String>, PathRejection>,
) -> Result<Json<KeyState>, ApiError> {
    let caller = caller.require(Scope::Read)?;
    let key = key.map_err(|_| {
        ApiError::new(ErrorCode::IdempotencyKeyInvalid, "The key has characters other than visible ASCII.")
    })?;
    let found = shared.jobs.key(&caller, &IdempotencyKey::named(&key.0)?).await?;
    Ok(Json(state(found)))
}

fn state(found: Option<Known>) -> KeyState {
    let unused = KeyState {
        object: "idempotency_key".to_owned(),
        state: KeyStatus::Unused,
        job: None,
        job_status: None,
        batch: None,
        batch_status: None,
        created_at: None,
        expires_at: None,
    };
    match found {
        None => unused,
        Some(Known::Expired(since)) => {
            KeyState { state: KeyStatus::Expired, expires_at: Some(since), ..unused }
        }
        Some(Known::Batch(record)) => KeyState {
            state: if record.status.is_terminal() { KeyStatus::Answered } else { KeyStatus::Running },
            batch: Some(record.batch),
            batch_status: Some(record.status),
            created_at: Some(record.created_at),
            expires_at: record.expires_at,
            ..unused
        },
        Some(Known::Record(record)) => KeyState {
            state: if record.status.is_terminal() { KeyStatus::Answered } else { KeyStatus::Running },
            job: Some(record.job),
            job_status: Some(record.status),
            created_at: Some(record.created_at),
            expires_at: record.expires_at,
            ..unused
        },
    }
}
