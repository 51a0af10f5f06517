use axum::{
    extract::{FromRequestParts, State},
    response::IntoResponse,
};
use eyebolt_types::ErrorCode;
use http::{HeaderName, header, request::Parts};

use super::{
    App,
    caller::{self, Peer},
    openapi::MetricsErrors,
};
use crate::{
    ApiError, MetricsReaders,
    metrics::{CONTENT_TYPE, Readings},
};

/// What proxies add. Behind one on this machine everybody comes from it.
const PROXIES: [HeaderName; 4] = [
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-real-ip"),
    header::VIA,
];

/// Proof that who asks may read the metrics.
#[derive(Debug)]
pub(super) struct Reader;

impl FromRequestParts<App> for Reader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, App(shared): &App) -> Result<Self, ApiError> {
        match shared.settings.metrics {
            MetricsReaders::Open => Ok(Self),
            MetricsReaders::Loopback if is_local(parts) => Ok(Self),
            MetricsReaders::Loopback | MetricsReaders::Admin => {
                caller::operator(shared, parts)?;
                Ok(Self)
            }
            MetricsReaders::Off => {
                let detail = "The setting http.metrics is off.";
                Err(ApiError::new(ErrorCode::RouteNotFound, detail).closing())
            }
        }
    }
}

fn is_local(parts: &Parts) -> bool {
    let local = parts.extensions.get::<Peer>().is_some_and(|peer| peer.0.ip().to_canonical().is_loopback());
    local && PROXIES.iter().all(|name| !parts.headers.contains_key(name))
}

/// What happened since the start?
///
/// For Prometheus, as `application/openmetrics-text`. By the setting `http.metrics` for who asks from the server's own machine or
/// shows the admin token, for who shows the token, or for everybody.
#[utoipa::path(
    get, path = "/metrics", tag = "operations", operation_id = "readMetrics", security((), ("admin_token" = [])),
    responses(
        (status = 200, description = "The metrics.", content(
            (String = "application/openmetrics-text", example = "# TYPE eyebolt_capacity_workers gauge\n")
        )),
        MetricsErrors
    )
)]
pub(super) async fn read_metrics(
    _: Reader,
    State(App(shared)): State<App>,
) -> Result<impl IntoResponse, ApiError> {
    let readings = Readings {
        capacity: shared.jobs.admission().report(),
        quotas: shared.quotas.refusals(),
        body_memory: shared.ingest.body_memory(),
        decode_memory: shared.analyzer.memory(),
        runaways: shared.jobs.clients().counts(),
    };
    let written = shared.jobs.metrics().write(&readings);
    let written = written.map_err(|_| ApiError::new(ErrorCode::Internal, "The metrics can't be written."))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")], written))
}
