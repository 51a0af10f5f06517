use std::time::Duration;

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use eyebolt_store::ListedJob;
use eyebolt_types::{ErrorCode, Feature, Input, Job, JobStatus, Mode, Problem, Scope, Usage, id::JobId};
use http::{HeaderValue, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    accept::AcceptsJson,
    answer,
    caller::Caller,
    openapi::{CancelErrors, JobErrors, JobListErrors, RetryErrors},
    query::{InQuery, PageSize, maybe_instant},
};
use crate::{
    ApiError,
    jobs::{Page, Read, document, missing, pipeline::Part},
};

/// Jobs on a page where nothing is said.
const LIMIT: u32 = 20;

/// A page of jobs.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct JobList {
    /// Always `list`.
    pub object: String,
    /// Newest first.
    pub data: Vec<JobSummary>,
    /// Whether there are older ones.
    pub has_more: bool,
    /// The `cursor` of the next page, where there is one.
    pub next_cursor: Option<String>,
}

/// A job without what it found.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct JobSummary {
    /// Its name.
    pub id: JobId,
    /// Always `job_summary`.
    pub object: String,
    /// Where it stands.
    pub status: JobStatus,
    /// Real or sandbox.
    pub mode: Mode,
    /// What is asked.
    pub features: Vec<Feature>,
    /// The image.
    pub input: Input,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When work began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// What it costs so far.
    pub usage: Usage,
    /// Why it failed.
    pub error: Option<Problem>,
    /// Until when what failed can be run again.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub retryable_until: Option<Timestamp>,
}

/// What a page of jobs is made of.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only jobs in this state.
    status: Option<JobStatus>,
    /// Only jobs accepted then or later.
    #[serde(default, deserialize_with = "maybe_instant")]
    #[param(value_type = Option<String>, format = DateTime)]
    created_from: Option<Timestamp>,
    /// Only jobs accepted before.
    #[serde(default, deserialize_with = "maybe_instant")]
    #[param(value_type = Option<String>, format = DateTime)]
    created_before: Option<Timestamp>,
    /// Jobs on this page.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, default = 20)]
    limit: Option<PageSize>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// How long to wait.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReadQuery {
    /// Seconds to wait for the end.
    #[param(minimum = 0, default = 0)]
    wait: Option<u64>,
}

pub(super) type Named = Result<Path<String>, PathRejection>;

/// Which jobs are there?
///
/// Jobs of the key's project and mode, newest first.
#[utoipa::path(
    get, path = "/v1/jobs", tag = "jobs", operation_id = "listJobs", params(ListQuery), security(("api_key" = [])),
    responses((status = 200, description = "A page of jobs.", body = JobList), JobListErrors)
)]
pub(super) async fn list_jobs(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
    query: InQuery<ListQuery>,
) -> Result<Json<JobList>, ApiError> {
    let caller = caller.require(Scope::Read)?;
    let page = page(query?.0)?;
    let (jobs, has_more) = shared.jobs.list(&caller, page).await?;
    let next_cursor = jobs.last().filter(|_| has_more).map(|job| job.id.to_string());
    let data = jobs.iter().map(summary).collect::<Result<_, _>>()?;
    Ok(Json(JobList { object: "list".to_owned(), data, has_more, next_cursor }))
}

/// Where does this job stand?
///
/// With `wait`, the answer comes when the job has ended, or after so many seconds. The document of an ended job never
/// changes.
#[utoipa::path(
    get, path = "/v1/jobs/{id}", tag = "jobs", operation_id = "getJob",
    params(("id" = JobId, Path, description = "The job."), ReadQuery), security(("api_key" = [])),
    responses((status = 200, description = "The job.", body = Job), JobErrors)
)]
pub(super) async fn get_job(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
    (id, query): (Named, InQuery<ReadQuery>),
) -> Result<Response, ApiError> {
    let caller = caller.require(Scope::Read)?;
    let wait = Duration::from_secs(query?.0.wait.unwrap_or(0));
    let (_, longest) = shared.jobs.patience();
    match shared.jobs.read(&caller, named(id)?, wait.min(longest)).await? {
        Read::Ended(bytes) => Ok(answer::document(bytes)),
        Read::Running(job) => {
            let mut response = Json(job).into_response();
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            Ok(response)
        }
    }
}

