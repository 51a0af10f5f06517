//! Items as files of a form. A part `image` is named by its file's name, any other by its own; a JSON part `item` right before
//! a file says more of it. What is said of the whole batch stands before the first of them.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use multer::{Field, Multipart};
use serde_json::{Map, Value};

use super::{Draft, ItemImage, ItemPlace, SIMPLE_FIELDS, documents::Misplaced};
use crate::{
    ApiError,
    ingest::{
        Declared, IngestError,
        body::{BodyReader, Intake},
        fields::Fields,
        multipart, request,
    },
};

type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, IngestError>> + Send>>;

/// Items part by part.
pub(super) struct Files {
    parts: Multipart<'static>,
    /// What the parser reads: asked again for what stands behind the last boundary.
    pieces: Arc<Mutex<Pieces>>,
    intake: Arc<Intake>,
    file: u64,
    part: u64,
    /// The first file or `item`, that ended the head.
    waiting: Option<Field<'static>>,
    over: bool,
}

impl Files {
    pub(super) fn new(body: BodyReader, boundary: String, file: u64) -> Self {
        let intake = body.intake().clone();
        let pieces: Arc<Mutex<Pieces>> = Arc::new(Mutex::new(Box::pin(body.into_stream())));
        let parts = Multipart::new(shared(&pieces), boundary);
        Self { parts, pieces, intake, file, part: 0, waiting: None, over: false }
    }

    /// The settings before the first item, and where they came from.
    pub(super) async fn head(&mut self) -> Result<(Map<String, Value>, &'static str), IngestError> {
        let (mut fields, mut document) = (Fields::default(), None);
        let mut own = Map::new();
        while let Some(part) = self.part().await? {
            let name = part.name().unwrap_or_default().to_owned();
            match name.as_str() {
                "request" if document.is_some() => return Err(IngestError::Twice { name }),
                "request" => {
                    let text = multipart::setting(part, &self.intake).await?;
                    document = Some(request::of_json::<Map<String, Value>>(&text)?);
                }
                "priority" | "max_failure_rate" | "expires_in" => {
                    let text = text(multipart::setting(part, &self.intake).await?)?;
                    let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
                    if own.insert(name.clone(), value).is_some() {
                        return Err(IngestError::Twice { name });
                    }
                }
                _ if part.file_name().is_none() && Fields::default().insert(&name, "")? => {
                    let text = text(multipart::setting(part, &self.intake).await?)?;
                    fields.insert(&name, &text)?;
                }
                _ => {
                    self.waiting = Some(part);
                    break;
                }
            }
        }
        match document {
            Some(_) if !fields.is_empty() || !own.is_empty() => {
                Err(IngestError::TwoSources { first: SIMPLE_FIELDS, second: "the part request" })
            }
            Some(document) => Ok((document, "the part request")),
            None if fields.is_empty() => Ok((own, SIMPLE_FIELDS)),
            None => {
                own.extend(fields.into_members());
                Ok((own, SIMPLE_FIELDS))
            }
        }
    }

    /// The next file.
    pub(super) async fn next(&mut self) -> Result<Option<Draft>, Misplaced> {
        let mut said = None;
        loop {
            let part = match self.waiting.take() {
                Some(part) => Some(part),
                None if self.over => None,
                None => self.part().await.map_err(|error| (error, None))?,
            };
            let place = ItemPlace::Part(self.part);
            let misplaced = |error| (error, Some(place));
            let Some(part) = part else {
                return if said.is_some() { Err((IngestError::MissingImage, Some(place))) } else { Ok(None) };
            };
            let name = part.name().unwrap_or_default().to_owned();
            if name == "item" {
                let text = multipart::setting(part, &self.intake).await.map_err(misplaced)?;
                let members = request::of_json::<Map<String, Value>>(&text).map_err(misplaced)?;
                if said.replace(members).is_some() {
                    return Err(misplaced(IngestError::MissingImage));
                }
                continue;
            }
            return self.draft(part, (name, said), place).await.map(Some).map_err(misplaced);
        }
    }

    async fn draft(
        &mut self,
        part: Field<'static>,
        (name, said): (String, Option<Map<String, Value>>),
        place: ItemPlace,
    ) -> Result<Draft, IngestError> {
        let declared = Declared::of(part.file_name(), part.content_type().map(AsRef::as_ref));
        let own_name = if name == "image" { part.file_name().map(str::to_owned) } else { Some(name) };
        let mut settings = said.unwrap_or_default();
        let custom_id = match settings.remove("custom_id") {
            Some(Value::String(custom_id)) => Some(custom_id),
            Some(_) => return Err(super::wrong("/custom_id", "must be a string")),
            None => own_name.filter(|name| !name.is_empty()),
        };
        let image = match self.file(part).await? {
            Ok(bytes) => ItemImage::File(bytes.into(), declared),
            Err(found) => {
                let limit = self.file;
                ItemImage::Refused(Box::new(ApiError::from(IngestError::FileTooLarge { limit, found })))
            }
        };
        Ok(Draft { place, custom_id, settings, image: Some(image) })
    }

    /// The file, or how much of it came where it is too large: the rest is passed over.
    async fn file(&mut self, mut part: Field<'static>) -> Result<Result<Vec<u8>, u64>, IngestError> {
        let (mut whole, mut found) = (Vec::new(), 0);
        while let Some(piece) = part.chunk().await? {
            self.intake.parsed();
            found += piece.len() as u64;
            if found > self.file {
                whole = Vec::new();
                self.intake.forget();
            } else {
                whole.extend_from_slice(&piece);
            }
        }
        Ok(if found > self.file { Err(found) } else { Ok(whole) })
    }

    /// The next part. A body that breaks off behind the last boundary was not sent.
    async fn part(&mut self) -> Result<Option<Field<'static>>, IngestError> {
        let part = self.parts.next_field().await?;
        self.intake.parsed();
        if part.is_none() && !self.over {
            self.over = true;
            multipart::epilogue(&mut shared(&self.pieces), &self.intake).await?;
        }
        self.part += 1;
        Ok(part)
    }
}

/// The pieces, for one of several readers. None holds the lock while it waits: the parser still waits for more when it has found
/// the last boundary.
fn shared(
    pieces: &Arc<Mutex<Pieces>>,
) -> impl Stream<Item = Result<Bytes, IngestError>> + Send + Unpin + use<> {
    let pieces = Arc::clone(pieces);
    stream::poll_fn(move |context| {
        pieces.lock().unwrap_or_else(PoisonError::into_inner).as_mut().poll_next(context)
    })
}

fn text(bytes: Vec<u8>) -> Result<String, IngestError> {
    String::from_utf8(bytes).map_err(|_| IngestError::Multipart { reason: "a setting is not UTF-8" })
}
