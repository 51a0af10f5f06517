use std::time::Duration;

use axum::{
    Json,
    body::Body,
    extract::{
        Path, Query, Request, State,
        rejection::{PathRejection, QueryRejection},
    },
    response::{IntoResponse, Response},
};
use eyebolt_store::{Principal, StoredJob};
use eyebolt_types::{
    ErrorCode, Feature, Input, Job, JobStatus, Mode, Problem, Results, Scope, Step, Usage,
    id::{JobId, RequestId},
    pipeline::{JobResults, TaskFound},
};
use http::{HeaderValue, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    App, Shared,
    accept::AcceptsJson,
    analyze::{JobOrPrediction, answered, held_back},
    answer,
    caller::Caller,
    json,
    openapi::{
        CancelErrors, JobErrors, JobListErrors, RetryErrors, StepErrors, StepRetryErrors, TaskRetryErrors,
    },
    ratelimit::Whose,
    witness,
};
use crate::{
    ApiError,
    idempotency::IdempotencyKey,
    jobs::{
        Ask, Page, Read, Urgency, document, missing,
        pipeline::{Part, no_step},
    },
    prefer::Prefer,
};

/// Jobs on a page at most, and where nothing is said.
const MAX_LIMIT: u32 = 100;
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

/// The steps of a job.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct StepList {
    /// Always `list`.
    pub object: String,
    /// In their order.
    pub data: Vec<StepResult>,
}

/// A step with what it found.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct StepResult {
    /// Where it stands.
    #[serde(flatten)]
    pub step: Step,
    /// What it found, once it has succeeded: the same as in the job's `results`.
    pub results: Option<Results>,
    /// What it found on each part, where it has a `for_each`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<TaskFound>>,
}

/// What a page of jobs is made of.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only jobs in this state.
    status: Option<JobStatus>,
    /// Only jobs accepted then or later.
    #[param(value_type = Option<String>, format = DateTime)]
    created_from: Option<Timestamp>,
    /// Only jobs accepted before.
    #[param(value_type = Option<String>, format = DateTime)]
    created_before: Option<Timestamp>,
    /// Jobs on this page.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u32>,
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

type Named = Result<Path<String>, PathRejection>;

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
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<JobList>, ApiError> {
    let caller = caller.require(Scope::Read)?;
    let page = page(query.map_err(|error| in_query(&error))?.0)?;
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
    (id, query): (Named, Result<Query<ReadQuery>, QueryRejection>),
) -> Result<Response, ApiError> {
    let caller = caller.require(Scope::Read)?;
    let wait = Duration::from_secs(query.map_err(|error| in_query(&error))?.0.wait.unwrap_or(0));
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

/// What did each step find?
///
/// Steps of a job that still runs show what was found so far.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/steps", tag = "jobs", operation_id = "listSteps",
    params(("id" = JobId, Path, description = "The job.")), security(("api_key" = [])),
    responses((status = 200, description = "Its steps.", body = StepList), JobErrors)
)]
pub(super) async fn list_steps(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
    id: Named,
) -> Result<Json<StepList>, ApiError> {
    let caller = caller.require(Scope::Read)?;
    let data = steps(whole(&shared, &caller, named(id)?).await?);
    Ok(Json(StepList { object: "list".to_owned(), data }))
}

/// What did this step find?
///
/// A step of a pipeline is named as there, any other by its id. While its parts are done, those that have ended are shown.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/steps/{step}", tag = "jobs", operation_id = "getStep",
    params(
        ("id" = JobId, Path, description = "The job."),
        ("step" = String, Path, description = "The step: its name in the pipeline, or its id.")
    ),
    security(("api_key" = [])),
    responses((status = 200, description = "The step.", body = StepResult), StepErrors)
)]
pub(super) async fn get_step(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<StepResult>, ApiError> {
    let caller = caller.require(Scope::Read)?;
    let Path((id, step)) = path.map_err(|_| missing())?;
    Ok(Json(one_step(&shared, &caller, (&id, &step)).await?))
}

/// What did this step find on this part?
#[utoipa::path(
    get, path = "/v1/jobs/{id}/steps/{step}/tasks/{index}", tag = "jobs", operation_id = "getTask",
    params(
        ("id" = JobId, Path, description = "The job."),
        ("step" = String, Path, description = "The step: its name in the pipeline, or its id."),
        ("index" = u32, Path, description = "The part: its place among those of the step, from 0.")
    ),
    security(("api_key" = [])),
    responses((status = 200, description = "The part.", body = TaskFound), StepErrors)
)]
pub(super) async fn get_task(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
    path: Result<Path<(String, String, String)>, PathRejection>,
) -> Result<Json<TaskFound>, ApiError> {
    let caller = caller.require(Scope::Read)?;
    let Path((id, step, index)) = path.map_err(|_| missing())?;
    let found = one_step(&shared, &caller, (&id, &step)).await?;
    let index: u32 = index.parse().map_err(|_| no_step())?;
    let task = found.items.into_iter().flatten().find(|task| task.index == index);
    task.map(Json).ok_or_else(no_step)
}

