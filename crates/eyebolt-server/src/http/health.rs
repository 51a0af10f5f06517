use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::Mutex,
    time::{Duration, Instant},
};
use utoipa::ToSchema;

use super::{
    App, Shared,
    openapi::{AliveErrors, ReadyErrors},
};
use crate::ApiError;

/// The process is alive.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Always `ok`.
    pub status: String,
    /// Of the server.
    pub version: String,
}

/// The server answers requests.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Ready {
    /// Always `ready`.
    pub status: String,
    /// Features that can be asked now.
    pub features: Vec<eyebolt_types::Feature>,
}

/// Is the process alive?
///
/// Answers without touching a model: for a supervisor that restarts what no longer answers.
#[utoipa::path(
    get, path = "/healthz", tag = "operations", operation_id = "alive",
    responses((status = 200, description = "It is alive.", body = Health), AliveErrors)
)]
pub(super) async fn alive() -> Json<Health> {
    Json(Health { status: "ok".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() })
}

/// Can the server answer requests?
///
/// Runs a real tiny inference and writes to the database, at most once a second: for a load balancer.
#[utoipa::path(
    get, path = "/readyz", tag = "operations", operation_id = "ready",
    responses((status = 200, description = "It can.", body = Ready), ReadyErrors)
)]
pub(super) async fn ready(State(App(shared)): State<App>) -> Result<Json<Ready>, ApiError> {
    shared.readiness.of(&shared).await?;
    Ok(Json(Ready { status: "ready".to_owned(), features: shared.analyzer.capabilities().features }))
}

/// The last answer to `/readyz`, for a second. Who asks while the inference runs waits for the same one.
#[derive(Debug, Default)]
pub(super) struct Readiness(Mutex<Option<(Instant, Result<(), ApiError>)>>);

impl Readiness {
    const FRESH: Duration = Duration::from_secs(1);

    async fn of(&self, shared: &Shared) -> Result<(), ApiError> {
        let mut last = self.0.lock().await;
        if let Some((_, answer)) = last.as_ref().filter(|(at, _)| at.elapsed() < Self::FRESH) {
            return answer.clone();
        }
        // Without either no request could be taken in.
        let answer = match shared.analyzer.ready().await {
            Ok(()) => shared.jobs.ready().await,
            not => not,
        };
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}
