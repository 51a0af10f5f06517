//! What is said of a whole batch, beside what is asked of each image.

use std::time::Duration;

use eyebolt_types::{AnalyzeRequest, ErrorCode, FieldError};
use serde_json::{Map, Value};

use super::{IngestError, wrong};
use crate::ingest::{
    fields::{self, Fields},
    request,
};

/// What is said of a batch beside what is asked of its images.
const OWN: [&str; 4] = ["priority", "max_failure_rate", "expires_in", "webhook_url"];

/// Seconds that a batch has at least, and at most: a week.
const EXPIRES_IN: (u64, u64) = (60, 7 * 24 * 3600);

/// The least and the greatest priority.
const PRIORITIES: (i64, i64) = (-100, 100);

/// What is said of a whole batch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BatchHead {
    /// Which of a project's batches goes first: the greater.
    pub(crate) priority: i64,
    /// The part of its items that may fail, 0 to 1; beyond it the others are canceled.
    pub(crate) max_failure_rate: f64,
    /// How long its items have; none: as the server says.
    pub(crate) expires_in: Option<Duration>,
    /// Where its end is told.
    pub(crate) webhook_url: Option<String>,
    /// What is asked of each image that does not say otherwise.
    pub(super) defaults: Map<String, Value>,
}

impl BatchHead {
    /// Of members of a JSON document.
    pub(super) fn of_members(mut members: Map<String, Value>) -> Result<Self, IngestError> {
        let priority = members.remove("priority").map(|said| priority(&said)).transpose()?;
        let rate = members.remove("max_failure_rate").map(|said| rate(&said)).transpose()?;
        let expires_in = members.remove("expires_in").map(|said| expires_in(&said)).transpose()?;
        let webhook_url = members.remove("webhook_url").map(|said| {
            said.as_str().map(str::to_owned).ok_or_else(|| wrong("/webhook_url", "must be a string"))
        });
        Ok(Self {
            priority: priority.unwrap_or(0),
            max_failure_rate: rate.unwrap_or(1.0),
            expires_in,
            webhook_url: webhook_url.transpose()?,
            defaults: members,
        })
    }

    /// What is asked of all images, checked once as far as no item can say otherwise. `by_field`: places are names of fields.
    pub(super) fn check(&self, by_field: bool) -> Result<(), IngestError> {
        // Whether features are asked, and beside what, depends on the item.
        let open = |error: &FieldError| matches!(&*error.pointer, "/features" | "/parameters" | "/degrade");
        let mut errors = match asked(self.defaults.clone(), &OWN) {
            Ok(asked) => asked.check().into_iter().filter(|error| !open(error)).collect(),
            Err(error) => vec![error],
        };
        if by_field {
            for error in &mut errors {
                error.pointer = fields::name_of(&error.pointer);
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(IngestError::Fields(errors)) }
    }

    /// Of simple fields.
    pub(super) fn of_query(query: Vec<(String, String)>) -> Result<Self, IngestError> {
        let own = |name: &str| matches!(name, "priority" | "max_failure_rate" | "expires_in");
        let (own, fields): (Vec<_>, Vec<_>) = query.into_iter().partition(|(name, _)| own(name));
        let fields = Fields::of_query(fields).map_err(|error| match error {
            IngestError::Fields(errors) => {
                IngestError::Fields(errors.into_iter().map(|error| known_here(error, &OWN)).collect())
            }
            other => other,
        });
        let mut members = fields?.into_members();
        for (name, text) in own {
            let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
            if members.insert(name.clone(), value).is_some() {
                return Err(IngestError::Twice { name });
            }
        }
        Self::of_members(members)
    }
}

/// What is asked, out of its members. `own`: what may stand in the same place beside it.
pub(super) fn asked(mut members: Map<String, Value>, own: &[&str]) -> Result<AnalyzeRequest, FieldError> {
    if members.contains_key("validate_only") {
        let detail = "is for single images: POST /v1/analyze";
        return Err(FieldError::new("/validate_only", ErrorCode::InvalidParameter, detail));
    }
    members.entry("features").or_insert_with(|| Value::Array(Vec::new()));
    request::of_value(Value::Object(members)).map_err(|error| known_here(error, own))
}

/// An unknown name with the names that are known in a batch: not all that a single image may have.
fn known_here(mut error: FieldError, own: &[&str]) -> FieldError {
    const KNOWN: &str = "is not known; known are ";
    let of_all = !error.pointer.trim_start_matches('/').contains(['/', '.']);
    if error.code == ErrorCode::UnknownParameter
        && of_all
        && let Some(known) = error.detail.strip_prefix(KNOWN)
    {
        let elsewhere = |name: &&str| !["validate_only", "webhook_url"].contains(name);
        let known: Vec<_> = own.iter().copied().chain(known.split(", ").filter(elsewhere)).collect();
        error.detail = format!("{KNOWN}{}", known.join(", "));
    }
    error
}

fn priority(said: &Value) -> Result<i64, IngestError> {
    let (least, most) = PRIORITIES;
    let found = said.as_i64().filter(|found| (least..=most).contains(found));
    found.ok_or_else(|| wrong("/priority", &format!("must be a whole number from {least} to {most}")))
}

fn rate(said: &Value) -> Result<f64, IngestError> {
    let found = said.as_f64().filter(|found| (0.0..=1.0).contains(found));
    found.ok_or_else(|| wrong("/max_failure_rate", "must be a number from 0 to 1"))
}

fn expires_in(said: &Value) -> Result<Duration, IngestError> {
    let (least, most) = EXPIRES_IN;
    let found = said.as_u64().filter(|found| (least..=most).contains(found));
    let found = found.ok_or_else(|| {
        wrong("/expires_in", &format!("must be a number of seconds from {least} to {most}"))
    })?;
    Ok(Duration::from_secs(found))
}
