use eyebolt_types::{ErrorCode, FieldError, Scope};

use super::{ApiError, of_fields, sentence};
use crate::access::{AccessError, KeyError};

impl From<AccessError> for ApiError {
    /// Whoever is not let in has sent a body in vain: it is not read.
    fn from(error: AccessError) -> Self {
        use ErrorCode as Code;
        let refused = |code| Self::new(code, sentence(&error)).closing();
        match error {
            AccessError::NoKey => refused(Code::Unauthorized),
            AccessError::Malformed | AccessError::Unknown => refused(Code::InvalidApiKey),
            AccessError::Expired => refused(Code::ExpiredApiKey),
            AccessError::Revoked => refused(Code::RevokedApiKey),
            AccessError::Scope { needed, ref granted } => refused(Code::InsufficientScope)
                .with("needed", needed.name())
                .with("granted", granted.iter().copied().map(Scope::name).collect::<Vec<_>>()),
            AccessError::TooManyFailures { limit, found, wait } => {
                let mut waits =
                    refused(Code::TooManyFailedAttempts).limited("failures_per_minute", limit, found);
                let seconds = (wait.as_millis() + 999) / 1000;
                waits.problem.retry_after = Some(u32::try_from(seconds).unwrap_or(60).max(1));
                waits
            }
            AccessError::AdminOff => refused(Code::AdminApiOff),
            AccessError::WrongToken => refused(Code::InvalidAdminToken),
            AccessError::Store(error) => Self::from(error).closing(),
        }
    }
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        use ErrorCode as Code;
        let refused = |code| Self::new(code, sentence(&error));
        match error {
            KeyError::ProjectExists => refused(Code::ProjectExists),
            KeyError::NoProject => refused(Code::ProjectNotFound),
            KeyError::NoKey => refused(Code::KeyNotFound),
            KeyError::Over => refused(Code::KeyOver),
            KeyError::Invalid { field, what } => {
                of_fields(&[FieldError::new(format!("/{field}"), Code::InvalidParameter, what)])
            }
            KeyError::Store(error) => error.into(),
        }
    }
}
