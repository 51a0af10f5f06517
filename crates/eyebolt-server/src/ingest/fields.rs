//! Simple fields: `features=objects,text`, `detail=low`, `objects.min_confidence=0.5`, in the query or as parts.

use eyebolt_types::{AnalyzeRequest, ErrorCode, FieldError};
use serde_json::{Map, Value};

use super::{IngestError, request};
use crate::problem::shown;

/// How the text of a field is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// As it is.
    Text,
    /// A decimal number.
    Number,
    /// `true` or `false`.
    Flag,
    /// Words between commas.
    List,
}

/// Every simple field; a dotted one is a parameter of a feature. Held to the schema of `AnalyzeRequest` by a test.
pub(crate) const FIELDS: [(&str, Kind); 30] = [
    ("features", Kind::List),
    ("pipeline", Kind::Text),
    ("detail", Kind::Text),
    ("quality_gate", Kind::Text),
    ("reprocess", Kind::Flag),
    ("degrade", Kind::Text),
    ("webhook_url", Kind::Text),
    ("validate_only", Kind::Flag),
    ("objects.model", Kind::Text),
    ("objects.min_confidence", Kind::Number),
    ("objects.max_results", Kind::Number),
    ("objects.labels", Kind::List),
    ("objects.detail", Kind::Text),
    ("faces.model", Kind::Text),
    ("faces.min_confidence", Kind::Number),
    ("faces.max_results", Kind::Number),
    ("faces.detail", Kind::Text),
    ("faces.input_size", Kind::Number),
    ("text.model", Kind::Text),
    ("text.min_confidence", Kind::Number),
    ("text.max_results", Kind::Number),
    ("text.detail", Kind::Text),
    ("text.languages", Kind::List),
    ("text.auto_rotate", Kind::Flag),
    ("barcodes.formats", Kind::List),
    ("barcodes.max_results", Kind::Number),
    ("labels.model", Kind::Text),
    ("labels.min_confidence", Kind::Number),
    ("labels.max_results", Kind::Number),
    ("embedding.model", Kind::Text),
];

/// The fields of one request, each at most once.
#[derive(Debug, Default)]
pub(crate) struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    /// The query's fields.
    pub(super) fn of_query(query: Vec<(String, String)>) -> Result<Self, IngestError> {
        let mut fields = Self::default();
        for (name, text) in query {
            if !fields.insert(&name, &text)? {
                return Err(unknown(&name));
            }
        }
        Ok(fields)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a field; `false` where the name is not even shaped like one.
    pub(super) fn insert(&mut self, name: &str, text: &str) -> Result<bool, IngestError> {
        let Some((name, kind)) = FIELDS.into_iter().find(|(known, _)| *known == name) else {
            return if name.contains('.') { Err(unknown(name)) } else { Ok(false) };
        };
        if self.0.iter().any(|(there, _)| *there == name) {
            return Err(IngestError::Twice { name: name.to_owned() });
        }
        self.0.push((name, value_of(text, kind)));
        Ok(true)
    }

    /// Adds the fields of another place.
    pub(super) fn join(mut self, others: Self) -> Result<Self, IngestError> {
        for (name, value) in others.0 {
            if self.0.iter().any(|(there, _)| *there == name) {
                return Err(IngestError::Twice { name: name.to_owned() });
            }
            self.0.push((name, value));
        }
        Ok(self)
    }

    /// The request that they spell. Places of errors are names of fields.
    pub(super) fn into_request(self) -> Result<AnalyzeRequest, IngestError> {
        let mut request = self.into_members();
        request.entry("features").or_insert_with(|| Value::Array(Vec::new()));
        request::of_value(Value::Object(request)).map_err(|mut error| {
            error.pointer = name_of(&error.pointer);
            IngestError::Fields(vec![error])
        })
    }

    /// The same as members of a JSON document: only what is said.
    pub(super) fn into_members(self) -> Map<String, Value> {
        let mut request = Map::new();
        let mut parameters = Map::new();
        for (name, value) in self.0 {
            match name.split_once('.') {
                None => _ = request.insert(name.to_owned(), value),
                Some((feature, parameter)) => {
                    let of_feature = parameters.entry(feature).or_insert_with(|| Value::Object(Map::new()));
                    of_feature[parameter] = value;
                }
            }
        }
        if !parameters.is_empty() {
            request.insert("parameters".to_owned(), Value::Object(parameters));
        }
        request
    }
}

