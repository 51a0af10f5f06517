use std::time::Duration;

use axum::{
    Json,
    body::Body,
    extract::{Query, Request, State},
    response::{IntoResponse, Response},
};
use eyebolt_store::Principal;
use eyebolt_types::{ErrorCode, Job, Scope, id::RequestId};
use http::{header, request::Parts};
use tokio::time::sleep;

use super::{
    App, Shared,
    accept::AcceptsJson,
    answer::{self, Applied},
    caller::Caller,
    openapi::{AnalyzeErrors, RetryHeaders, SimpleFields},
    ratelimit::Whose,
    unread, witness,
};
use crate::{
    ApiError,
    clients::Sighting,
    idempotency::IdempotencyKey,
    ingest::{DeclaredDigest, Incoming},
    jobs::{Ask, Replay, Submitted, Urgency, pipeline::Prediction},
    prefer::Prefer,
    quotas::Told,
};

/// The route, as fingerprints name it.
const ROUTE: &str = crate::idempotency::ANALYZE;

/// A job, or with `validate_only` what it would cost.
#[derive(utoipa::ToSchema)]
#[schema(as = JobOrPrediction)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is described alone")]
pub(super) enum JobOrPrediction {
    Job(Box<Job>),
    Prediction(Prediction),
}

/// What is in this image?
///
/// One image in, one job out. The image comes as a part of `multipart/form-data`, or in base64 inside JSON.
/// The features, and settings where the defaults won't do, come in one of three ways: as the JSON part `request` (or
/// beside the image in a JSON body), as simple parts, or in the query. Which ones can be named is listed under the
/// parameters of this operation.
///
/// While the machine is full a request waits for its turn, and belongs to nobody: it is answered `503` where another project
/// has fewer waiting, or becomes a job (`202`) where it has a key. The job is durable before there is an answer. A caller waits for its end, as long as `Prefer: wait` allows: then the
/// answer is `200` with the finished job, otherwise `202` with the job as it stands and its address in `Location`.
///
/// With `pipeline` instead of features several steps are done, some of them on each thing that an earlier one found. With
/// `validate_only` everything is checked and the answer tells what it would cost: nothing is run, and no key is used up.
///
/// The same request with the same `Idempotency-Key` is answered with the same bytes and never run or charged twice.
#[utoipa::path(
    post, path = "/v1/analyze", tag = "analysis", operation_id = "analyze",
    params(RetryHeaders, SimpleFields),
    security(("api_key" = [])),
    responses(
        (status = 200, description = "The job, finished; or with `validate_only` what it would cost.", body = JobOrPrediction),
        (status = 202, description = "The job, still running; `Location` is its address.", body = Job),
        AnalyzeErrors
    )
)]
pub(super) async fn analyze(
    caller: Caller,
    _: AcceptsJson,
    State(App(shared)): State<App>,
    request: Request,
) -> Result<Response, ApiError> {
    let caller = caller.require(Scope::Analyze)?;
    let (head, content) = request.into_parts();
    let entered = match enter(&shared, &caller, &head).await {
        Ok(Entry::New(entered)) => *entered,
        Ok(Entry::Known(replay)) => {
            return Ok(answer::unread(&replay, unread::thrown_away(&head, content).await));
        }
        Err(error) => {
            return Err(if unread::thrown_away(&head, content).await { error } else { error.closing() });
        }
    };
    let Entered { key, digest, body, prefer, request_id, patience, sender, told, sighting } = entered;
    let submission = shared.ingest.submission(incoming((head, content), digest)?).await?;
    if submission.request.validate_only {
        return Ok(Json(shared.jobs.estimate(&caller, submission).await?).into_response());
    }
    let urgency = Urgency::of(patience, sender);
    let ask = Ask {
        key,
        body,
        route: ROUTE.to_owned(),
        request_id: request_id.to_string(),
        urgency,
        told,
        sighting,
    };
    let submitted = held_back(shared.jobs.submit(&caller, submission, ask).await).await?;
    answered(&shared, &caller, submitted, (prefer, patience, urgency)).await
}

/// What the headers of a request say.
enum Entry {
    /// It was answered before: its body need not be read.
    Known(Box<Replay>),
    New(Box<Entered>),
}

