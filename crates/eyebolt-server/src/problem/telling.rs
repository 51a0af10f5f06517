//! Events and webhooks.

use eyebolt_types::{ErrorCode, FieldError};

use super::{ApiError, sentence};
use crate::{batches, events::EventError, jobs::missing, webhooks::WebhookError};

/// When a client that has too many streams may ask again, seconds.
const STREAM_PAUSE: u32 = 5;

impl From<EventError> for ApiError {
    fn from(error: EventError) -> Self {
        match error {
            EventError::TooManyStreams { name, limit, found, .. } => {
                let mut refused = Self::new(ErrorCode::TooManyStreams, sentence(&error));
                refused.problem.retry_after = Some(STREAM_PAUSE);
                refused.limited(name, limit, found)
            }
            EventError::Removed { after, removed } => Self::new(ErrorCode::EventsExpired, sentence(&error))
                .with("last_event_id", after)
                .with("removed", removed),
            EventError::Unknown => Self::wrong_field("Last-Event-ID", error.to_string()),
            EventError::NoJob => missing(),
            EventError::NoBatch => batches::missing(),
            EventError::Store(error) => error.into(),
        }
    }
}

impl From<WebhookError> for ApiError {
    fn from(error: WebhookError) -> Self {
        use ErrorCode as Code;
        let refused = |code| Self::new(code, sentence(&error));
        match error {
            WebhookError::Address(ref what) => {
                let place = FieldError::new("/url", Code::WebhookUrlRefused, what.to_string());
                Self::new(Code::WebhookUrlRefused, format!("The address {what}.")).at(vec![place])
            }
            WebhookError::Invalid { field, what } => Self::wrong_field(&format!("/{field}"), what),
            WebhookError::NoSecret => {
                let place = FieldError::new("/webhook_url", Code::WebhookUrlRefused, error.to_string());
                refused(Code::WebhookUrlRefused).at(vec![place])
            }
            WebhookError::Exists(id) => {
                refused(Code::WebhookEndpointExists).with("webhook_endpoint", id.to_string())
            }
            WebhookError::TooMany { name, limit, found, .. } => {
                refused(Code::WebhookLimit).limited(name, limit, found)
            }
            WebhookError::NoEndpoint => refused(Code::WebhookEndpointNotFound),
            WebhookError::NoDelivery => refused(Code::DeliveryNotFound),
            WebhookError::Off => refused(Code::WebhookEndpointOff),
            WebhookError::Sealed => {
                tracing::error!(%error, "a webhook can't be signed");
                Self::new(Code::Internal, "The server can't read the secret of the endpoint.")
            }
            WebhookError::Store(error) => error.into(),
        }
    }
}