/// The field that a JSON pointer into the request means.
pub(crate) fn name_of(pointer: &str) -> String {
    let path = pointer.strip_prefix("/parameters/").or(pointer.strip_prefix('/')).unwrap_or(pointer);
    let name = path.replace('/', ".");
    let known = FIELDS.iter().find(|(known, _)| {
        name.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    });
    known.map_or(name.clone(), |(known, _)| (*known).to_owned())
}

fn unknown(name: &str) -> IngestError {
    let feature = name.split_once('.').map_or("", |(feature, _)| feature);
    let of_feature = |known: &&str| known.split_once('.').is_some_and(|(owner, _)| owner == feature);
    let mut known: Vec<&str> = FIELDS.iter().map(|(known, _)| *known).filter(of_feature).collect();
    if known.is_empty() {
        known = FIELDS.iter().map(|(known, _)| *known).collect();
    }
    let detail = format!("is not known; known are {}", known.join(", "));
    IngestError::Fields(vec![FieldError::new(shown(name), ErrorCode::UnknownParameter, detail)])
}

/// Text that is not of its kind stays text: the typed reader then names the place and what it expects.
fn value_of(text: &str, kind: Kind) -> Value {
    let text = text.trim();
    let as_text = || Value::from(text);
    match kind {
        Kind::Text => as_text(),
        Kind::Flag => text.parse::<bool>().map_or_else(|_| as_text(), Value::from),
        Kind::Number => match (text.parse::<u64>(), text.parse::<f64>()) {
            (Ok(whole), _) => Value::from(whole),
            (_, Ok(number)) if number.is_finite() => Value::from(number),
            _ => as_text(),
        },
        Kind::List => {
            text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(Value::from).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use utoipa::{PartialSchema, openapi::RefOr, openapi::schema::Schema};

    use super::*;

    fn properties<T: PartialSchema>() -> BTreeSet<String> {
        let RefOr::T(Schema::Object(object)) = T::schema() else { panic!("an object schema") };
        object.properties.keys().cloned().collect()
    }

    #[test]
    fn every_setting_of_a_request_has_its_field() {
        use eyebolt_types::request as r;
        let mut wanted: BTreeSet<String> =
            properties::<AnalyzeRequest>().into_iter().filter(|name| name != "parameters").collect();
        let features = [
            ("objects", properties::<r::ObjectParameters>()),
            ("faces", properties::<r::FaceParameters>()),
            ("text", properties::<r::TextParameters>()),
            ("barcodes", properties::<r::BarcodeParameters>()),
            ("labels", properties::<r::LabelParameters>()),
            ("embedding", properties::<r::EmbeddingParameters>()),
            ("quality", properties::<r::QualityParameters>()),
        ];
        assert_eq!(
            properties::<r::Parameters>(),
            features.iter().map(|(name, _)| (*name).to_owned()).collect()
        );
        for (feature, names) in features {
            wanted.extend(names.into_iter().map(|name| format!("{feature}.{name}")));
        }
        assert_eq!(FIELDS.map(|(name, _)| name.to_owned()).into_iter().collect::<BTreeSet<_>>(), wanted);
    }

    #[test]
    fn places_read_as_fields() {
        assert_eq!(name_of("/features/1"), "features");
        assert_eq!(name_of("/parameters/objects/min_confidence"), "objects.min_confidence");
        assert_eq!(name_of("/parameters/objects/labels/3"), "objects.labels");
        assert_eq!(name_of("/detail"), "detail");
    }
}