/// A request whose body is worth to be read.
struct Entered {
    key: Option<IdempotencyKey>,
    digest: Option<DeclaredDigest>,
    /// Digest of body and form, where the client declared the one of the body.
    body: Option<Vec<u8>>,
    prefer: Prefer,
    request_id: RequestId,
    patience: Duration,
    sender: u64,
    told: Told,
    sighting: Sighting,
}

/// Everything that can be said before the body is read.
async fn enter(shared: &Shared, caller: &Principal, head: &Parts) -> Result<Entry, ApiError> {
    let sighting = witness::sighting(shared, (&head.headers, &head.extensions));
    shared.jobs.clients().knock(caller, &sighting)?;
    let headers = &head.headers;
    let key = if shared.jobs.key_required() {
        Some(IdempotencyKey::required(headers)?)
    } else {
        IdempotencyKey::of(headers)?
    };
    let digest = DeclaredDigest::of(headers)?;
    let body =
        digest.map(|digest| digest.of_request(ROUTE, (head.uri.query(), headers.get(header::CONTENT_TYPE))));
    if let (Some(key), Some(body)) = (&key, &body)
        && let Some(replay) = shared.jobs.replay_unread(caller, key, body).await?
    {
        sighting.known();
        return Ok(Entry::Known(Box::new(replay)));
    }
    let prefer = Prefer::of(headers);
    let request_id = head.extensions.get::<RequestId>().copied().unwrap_or_default();
    let (standard, longest) = shared.jobs.patience();
    let (patience, sender) = (prefer.patience(standard, longest), sighting.sender(caller.key));
    let told = head.extensions.get::<Whose>().map(|whose| whose.told().clone()).unwrap_or_default();
    let knocked = shared.jobs.knock(caller, key.as_ref(), Urgency::of(patience, sender)).await;
    held_back(knocked).await?;
    let entered = Entered { key, digest, body, prefer, request_id, patience, sender, told, sighting };
    Ok(Entry::New(Box::new(entered)))
}

/// A refusal of somebody who came back too early comes late. Nothing is held meanwhile but the connection.
pub(super) async fn held_back<T>(result: Result<T, ApiError>) -> Result<T, ApiError> {
    if let Err(error) = &result
        && let Some(hold) = error.hold()
    {
        sleep(hold).await;
    }
    result
}

/// Waits for the end as long as the caller wants to.
pub(super) async fn answered(
    shared: &Shared,
    caller: &Principal,
    submitted: Submitted,
    (prefer, patience, urgency): (Prefer, Duration, Urgency),
) -> Result<Response, ApiError> {
    let applied = Applied::of(prefer, patience);
    let (waiter, joined, abandoned) = match submitted {
        Submitted::Replay(replay) => return Ok(answer::replayed(&replay)),
        Submitted::New(waiter, abandoned) => (waiter, false, abandoned),
        Submitted::Joined(waiter) => (waiter, true, None),
    };
    let job = waiter.job();
    let left = urgency.left();
    let ended = if left.is_zero() { None } else { shared.jobs.await_end(waiter, left).await };
    if let Some(abandoned) = abandoned {
        abandoned.answered();
    }
    if let Some(ended) = ended {
        return Ok(answer::ended(&ended, job, applied));
    }
    let stored = shared.jobs.stored(caller, job).await?;
    if stored.status.is_terminal()
        && let Some((ended, request_id)) = shared.jobs.kept_answer(job).await?
    {
        // Another process ran it.
        return Ok(if joined {
            answer::replayed(&Replay { ended, request_id, job })
        } else {
            answer::ended(&ended, job, applied)
        });
    }
    if joined && !prefer.respond_async {
        return Err(answer::in_use(job));
    }
    answer::running(&stored, applied)
}

pub(super) fn incoming(
    (head, body): (Parts, Body),
    digest: Option<DeclaredDigest>,
) -> Result<Incoming, ApiError> {
    let query = Query::try_from_uri(&head.uri).map_err(|_| {
        ApiError::new(ErrorCode::InvalidRequest, "The query is not a list of name=value.").closing()
    })?;
    Ok(Incoming { headers: head.headers, query: query.0, body, digest })
}