/// Stop this job
///
/// A job that waits ends at once; one that runs ends before its next step, within seconds. It costs nothing. A job that
/// was canceled before stays so.
#[utoipa::path(
    post, path = "/v1/jobs/{id}:cancel", tag = "jobs", operation_id = "cancelJob",
    params(("id" = JobId, Path, description = "The job.")), security(("api_key" = [])),
    responses(
        (status = 200, description = "The job, canceled.", body = Job),
        (status = 202, description = "The job, which will end soon.", body = Job),
        CancelErrors
    )
)]
pub(super) async fn cancel_job(caller: Caller, app: State<App>, id: JobId) -> Result<Response, ApiError> {
    let (caller, State(App(shared))) = (caller.require(Scope::Analyze)?, app);
    let job = shared.jobs.cancel(&caller, id).await?;
    if job.status.is_terminal()
        && let Read::Ended(bytes) = shared.jobs.read(&caller, id, Duration::ZERO).await?
    {
        return Ok(answer::canceled(bytes, id));
    }
    Ok(answer::accepted(&document::so_far(&job)?))
}

/// Run again what failed
///
/// Only a job that failed for a passing reason, or whose pipeline went on without something, until its `retryable_until`.
/// Steps and parts that succeeded stay as they are and are not charged again; the models stay those of the first run. Two
/// such requests at once make one run.
#[utoipa::path(
    post, path = "/v1/jobs/{id}:retry", tag = "jobs", operation_id = "retryJob",
    params(("id" = JobId, Path, description = "The job.")), security(("api_key" = [])),
    responses((status = 202, description = "The job, which runs again.", body = Job), RetryErrors)
)]
pub(super) async fn retry_job(caller: Caller, app: State<App>, id: JobId) -> Result<Response, ApiError> {
    let (caller, State(App(shared))) = (caller.require(Scope::Analyze)?, app);
    let job = shared.jobs.retry(&caller, (id, &Part::default())).await?;
    Ok(answer::accepted(&document::so_far(&job)?))
}

/// `POST /v1/jobs/{id}:cancel` and `:retry`: the router knows whole segments alone.
pub(super) async fn act(
    caller: Caller,
    _: AcceptsJson,
    app: State<App>,
    action: Named,
) -> Result<Response, ApiError> {
    let action = action.map(|Path(action)| action).unwrap_or_default();
    match action.split_once(':') {
        Some((id, "cancel")) => cancel_job(caller, app, id.parse().map_err(|_| missing())?).await,
        Some((id, "retry")) => retry_job(caller, app, id.parse().map_err(|_| missing())?).await,
        _ => Err(ApiError::new(
            ErrorCode::RouteNotFound,
            "A job can be sent `:cancel` and `:retry`, as in POST /v1/jobs/{id}:cancel.",
        )
        .closing()),
    }
}

pub(super) fn named(id: Named) -> Result<JobId, ApiError> {
    // What is no id names no job.
    id.ok().and_then(|Path(id)| id.parse().ok()).ok_or_else(missing)
}

fn page(query: ListQuery) -> Result<Page, ApiError> {
    let after = query.cursor.map(|cursor| cursor.parse()).transpose();
    Ok(Page {
        status: query.status,
        created_from: query.created_from,
        created_before: query.created_before,
        after: after
            .map_err(|_| ApiError::wrong_field("cursor", "is not the next_cursor of a page".to_owned()))?,
        limit: PageSize::or(query.limit, LIMIT),
    })
}

fn summary(job: &ListedJob) -> Result<JobSummary, ApiError> {
    let (input, usage, error) = document::of_listed(job)?;
    Ok(JobSummary {
        id: job.id,
        object: "job_summary".to_owned(),
        status: job.status,
        mode: job.mode,
        features: job.features.clone(),
        input,
        created_at: job.created_at,
        started_at: job.started_at,
        finished_at: job.finished_at,
        usage,
        error,
        retryable_until: job.retryable_until,
    })
}
