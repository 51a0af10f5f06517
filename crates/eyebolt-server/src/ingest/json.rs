//! A body of JSON with the image in base64.

use std::borrow::Cow;

use base64::{DecodeError, Engine, engine::general_purpose::STANDARD};
use eyebolt_types::{
    AnalyzeRequest, Detail, Feature,
    request::{Degrade, Parameters, QualityGate},
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Declared, IngestError, Received, body::BodyReader, request, request::Settings};

/// A request as one JSON document: the settings of `AnalyzeRequest` and the image.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AnalyzeJson)]
pub(crate) struct Document<'a> {
    /// The file in base64 (RFC 4648, section 4, with padding, no line breaks).
    #[serde(borrow)]
    #[schema(value_type = String, content_encoding = "base64")]
    image_base64: Option<Cow<'a, str>>,
    /// What is asked; at least one, each once. Here, or in the query.
    features: Option<Vec<Feature>>,
    /// How closely to look, for every feature that does not say otherwise.
    detail: Option<Detail>,
    /// What happens to an image that is too dark, blurred, empty …
    quality_gate: Option<QualityGate>,
    /// Run it although the image was seen before.
    reprocess: Option<bool>,
    /// Whether the image may be looked at less closely than asked while the machine is busy. The job says so.
    degrade: Option<Degrade>,
    /// Where the job's end is told, beside the project's webhook endpoints.
    webhook_url: Option<String>,
    /// Settings of single features.
    parameters: Option<Parameters>,
}

impl Document<'_> {
    fn settings(&mut self) -> Settings {
        let said = self.features.is_some()
            || self.detail.is_some()
            || self.quality_gate.is_some()
            || self.reprocess.is_some()
            || self.degrade.is_some()
            || self.webhook_url.is_some()
            || self.parameters.is_some();
        if !said {
            return Settings::Unsaid;
        }
        let request = AnalyzeRequest {
            features: self.features.take().unwrap_or_default(),
            detail: self.detail.unwrap_or_default(),
            quality_gate: self.quality_gate.unwrap_or_default(),
            reprocess: self.reprocess.unwrap_or_default(),
            degrade: self.degrade.unwrap_or_default(),
            webhook_url: self.webhook_url.take(),
            parameters: self.parameters.take().unwrap_or_default(),
        };
        Settings::Document(Box::new(request), "the JSON body")
    }
}

pub(super) async fn read(mut body: BodyReader, max_file_bytes: u64) -> Result<Received, IngestError> {
    let mut text = Vec::new();
    while let Some(piece) = body.next().await? {
        text.extend_from_slice(&piece);
    }
    let mut document: Document<'_> = request::of_json(&text)?;
    let settings = document.settings();
    let encoded = document.image_base64.ok_or(IngestError::MissingImage)?;
    let image = decode(&encoded, max_file_bytes)?;
    Ok(Received { image: image.into(), declared: Declared::default(), settings })
}

pub(super) fn decode(encoded: &str, max_file_bytes: u64) -> Result<Vec<u8>, IngestError> {
    let padding = encoded.bytes().rev().take(2).filter(|&byte| byte == b'=').count();
    let found = (encoded.len() / 4 * 3).saturating_sub(padding) as u64;
    if found > max_file_bytes {
        return Err(IngestError::FileTooLarge { limit: max_file_bytes, found });
    }
    STANDARD.decode(encoded).map_err(|error| {
        let position = match error {
            DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
            DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => encoded.len(),
        };
        IngestError::Base64 { position }
    })
}
