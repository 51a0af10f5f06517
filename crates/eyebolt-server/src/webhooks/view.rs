//! Endpoints and deliveries as projects see them.

use eyebolt_store::{Endpoint, EndpointState, StoredDelivery};
use eyebolt_types::{
    EventType, Mode,
    id::{EndpointId, EventId},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Scheme;

/// Who is told.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = WebhookEndpoint)]
pub struct EndpointView {
    /// Its name.
    pub id: EndpointId,
    /// Always `webhook_endpoint`.
    pub object: String,
    /// Real or sandbox: of what it is told.
    pub mode: Mode,
    /// Where messages go.
    pub url: String,
    /// In the project's words.
    pub description: String,
    /// Of what it is told; `null`: of everything.
    pub events: Option<Vec<EventType>>,
    /// How its messages are signed.
    pub signature: Scheme,
    /// Whether it is told.
    pub status: EndpointStatus,
    /// Since when it is not.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub disabled_at: Option<Timestamp>,
    /// Since when it took nothing.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub failing_since: Option<Timestamp>,
    /// Until when it wants to be left alone.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub throttled_until: Option<Timestamp>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// Whether an endpoint is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndpointStatus {
    /// It is.
    Enabled,
    /// The project switched it off.
    Disabled,
    /// It answered 410.
    Gone,
    /// It took nothing for too long.
    Failing,
}

impl From<EndpointState> for EndpointStatus {
    fn from(state: EndpointState) -> Self {
        match state {
            EndpointState::Enabled => Self::Enabled,
            EndpointState::Disabled => Self::Disabled,
            EndpointState::Gone => Self::Gone,
            EndpointState::Failing => Self::Failing,
        }
    }
}

impl From<Endpoint> for EndpointView {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            id: endpoint.id,
            object: "webhook_endpoint".to_owned(),
            mode: endpoint.mode,
            url: endpoint.url,
            description: endpoint.description,
            events: endpoint.events,
            signature: Scheme::named(&endpoint.signature),
            status: endpoint.state.into(),
            disabled_at: endpoint.disabled_at,
            failing_since: endpoint.failing_since,
            throttled_until: endpoint.throttled_until,
            created_at: endpoint.created_at,
        }
    }
}

/// All endpoints of a project and mode.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = WebhookEndpointList)]
pub struct EndpointList {
    /// Always `list`.
    pub object: String,
    /// Oldest first.
    pub data: Vec<EndpointView>,
}

/// An endpoint with a new secret. No `Debug`: it holds the secret.
#[derive(Serialize, ToSchema)]
#[schema(as = NewWebhookEndpoint)]
pub struct NewEndpointView {
    /// What is known of it.
    #[serde(flatten)]
    pub endpoint: EndpointView,
    /// What the receiver verifies messages with, `whsec_…` or `whpk_…`. It is told here and never again.
    pub secret: String,
}

/// A new secret. No `Debug`.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookSecret)]
pub struct SecretView {
    /// Always `webhook_secret`.
    pub object: String,
    /// What the receiver verifies messages with. It is told here and never again.
    pub secret: String,
}

/// An endpoint that was removed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = DeletedWebhookEndpoint)]
pub struct DeletedEndpoint {
    /// Its name.
    pub id: EndpointId,
    /// Always `webhook_endpoint`.
    pub object: String,
    /// Always true.
    pub deleted: bool,
}

/// An event on its way to an endpoint.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = WebhookDelivery)]
pub struct DeliveryView {
    /// What is delivered: the header `webhook-id`.
    pub event: EventId,
    /// Always `webhook_delivery`.
    pub object: String,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// Where it stands.
    pub status: DeliveryStatus,
    /// Attempts since it was last begun anew.
    pub attempts: u32,
    /// When it is tried next.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_attempt_at: Option<Timestamp>,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was over.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// What came of the last 20 attempts, oldest first.
    pub log: Vec<AttemptView>,
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    /// It is sent at its time.
    Pending,
    /// The receiver took it.
    Delivered,
    /// Nobody tries any more; it can be replayed.
    Failed,
}

/// One attempt to deliver.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = WebhookAttempt)]
pub struct AttemptView {
    /// Where it was sent.
    pub url: String,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// How long it took, milliseconds.
    pub duration_ms: u64,
    /// The HTTP status of the answer.
    pub status: Option<u16>,
    /// Why there was no answer.
    pub error: Option<String>,
    /// The first 1024 bytes of the answer; what is no UTF-8 is replaced.
    pub answer: String,
}

impl From<StoredDelivery> for DeliveryView {
    fn from(delivery: StoredDelivery) -> Self {
        let attempts = delivery.log.into_iter().map(|attempt| AttemptView {
            url: attempt.url,
            started_at: attempt.started_at,
            duration_ms: u64::try_from(attempt.took.as_millis()).unwrap_or(u64::MAX),
            status: attempt.status,
            error: attempt.error,
            answer: String::from_utf8_lossy(&attempt.answer).into_owned(),
        });
        Self {
            event: delivery.event,
            object: "webhook_delivery".to_owned(),
            kind: delivery.kind,
            status: delivery.state.into(),
            attempts: delivery.attempts,
            next_attempt_at: delivery.next_at,
            created_at: delivery.created_at,
            finished_at: delivery.finished_at,
            log: attempts.collect(),
        }
    }
}

/// A page of deliveries.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = WebhookDeliveryList)]
pub struct DeliveryList {
    /// Always `list`.
    pub object: String,
    /// Newest first.
    pub data: Vec<DeliveryView>,
    /// Whether there are more.
    pub has_more: bool,
    /// Where the next page begins.
    pub next_cursor: Option<String>,
}

/// What was begun anew.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = WebhookReplay)]
pub struct ReplayView {
    /// Always `webhook_replay`.
    pub object: String,
    /// So many deliveries.
    pub replayed: u64,
    /// Whether there may be more: ask again once these are delivered.
    pub has_more: bool,
}