async fn one_step(
    shared: &Shared,
    caller: &Principal,
    (id, step): (&str, &str),
) -> Result<StepResult, ApiError> {
    let job = whole(shared, caller, id.parse().map_err(|_| missing())?).await?;
    let named = |one: &StepResult| one.step.name.as_deref() == Some(step) || one.step.id.to_string() == step;
    steps(job).into_iter().find(named).ok_or_else(no_step)
}

async fn whole(shared: &Shared, caller: &Principal, id: JobId) -> Result<Job, ApiError> {
    match shared.jobs.read(caller, id, Duration::ZERO).await? {
        Read::Running(job) => Ok(*job),
        Read::Ended(bytes) => document::read(&String::from_utf8_lossy(&bytes)),
    }
}

fn steps(job: Job) -> Vec<StepResult> {
    let mut results = job.results;
    let found = |step: Step| {
        let of_pipeline = match (&mut results, &step.name) {
            (JobResults::Steps(steps), Some(name)) => steps.remove(name),
            _ => None,
        };
        let (results, items) = match of_pipeline {
            Some(found) => (found.result, found.items),
            None => (Some(results.only(step.feature)).filter(|only| *only != Results::default()), None),
        };
        StepResult { step, results, items }
    };
    job.steps.into_iter().map(found).collect()
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

/// What running again means.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RetryRequest {
    /// Do the step once more although it succeeded, and what needs it: in a new job, which takes over everything else of this
    /// one and pays for what it does. Needs a new `Idempotency-Key`.
    reprocess: bool,
    /// Tell what `reprocess` would cost, and do nothing.
    validate_only: bool,
}

/// Run a step again
///
/// What of it failed, and what needs it. A step or part that succeeded stays as it is; with `reprocess` it is done once more in a
/// job of its own.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/steps/{step}:retry", tag = "jobs", operation_id = "retryStep",
    params(
        ("id" = JobId, Path, description = "The job."),
        ("step" = String, Path, description = "The step: its name in the pipeline, or its id.")
    ),
    security(("api_key" = [])),
    request_body = RetryRequest,
    responses(
        (status = 200, description = "With `reprocess` the new job, finished; with `validate_only` what it would cost.",
            body = JobOrPrediction),
        (status = 202, description = "The job, which runs again; with `reprocess` the new one.", body = Job),
        StepRetryErrors
    )
)]
pub(super) async fn retry_step(
    caller: Caller,
    _: AcceptsJson,
    app: State<App>,
    (path, request): (Result<Path<(String, String)>, PathRejection>, Request),
) -> Result<Response, ApiError> {
    let Path((id, action)) = path.map_err(|_| missing())?;
    let Some((step, "retry")) = action.rsplit_once(':') else { return Err(no_action("steps/{step}")) };
    let part = Part { step: Some(step.to_owned()), task: None };
    let (head, body) = request.into_parts();
    let RetryRequest { reprocess, validate_only } = json::read(body).await?;
    if !reprocess && !validate_only {
        return retry_part(caller, app, (&id, part)).await;
    }
    let (State(App(shared)), caller) = (app, caller.require(Scope::Analyze)?);
    let id = id.parse().map_err(|_| missing())?;
    if validate_only {
        return Ok(Json(shared.jobs.reprocess_estimate(&caller, (id, &part)).await?).into_response());
    }
    reprocess_step(&shared, &caller, (id, part, Request::from_parts(head, Body::empty()))).await
}

