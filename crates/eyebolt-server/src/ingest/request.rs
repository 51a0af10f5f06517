//! From JSON or fields to a checked [`AnalyzeRequest`], naming each place at fault.

use eyebolt_types::{AnalyzeRequest, ErrorCode, FieldError};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::{
    IngestError,
    fields::{self, Fields},
};
use crate::problem::shown;

/// Where the settings of a request came from, beside the query.
#[derive(Debug)]
pub(super) enum Settings {
    /// Nowhere.
    Unsaid,
    /// One JSON document, named so.
    Document(Box<AnalyzeRequest>, &'static str),
    /// Parts.
    Parts(Fields),
}

/// Joins body and query into one request and checks every range.
pub(super) fn settle(settings: Settings, query: Fields) -> Result<AnalyzeRequest, IngestError> {
    let (request, by_field) = match settings {
        Settings::Unsaid => (query.into_request()?, true),
        Settings::Parts(parts) => (query.join(parts)?.into_request()?, true),
        Settings::Document(request, _) if query.is_empty() => (*request, false),
        Settings::Document(_, name) => {
            return Err(IngestError::TwoSources { first: "the query", second: name });
        }
    };
    let mut errors = request.check();
    if by_field {
        for error in &mut errors {
            error.pointer = fields::name_of(&error.pointer);
        }
    }
    if errors.is_empty() { Ok(request) } else { Err(IngestError::Fields(errors)) }
}

/// Reads a JSON document.
pub(super) fn of_json<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, IngestError> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let document = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let place = pointer_to(error.path());
        of_serde(place, error.inner())
    })?;
    reader.end().map_err(|error| of_serde(String::new(), &error))?;
    Ok(document)
}

/// Reads a value that was put together here.
pub(super) fn of_value<T: DeserializeOwned>(value: Value) -> Result<T, FieldError> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| field_error(pointer_to(error.path()), &error.inner().to_string()))
}

fn of_serde(place: String, error: &serde_json::Error) -> IngestError {
    let (line, column) = (error.line(), error.column());
    match error.classify() {
        serde_json::error::Category::Data => {
            IngestError::Fields(vec![field_error(place, &error.to_string())])
        }
        serde_json::error::Category::Eof => {
            IngestError::Json { place, line, column, reason: "it ends too early" }
        }
        _ => IngestError::Json { place, line, column, reason: "this is not JSON" },
    }
}

/// A JSON pointer (RFC 6901), with the client's own names made safe.
fn pointer_to(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        let part = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => shown(key).replace('/', "~1"),
            Segment::Enum { variant } => shown(variant).replace('/', "~1"),
            Segment::Unknown => continue,
        };
        pointer.push('/');
        pointer.push_str(&part);
    }
    pointer
}

/// Serde's message in our words. It quotes what the client wrote, so only the part that the schema wrote is kept.
pub(super) fn field_error(place: String, message: &str) -> FieldError {
    let expected = expectation(message);
    if message.starts_with("unknown field") {
        let detail = if expected.is_empty() {
            "is not known; nothing can be set here".to_owned()
        } else {
            format!("is not known; known are {expected}")
        };
        return FieldError::new(place, ErrorCode::UnknownParameter, detail);
    }
    if let Some(rest) = message.strip_prefix("missing field `") {
        let name = rest.split('`').next().unwrap_or_default();
        return FieldError::new(format!("{place}/{name}"), ErrorCode::InvalidParameter, "is missing");
    }
    if message.starts_with("duplicate field") {
        return FieldError::new(place, ErrorCode::InvalidParameter, "stands there twice");
    }
    if message.starts_with("unknown variant") {
        let code = if place.starts_with("/features/") || place.ends_with("/feature") {
            ErrorCode::UnknownFeature
        } else {
            ErrorCode::InvalidParameter
        };
        let found =
            message.strip_prefix("unknown variant `").and_then(|rest| rest.rsplit_once("`, expected "));
        let found = found.map_or_else(String::new, |(found, _)| shown(found));
        return FieldError::new(place, code, format!("names {found}, which is not one of {expected}"));
    }
    let wanted = match expected.as_str() {
        "f32" => "a number",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" => "a whole number, 0 or more",
        "a sequence" => "a list",
        "a boolean" => "true or false",
        other if other.starts_with("struct ") => "an object",
        "" => return FieldError::new(place, ErrorCode::InvalidParameter, "has a value that can't be read"),
        other => other,
    };
    FieldError::new(place, ErrorCode::InvalidParameter, format!("must be {wanted}"))
}

/// Only where serde itself writes the end of the message: a reader's own may hold what the client wrote.
fn expectation(message: &str) -> String {
    if !message.starts_with("invalid ") && !message.starts_with("unknown ") {
        return String::new();
    }
    let Some((_, tail)) = message.rsplit_once(", expected ") else { return String::new() };
    let tail = tail.rsplit_once(" at line ").map_or(tail, |(expected, _)| expected);
    tail.strip_prefix("one of ").unwrap_or(tail).replace('`', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> FieldError {
        match of_json::<AnalyzeRequest>(json.as_bytes()) {
            Err(IngestError::Fields(mut errors)) => errors.remove(0),
            other => panic!("{json}: {other:?}"),
        }
    }

    #[test]
    fn each_mistake_has_its_code_and_place() {
        use ErrorCode::{InvalidParameter, UnknownFeature, UnknownParameter};
        let cases = [
            (r#"{"features": ["objects", "<b>"]}"#, "/features/1", UnknownFeature),
            (r#"{"features": ["text"], "colour": 1}"#, "/colour", UnknownParameter),
            (
                r#"{"features": [], "parameters": {"text": {"a/b": 1}}}"#,
                "/parameters/text/a~1b",
                UnknownParameter,
            ),
            (
                r#"{"features": [], "parameters": {"quality": {"x": 1}}}"#,
                "/parameters/quality/x",
                UnknownParameter,
            ),
            (r#"{"features": [], "detail": "huge"}"#, "/detail", InvalidParameter),
            (r#"{"features": "text"}"#, "/features", InvalidParameter),
            (
                r#"{"features": [], "parameters": {"objects": {"max_results": -1}}}"#,
                "/parameters/objects/max_results",
                InvalidParameter,
            ),
            (
                r#"{"features": [], "parameters": {"objects": {"min_confidence": "<i>"}}}"#,
                "/parameters/objects/min_confidence",
                InvalidParameter,
            ),
        ];
        for (json, place, code) in cases {
            let error = refused(json);
            assert_eq!((error.pointer.as_str(), error.code), (place, code), "{json}: {}", error.detail);
            assert!(
                !error.detail.contains('<') && !error.detail.contains("at line"),
                "{json}: {}",
                error.detail
            );
        }
    }

    #[test]
    fn broken_json_has_a_line_and_a_column() {
        let error =
            of_json::<AnalyzeRequest>(b"{\"features\": [\"text\"],\n \"parameters\": {\"text\": {,}}}");
        let Err(IngestError::Json { place, line, column, .. }) = error else { panic!("{error:?}") };
        assert_eq!((place.as_str(), line, column), ("/parameters/text", 2, 26));
        let rest = of_json::<AnalyzeRequest>(b"{\"features\": [\"text\"]} {}");
        assert!(matches!(rest, Err(IngestError::Json { line: 1, .. })), "{rest:?}");
    }
}
