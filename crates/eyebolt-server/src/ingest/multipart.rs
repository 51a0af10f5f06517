//! A body of `multipart/form-data` (RFC 7578): the image as it is, settings as one JSON part or as simple fields.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use multer::{Field, Multipart};

use super::{
    Declared, IngestError, Received,
    body::{BodyReader, Intake},
    fields::Fields,
    mistakes,
    request::Settings,
};
use crate::problem::shown;

/// The part `request`, or any simple field, bytes.
const MAX_SETTING_BYTES: u64 = 64 << 10;

/// What stands behind the last boundary, bytes. RFC 2046 lets something stand there; nobody sends much.
const MAX_EPILOGUE_BYTES: u64 = 64 << 10;

/// Set aside at once for an announced image; beyond it memory grows as bytes arrive, so that announcing is cheap
/// for the server too.
const MAX_HEAD_START: u64 = 1 << 20;

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Of the image, bytes.
    pub(super) file: u64,
    /// The body's announced length, bytes.
    pub(super) announced: Option<u64>,
}

/// The parts that have come.
#[derive(Debug, Default)]
struct Draft {
    image: Option<(Vec<u8>, Declared)>,
    document: Option<Vec<u8>>,
    fields: Fields,
}

pub(super) async fn read(
    body: BodyReader,
    boundary: String,
    limits: Limits,
) -> Result<Received, IngestError> {
    let intake = body.intake().clone();
    let mut stream = Box::pin(body.into_stream());
    let mut draft = Draft::default();
    {
        let mut parts = Multipart::new(&mut stream, boundary);
        while let Some(part) = parts.next_field().await? {
            intake.parsed();
            draft.take(part, &intake, limits).await?;
        }
    }
    epilogue(&mut stream, &intake).await?;
    draft.finish()
}

/// What stands behind the last boundary is nobody's, but a body that breaks off there was not sent. It is passed over, and
/// counts in the body's share of the budget: so it has a bound.
pub(super) async fn epilogue(
    pieces: &mut (impl Stream<Item = Result<Bytes, IngestError>> + Unpin),
    intake: &Intake,
) -> Result<(), IngestError> {
    let mut found = 0;
    while let Some(piece) = pieces.next().await {
        found += piece?.len() as u64;
        intake.parsed();
        if found > MAX_EPILOGUE_BYTES {
            let limit = MAX_EPILOGUE_BYTES;
            return Err(IngestError::TooLarge { what: "max_epilogue_bytes", limit, found });
        }
    }
    Ok(())
}

impl Draft {
    async fn take(&mut self, part: Field<'_>, intake: &Intake, limits: Limits) -> Result<(), IngestError> {
        let name = part.name().unwrap_or("without-a-name").to_owned();
        match name.as_str() {
            "image" if self.image.is_some() => Err(IngestError::Twice { name }),
            "image" => {
                let declared = Declared::of(part.file_name(), part.content_type().map(AsRef::as_ref));
                let capacity = limits.announced.unwrap_or(0).min(MAX_HEAD_START);
                let image = collect(part, intake, (limits.file, capacity)).await?;
                let image = image.map_err(|found| IngestError::FileTooLarge { limit: limits.file, found })?;
                self.image = Some((image, declared));
                Ok(())
            }
            "request" if self.document.is_some() => Err(IngestError::Twice { name }),
            "request" => {
                if !may_be_json(&part) {
                    return Err(IngestError::UnsupportedMediaType {
                        what: "part request",
                        known: &["application/json"],
                    });
                }
                self.document = Some(setting(part, intake).await?);
                self.one_source()
            }
            _ => self.take_field(&name, part, intake).await,
        }
    }

    async fn take_field(&mut self, name: &str, part: Field<'_>, intake: &Intake) -> Result<(), IngestError> {
        // The name is checked with an empty value first: the text of an unknown part is never read.
        if !Fields::default().insert(name, "")? {
            return Err(IngestError::UnknownPart { name: shown(name) });
        }
        let text = setting(part, intake).await?;
        let text = String::from_utf8(text)
            .map_err(|_| IngestError::Multipart { reason: "a setting is not UTF-8" })?;
        self.fields.insert(name, &text)?;
        self.one_source()
    }

    fn one_source(&self) -> Result<(), IngestError> {
        if self.document.is_some() && !self.fields.is_empty() {
            return Err(IngestError::TwoSources { first: "simple fields", second: "the part request" });
        }
        Ok(())
    }

    fn finish(self) -> Result<Received, IngestError> {
        let (image, declared) = self.image.ok_or(IngestError::MissingImage)?;
        let settings = match self.document {
            Some(text) => Settings::Document(Box::new(mistakes::of_small_json(&text)?), "the part request"),
            None if self.fields.is_empty() => Settings::Unsaid,
            None => Settings::Parts(self.fields),
        };
        Ok(Received { image: image.into(), declared, settings })
    }
}

/// Clients that send a file or a plain form field give it a general type.
fn may_be_json(part: &Field<'_>) -> bool {
    part.content_type().is_none_or(|found| {
        matches!(found.essence_str(), "application/json" | "text/plain" | "application/octet-stream")
    })
}

pub(super) async fn setting(part: Field<'_>, intake: &Intake) -> Result<Vec<u8>, IngestError> {
    collect(part, intake, (MAX_SETTING_BYTES, 0)).await?.map_err(|found| IngestError::TooLarge {
        what: "max_setting_bytes",
        limit: MAX_SETTING_BYTES,
        found,
    })
}

/// The whole part, or how much of it had come when it crossed the limit.
async fn collect(
    mut part: Field<'_>,
    intake: &Intake,
    (limit, capacity): (u64, u64),
) -> Result<Result<Vec<u8>, u64>, IngestError> {
    let mut whole = Vec::with_capacity(capacity as usize);
    while let Some(piece) = part.chunk().await? {
        intake.parsed();
        let found = (whole.len() + piece.len()) as u64;
        if found > limit {
            return Ok(Err(found));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(Ok(whole))
}
