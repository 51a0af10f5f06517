use axum::{Json, extract::State};

use super::{App, caller::Operator, openapi::AdminErrors};
use crate::admission::CapacityReport;

/// How busy is the machine?
///
/// What runs and waits, what the capacity law makes of it, and what it has learned of how long work takes.
#[utoipa::path(
    get, path = "/admin/v1/capacity", tag = "admin", operation_id = "getCapacity", security(("admin_token" = [])),
    responses((status = 200, description = "What the law knows.", body = CapacityReport), AdminErrors)
)]
pub(super) async fn get_capacity(_: Operator, State(App(shared)): State<App>) -> Json<CapacityReport> {
    Json(shared.jobs.admission().report())
}
