use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::ErrorCode;

/// A refusal or failure as RFC 9457 has it: the body of every answer that is not a success.
///
/// `detail` is for people and never parsed; `code` and `params` are for programs and stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Where the code is explained.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same for each problem of this code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time, and how to mend it.
    pub detail: String,
    /// The request path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The machine's name for it: a row of `GET /v1/errors`.
    pub code: ErrorCode,
    /// Whether the same request can succeed later.
    pub retryable: bool,
    /// Seconds to wait before that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
    /// The request, in the log too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Names, limits and values found.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, Value>,
    /// The places at fault, where there are several or where a place can be named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Names of the limits that are used up, as in the header `RateLimit-Policy`.
    #[serde(default, rename = "violated-policies", skip_serializing_if = "Vec::is_empty")]
    pub violated_policies: Vec<String>,
    /// The step that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
}

impl Problem {
    /// A problem of this code with what the catalogue knows of it.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        let row = code.row();
        Self {
            kind: code.doc_path(),
            title: row.title.to_owned(),
            status: row.status,
            detail: detail.into(),
            instance: None,
            code,
            retryable: row.retryable,
            retry_after: row.retryable.then_some(1),
            request_id: None,
            params: BTreeMap::new(),
            errors: Vec::new(),
            violated_policies: Vec::new(),
            step: None,
        }
    }

    /// Adds a name, limit or found value.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.params.insert(name.to_owned(), value.into());
        self
    }

    /// Adds the places at fault.
    #[must_use]
    pub fn at(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// Says how long to wait, at least one second; only for codes that can be retried.
    #[must_use]
    pub fn after(mut self, seconds: u32) -> Self {
        self.retry_after = self.retryable.then_some(seconds.max(1));
        self
    }
}

/// One place at fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) into the request, or the name of a part or header.
    pub pointer: String,
    /// What is wrong there.
    pub code: ErrorCode,
    /// In a few words.
    pub detail: String,
}

impl FieldError {
    /// A fault at a place.
    pub fn new(pointer: impl Into<String>, code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code, detail: detail.into() }
    }
}
