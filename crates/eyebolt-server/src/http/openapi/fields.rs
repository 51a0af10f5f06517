//! The simple fields, as parameters of the query and as parts of a form: both from the schema of `AnalyzeRequest`.

use eyebolt_types::{AnalyzeRequest, request};
use utoipa::{
    IntoParams, PartialSchema,
    openapi::{
        RefOr, Required, Schema,
        path::{Parameter, ParameterBuilder, ParameterIn, ParameterStyle},
        schema::{Object, SchemaType, Type},
    },
};

use crate::ingest::{FIELDS, Kind};

/// The query of `POST /v1/analyze`.
pub(in crate::http) struct SimpleFields;

impl IntoParams for SimpleFields {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        described().map(|(name, kind, schema)| parameter(name, kind, schema)).collect()
    }
}

fn parameter(name: &str, kind: Kind, schema: RefOr<Schema>) -> Parameter {
    let description = description_of(&schema);
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(description)
        .schema(Some(schema));
    if kind == Kind::List {
        // One value, words between commas.
        return parameter.style(Some(ParameterStyle::Form)).explode(Some(false)).build();
    }
    parameter.build()
}

/// Every field with the schema of its value.
pub(super) fn described() -> impl Iterator<Item = (&'static str, Kind, RefOr<Schema>)> {
    FIELDS.into_iter().filter_map(|(name, kind)| Some((name, kind, present(schema_of(name)?))))
}

/// A field is there or not; it can't be `null`.
fn present(schema: RefOr<Schema>) -> RefOr<Schema> {
    match schema {
        RefOr::T(Schema::Object(mut object)) => {
            object.schema_type = without_null(object.schema_type);
            object.default = None;
            object.into()
        }
        RefOr::T(Schema::Array(mut array)) => {
            array.schema_type = without_null(array.schema_type);
            array.default = None;
            array.into()
        }
        RefOr::T(Schema::OneOf(either)) => {
            let wanted = either.items.iter().find(|item| matches!(item, RefOr::Ref(_))).cloned();
            wanted.unwrap_or(RefOr::T(Schema::OneOf(either)))
        }
        other => other,
    }
}

fn without_null(types: SchemaType) -> SchemaType {
    match types {
        SchemaType::Array(types) => match types.into_iter().find(|one| *one != Type::Null) {
            Some(one) => SchemaType::Type(one),
            None => SchemaType::AnyValue,
        },
        other => other,
    }
}

fn schema_of(name: &str) -> Option<RefOr<Schema>> {
    let (owner, property) = name.split_once('.').unwrap_or(("", name));
    let owner = match owner {
        "" => AnalyzeRequest::schema(),
        "objects" => request::ObjectParameters::schema(),
        "faces" => request::FaceParameters::schema(),
        "text" => request::TextParameters::schema(),
        "barcodes" => request::BarcodeParameters::schema(),
        "labels" => request::LabelParameters::schema(),
        "embedding" => request::EmbeddingParameters::schema(),
        _ => return None,
    };
    let RefOr::T(Schema::Object(object)) = owner else { return None };
    object.properties.get(property).cloned()
}

fn description_of(schema: &RefOr<Schema>) -> Option<String> {
    match schema {
        RefOr::Ref(reference) => Some(reference.description.clone()).filter(|text| !text.is_empty()),
        RefOr::T(Schema::Object(Object { description, .. })) => description.clone(),
        RefOr::T(Schema::Array(array)) => array.description.clone(),
        RefOr::T(_) => None,
    }
}