async fn reprocess_step(
    shared: &Shared,
    caller: &Principal,
    (id, part, request): (JobId, Part, Request),
) -> Result<Response, ApiError> {
    let (sighting, headers) = (witness::sighting(shared, &request), request.headers());
    shared.jobs.clients().knock(caller, &sighting)?;
    // The key is what says that it is meant.
    let key = Some(IdempotencyKey::required(headers)?);
    let prefer = Prefer::of(headers);
    let (standard, longest) = shared.jobs.patience();
    let patience = prefer.patience(standard, longest);
    let urgency = Urgency::of(patience, sighting.sender(caller.key));
    let extensions = request.extensions();
    let request_id = extensions.get::<RequestId>().copied().unwrap_or_default().to_string();
    let told = extensions.get::<Whose>().map(|whose| whose.told().clone()).unwrap_or_default();
    let route = format!("/v1/jobs/{id}/steps/{}:retry", part.step.as_deref().unwrap_or_default());
    let ask = Ask { key, body: None, route, request_id, urgency, told, sighting };
    let submitted = held_back(shared.jobs.reprocess(caller, (id, &part), ask).await).await?;
    answered(shared, caller, submitted, (prefer, patience, urgency)).await
}

/// Run a part of a step again
///
/// Where it failed, or was left out since it failed; and what needs its step.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/steps/{step}/tasks/{index}:retry", tag = "jobs", operation_id = "retryTask",
    params(
        ("id" = JobId, Path, description = "The job."),
        ("step" = String, Path, description = "The step: its name in the pipeline, or its id."),
        ("index" = u32, Path, description = "The part: its place among those of the step, from 0.")
    ),
    security(("api_key" = [])),
    responses((status = 202, description = "The job, which runs again.", body = Job), TaskRetryErrors)
)]
pub(super) async fn retry_task(
    caller: Caller,
    _: AcceptsJson,
    app: State<App>,
    path: Result<Path<(String, String, String)>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path((id, step, action)) = path.map_err(|_| missing())?;
    let Some((index, "retry")) = action.rsplit_once(':') else {
        return Err(no_action("steps/{step}/tasks/{index}"));
    };
    let task = Some(index.parse().map_err(|_| no_step())?);
    retry_part(caller, app, (&id, Part { step: Some(step), task })).await
}

async fn retry_part(
    caller: Caller,
    State(App(shared)): State<App>,
    (id, part): (&str, Part),
) -> Result<Response, ApiError> {
    let caller = caller.require(Scope::Analyze)?;
    let job = shared.jobs.retry(&caller, (id.parse().map_err(|_| missing())?, &part)).await?;
    Ok(answer::accepted(&document::so_far(&job)?))
}

fn no_action(what: &str) -> ApiError {
    let detail = format!("This can be sent `:retry` alone, as in POST /v1/jobs/{{id}}/{what}:retry.");
    ApiError::new(ErrorCode::RouteNotFound, detail).closing()
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

fn named(id: Named) -> Result<JobId, ApiError> {
    // What is no id names no job.
    id.ok().and_then(|Path(id)| id.parse().ok()).ok_or_else(missing)
}

fn page(query: ListQuery) -> Result<Page, ApiError> {
    let limit = query.limit.unwrap_or(LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::wrong_field("limit", format!("is {limit}, outside 1 to {MAX_LIMIT}")));
    }
    let after = query.cursor.map(|cursor| cursor.parse()).transpose();
    Ok(Page {
        status: query.status,
        created_from: query.created_from,
        created_before: query.created_before,
        after: after
            .map_err(|_| ApiError::wrong_field("cursor", "is not the next_cursor of a page".to_owned()))?,
        limit,
    })
}

/// The library's message quotes what the client wrote; the names it may write are ours.
pub(super) fn in_query(_: &QueryRejection) -> ApiError {
    ApiError::wrong_field("query", "has a name that is not known, or a value that can't be read".to_owned())
}

fn summary(job: &StoredJob) -> Result<JobSummary, ApiError> {
    let features = job.steps.iter().map(|step| step.feature).collect();
    let Job {
        id,
        status,
        mode,
        input,
        created_at,
        started_at,
        finished_at,
        usage,
        error,
        retryable_until,
        ..
    } = document::so_far(job)?;
    Ok(JobSummary {
        id,
        object: "job_summary".to_owned(),
        status,
        mode,
        features,
        input,
        created_at,
        started_at,
        finished_at,
        usage,
        error,
        retryable_until,
    })
}
