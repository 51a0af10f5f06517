use std::time::Duration;

use axum::{
    Json,
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use eyebolt_store::Principal;
use eyebolt_types::{
    ErrorCode, Job, Results, Scope, Step,
    id::{JobId, RequestId},
    pipeline::{JobResults, TaskFound},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    App, Shared,
    accept::AcceptsJson,
    analyze::{JobOrPrediction, answered, held_back},
    answer,
    caller::Caller,
    jobs::{Named, named},
    json,
    openapi::{JobErrors, StepErrors, StepRetryErrors, TaskRetryErrors},
    ratelimit::Whose,
    witness,
};
use crate::{
    ApiError,
    idempotency::IdempotencyKey,
    jobs::{
        Ask, Read, Urgency, document, missing,
        pipeline::{Part, no_step},
    },
    prefer::Prefer,
};

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
    let (sighting, headers) =
        (witness::sighting(shared, (request.headers(), request.extensions())), request.headers());
    shared.jobs.clients().knock(caller, &sighting)?;
    // The key is what says that it is meant.
    let key = IdempotencyKey::required(headers)?;
    let route = format!("/v1/jobs/{id}/steps/{}:retry", part.step.as_deref().unwrap_or_default());
    // The job that is looked at may be gone by the time that this is sent again.
    let asked = crate::idempotency::route_digest(&route);
    if let Some(replay) = shared.jobs.replay_unread(caller, &key, &asked).await? {
        return Ok(answer::replayed(&replay));
    }
    let prefer = Prefer::of(headers);
    let (standard, longest) = shared.jobs.patience();
    let patience = prefer.patience(standard, longest);
    let urgency = Urgency::of(patience, sighting.sender(caller.key));
    let extensions = request.extensions();
    let request_id = extensions.get::<RequestId>().copied().unwrap_or_default().to_string();
    let told = extensions.get::<Whose>().map(|whose| whose.told().clone()).unwrap_or_default();
    let ask = Ask { key: Some(key), body: Some(asked), route, request_id, urgency, told, sighting };
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
