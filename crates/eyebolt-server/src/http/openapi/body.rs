//! The forms of the bodies of `POST /v1/analyze` and `POST /v1/batches`.

use serde_json::{Value, json};
use utoipa::{
    ToSchema,
    openapi::{
        Content, ContentBuilder, OpenApi as Document, Ref, RefOr, Required, Schema,
        encoding::{Encoding, EncodingBuilder},
        example::{Example, ExampleBuilder},
        path::ParameterStyle,
        request_body::{RequestBody, RequestBodyBuilder},
        schema::{AdditionalProperties, ObjectBuilder, Type},
    },
};

use super::fields;
use crate::{
    http::batches::{BatchDocument, BatchItemDocument},
    ingest::{Document as JsonBody, Kind},
};

pub(super) fn describe(document: &mut Document) {
    let analyze = document.paths.paths.get_mut("/v1/analyze").and_then(|path| path.post.as_mut());
    if let Some(analyze) = analyze {
        analyze.request_body = Some(RefOr::T(request_body()));
    }
    let batch = document.paths.paths.get_mut("/v1/batches").and_then(|path| path.post.as_mut());
    if let Some(batch) = batch {
        batch.request_body = Some(RefOr::T(batch_body()));
    }
    let Some(components) = document.components.as_mut() else { return };
    for (name, schema) in [
        (BatchDocument::name().into_owned(), <BatchDocument as utoipa::PartialSchema>::schema()),
        (BatchItemDocument::name().into_owned(), <BatchItemDocument as utoipa::PartialSchema>::schema()),
    ] {
        components.schemas.insert(name, schema);
    }
    let mut schemas = vec![("AnalyzeForm".to_owned(), RefOr::T(form()))];
    schemas.push((JsonBody::name().into_owned(), <JsonBody<'_> as utoipa::PartialSchema>::schema()));
    <eyebolt_types::AnalyzeRequest as ToSchema>::schemas(&mut schemas);
    schemas.push((
        "AnalyzeRequest".to_owned(),
        <eyebolt_types::AnalyzeRequest as utoipa::PartialSchema>::schema(),
    ));
    components.schemas.extend(schemas);
}

fn request_body() -> RequestBody {
    RequestBodyBuilder::new()
        .description(Some("The image, and what is asked of it."))
        .required(Some(Required::True))
        .content("multipart/form-data", multipart())
        .content("application/json", json_body())
        .build()
}

/// The three forms of a batch.
fn batch_body() -> RequestBody {
    let items = json!([
        {"custom_id": "a.jpg", "image_base64": "/9j/4AAQSkZJRg=="},
        {"custom_id": "b.jpg", "image_base64": "/9j/4AAQSkZJRg==", "features": ["faces"]}
    ]);
    let document = json!({"features": ["objects"], "max_failure_rate": 0.1, "items": items});
    let of = |name: std::borrow::Cow<'_, str>, value: Value| {
        ContentBuilder::new()
            .schema(Some(Ref::from_schema_name(name)))
            .examples_from_iter([("items", example("Two images", value))])
            .build()
    };
    let form = ObjectBuilder::new().schema_type(Type::Object).description(Some(
        "Settings as the part `request` or as simple fields; then files. A part `image` is named by its file's name, any other \
         by its own; a JSON part `item` right before a file holds its `custom_id` and settings.",
    ));
    RequestBodyBuilder::new()
        .description(Some("The images, and what is asked of them."))
        .required(Some(Required::True))
        .content("application/json", of(BatchDocument::name(), document))
        .content("application/x-ndjson", of(BatchItemDocument::name(), items[0].clone()))
        .content("multipart/form-data", ContentBuilder::new().schema(Some(form)).build())
        .build()
}

fn multipart() -> Content {
    let examples = [
        (
            "fields",
            example("The image and simple fields", json!({"image": "(bytes)", "features": "objects,text"})),
        ),
        (
            "request",
            example(
                "The image and one JSON part",
                json!({"image": "(bytes)", "request": {
                    "features": ["objects"], "parameters": {"objects": {"min_confidence": 0.6}}
                }}),
            ),
        ),
    ];
    let form = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("AnalyzeForm")))
        .examples_from_iter(examples)
        .encoding("image", encoding("image/*, application/octet-stream"))
        .encoding("request", encoding("application/json"));
    let lists = fields::described().filter(|(_, kind, _)| *kind == Kind::List);
    lists.fold(form, |form, (name, ..)| form.encoding(name, words_between_commas())).build()
}

fn json_body() -> Content {
    let document = json!({"image_base64": "/9j/4AAQSkZJRg==", "features": ["faces"], "detail": "low"});
    ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(JsonBody::name())))
        .examples_from_iter([("faces", example("Faces at low detail", document))])
        .build()
}

fn example(summary: &str, value: Value) -> Example {
    ExampleBuilder::new().summary(summary).value(Some(value)).build()
}

fn encoding(content_type: &str) -> Encoding {
    EncodingBuilder::new().content_type(Some(content_type)).build()
}

fn words_between_commas() -> Encoding {
    EncodingBuilder::new().style(Some(ParameterStyle::Form)).explode(Some(false)).build()
}

/// The parts. A dotted part is a parameter of a feature.
fn form() -> Schema {
    let image = ObjectBuilder::new()
        .schema_type(Type::String)
        .content_media_type("application/octet-stream")
        .description(Some("The file, as it is. Its name is optional, and only the extension is looked at."));
    let mut form = ObjectBuilder::new()
        .description(Some(
            "The image, and either the part `request` or simple fields. A list is words between commas.",
        ))
        .property("image", image)
        .required("image")
        .property("request", Ref::from_schema_name("AnalyzeRequest"))
        .additional_properties(Some(AdditionalProperties::FreeForm(false)));
    for (name, _, schema) in fields::described() {
        form = form.property(name, schema);
    }
    form.into()
}
