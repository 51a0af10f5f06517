//! A body with many images, read item by item: one JSON document, lines of JSON, or a form of files. What is in memory is one
//! item, however long the body is.

mod documents;
mod files;
mod head;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use eyebolt_types::{AnalyzeRequest, ErrorCode, FieldError, id::ImageId};
use http::header;
use serde_json::{Map, Value};

pub(crate) use self::{documents::no_image, head::BatchHead};
use self::{
    documents::{Array, Lines},
    files::Files,
};
use super::{
    BodyMemory, Declared, Incoming, Ingest, IngestError,
    body::{BodyLimits, BodyReader, Intake},
};
use crate::{ApiError, config, idempotency::IdempotencyKey};

/// Characters of a `custom_id`.
pub(crate) const MAX_CUSTOM_ID: usize = 255;

/// Where the settings of a form come from that has no part `request`.
const SIMPLE_FIELDS: &str = "simple fields";

/// What a batch's body may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    /// Bytes of the whole body.
    pub(crate) max_bytes: u64,
    /// How long it may take.
    pub(crate) timeout: std::time::Duration,
}

/// Where an item stands in its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemPlace {
    /// In this line, from 1.
    Line(u64),
    /// In this element of `items`, from 0.
    Element(u64),
    /// In this part, from 1.
    Part(u64),
}

impl fmt::Display for ItemPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Element(index) => write!(f, "/items/{index}"),
            Self::Part(part) => write!(f, "part {part}"),
        }
    }
}

impl ItemPlace {
    /// An error with the place where it is.
    pub(crate) fn tell(self, error: ApiError) -> ApiError {
        let mut error = error;
        let problem = error.problem_mut();
        problem.detail = format!("{self}: {}", problem.detail);
        problem.errors =
            std::mem::take(&mut problem.errors).into_iter().map(|field| self.at(field)).collect();
        problem.params.insert("place".to_owned(), self.to_string().into());
        error
    }

    /// Where what is asked can be said, of an item of which nothing is.
    fn nothing_asked(self) -> &'static str {
        match self {
            Self::Line(_) => {
                "names no feature: ask features or a pipeline in the line, or of all of them in the query"
            }
            Self::Element(_) => {
                "names no feature: ask features or a pipeline in the item, or of all of them before `items`, the last member"
            }
            Self::Part(_) => {
                "names no feature: ask features or a pipeline before the first file, where settings of all of them come"
            }
        }
    }

    /// What may be said of an item beside what is asked of it.
    fn own_members(self) -> &'static [&'static str] {
        match self {
            Self::Part(_) => &["custom_id", "idempotency_key"],
            _ => &["custom_id", "image_base64", "image_id", "idempotency_key"],
        }
    }

    /// A fault inside the item, with the item's place.
    pub(crate) fn at(self, mut field: FieldError) -> FieldError {
        field.pointer = match self {
            Self::Element(_) => format!("{self}{}", field.pointer),
            _ => format!("{self}: {}", field.pointer),
        };
        field
    }
}

/// One item of a batch, as it came.
#[derive(Debug)]
pub(crate) struct BatchItem {
    /// Where it stands.
    pub(crate) place: ItemPlace,
    /// The client's name for it.
    pub(crate) custom_id: String,
    /// The key that it is known by beside all analyses of the project.
    pub(crate) key: Option<IdempotencyKey>,
    /// What is asked of it.
    pub(crate) request: AnalyzeRequest,
    /// Its image.
    pub(crate) image: ItemImage,
}

/// The image of an item.
#[derive(Debug)]
pub(crate) enum ItemImage {
    /// It came along.
    File(Bytes, Declared),
    /// It was stored before.
    Stored(ImageId),
    /// It came, and can't be taken.
    Refused(Box<ApiError>),
}

/// An item before what it asks was read.
struct Draft {
    place: ItemPlace,
    custom_id: Option<String>,
    settings: Map<String, Value>,
    image: Option<ItemImage>,
}

/// A batch's body.
pub(crate) struct BatchBody {
    source: Source,
    head: Option<BatchHead>,
    defaults: Map<String, Value>,
    intake: Arc<Intake>,
}

enum Source {
    Lines(Lines),
    Array(Array),
    Files(Files),
}

impl Ingest {
    /// The body of a batch. Nothing of it is read yet.
    ///
    /// # Errors
    /// Where its form is not known, or it is announced too large.
    pub(crate) fn batch(&self, incoming: Incoming, limits: BatchLimits) -> Result<BatchBody, ApiError> {
        self.open_batch(incoming, limits).map_err(|error| ApiError::from(error).closing())
    }

    fn open_batch(&self, incoming: Incoming, limits: BatchLimits) -> Result<BatchBody, IngestError> {
        let intake = Intake::new(self.budget.clone(), &incoming.body);
        let (lines, announced) = (is_lines(&incoming.headers), super::announced_bytes(&incoming.headers));
        let form = if lines { None } else { Some(super::form_of(&incoming.headers)?) };
        let head = (!incoming.query.is_empty()).then(|| BatchHead::of_query(incoming.query)).transpose()?;
        let limits = BodyLimits {
            max_bytes: limits.max_bytes,
            idle: self.settings.body_idle_timeout,
            total: limits.timeout,
        };
        let body = BodyReader::new(incoming.body, limits, intake.clone()).compared(incoming.digest);
        body.refuse_announced(announced)?;
        let (file, item) = (self.max_file_bytes, config::max_body_bytes(self.max_file_bytes));
        let source = match form {
            None => Source::Lines(Lines::new(body, (file, item))),
            Some(super::Form::Json) => Source::Array(Array::new(body, (file, item))),
            Some(super::Form::Multipart { boundary }) => Source::Files(Files::new(body, boundary, file)),
        };
        Ok(BatchBody { source, head, defaults: Map::new(), intake })
    }
}

/// Lines of JSON have no registered media type; these are the ones in use.
fn is_lines(headers: &http::HeaderMap) -> bool {
    let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = said.split(';').next().unwrap_or_default().trim();
    let known =
        ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"];
    known.iter().any(|known| essence.eq_ignore_ascii_case(known))
        && !headers.contains_key(header::CONTENT_ENCODING)
}

impl BatchBody {
    /// What is said of the whole batch: it stands before the items.
    ///
    /// # Errors
    /// Where it can't be read, or says what can't be.
    pub(crate) async fn head(&mut self) -> Result<BatchHead, ApiError> {
        let read = self.read_head().await;
        let head = read.map_err(|error| self.refuse(error))?;
        self.defaults.clone_from(&head.defaults);
        Ok(head)
    }

    async fn read_head(&mut self) -> Result<BatchHead, IngestError> {
        let (said, name) = match &mut self.source {
            Source::Lines(_) => (Map::new(), ""),
            Source::Array(array) => (array.head().await?, "the JSON body"),
            Source::Files(files) => files.head().await?,
        };
        let (head, by_field) = match self.head.take() {
            Some(_) if !said.is_empty() => {
                return Err(IngestError::TwoSources { first: "the query", second: name });
            }
            Some(head) => (head, true),
            None => (BatchHead::of_members(said)?, name == SIMPLE_FIELDS),
        };
        head.check(by_field)?;
        Ok(head)
    }

    /// The next item; `None` at the end. What was held for the one before is given back.
    ///
    /// # Errors
    /// Where it can't be read; then nothing more can be.
    pub(crate) async fn next(&mut self) -> Result<Option<BatchItem>, ApiError> {
        self.intake.forget();
        let draft = match &mut self.source {
            Source::Lines(lines) => lines.next().await,
            Source::Array(array) => array.next().await,
            Source::Files(files) => files.next().await,
        };
        let draft = draft.map_err(|(error, place)| {
            let error = self.refuse(error);
            place.map_or(error.clone(), |place| place.tell(error))
        })?;
        let Some(draft) = draft else { return Ok(None) };
        let place = draft.place;
        self.item(draft).map(Some).map_err(|error| place.tell(self.refuse(error)))
    }

    /// The share of the body budget that the item takes.
    pub(crate) fn memory(&self) -> BodyMemory {
        self.intake.memory()
    }

    /// Closes the connection of an error, where the body was not read to its end.
    pub(crate) fn closing(&self, error: ApiError) -> ApiError {
        if self.intake.is_over() { error } else { error.closing() }
    }

    fn refuse(&self, error: IngestError) -> ApiError {
        self.closing(error.into())
    }

    fn item(&self, mut draft: Draft) -> Result<BatchItem, IngestError> {
        let custom_id = draft.custom_id.ok_or_else(|| wrong("/custom_id", "is missing"))?;
        if custom_id.is_empty()
            || custom_id.chars().count() > MAX_CUSTOM_ID
            || custom_id.chars().any(char::is_control)
        {
            let detail =
                format!("must have 1 to {MAX_CUSTOM_ID} characters, none of them a control character");
            return Err(wrong("/custom_id", &detail));
        }
        let key = own_key(&mut draft.settings)?;
        let image = draft.image.ok_or(IngestError::MissingImage)?;
        let members = merged(&self.defaults, draft.settings);
        if members.contains_key("webhook_url") {
            return Err(wrong("/webhook_url", "belongs to the whole batch"));
        }
        if !["features", "pipeline"].iter().any(|name| members.contains_key(*name)) {
            return Err(wrong("/features", draft.place.nothing_asked()));
        }
        let asked = head::asked(members, draft.place.own_members());
        let asked = asked.map_err(|error| IngestError::Fields(vec![error]))?;
        let errors = asked.check();
        if !errors.is_empty() {
            return Err(IngestError::Fields(errors));
        }
        Ok(BatchItem { place: draft.place, custom_id, key, request: asked, image })
    }
}

/// The key that an item names, as the header Idempotency-Key would; `null` is none.
fn own_key(settings: &mut Map<String, Value>) -> Result<Option<IdempotencyKey>, IngestError> {
    const PLACE: &str = "/idempotency_key";
    match settings.remove("idempotency_key") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => IdempotencyKey::written(&text).map(Some).map_err(|error| {
            let problem = error.problem();
            IngestError::Fields(vec![FieldError::new(PLACE, problem.code, &problem.detail)])
        }),
        Some(_) => Err(wrong(PLACE, "must be a string")),
    }
}

/// What an item says goes before what is said of the whole batch; parameters feature by feature. A pipeline is asked instead
/// of features with all that belongs to them, and features instead of a pipeline.
fn merged(defaults: &Map<String, Value>, own: Map<String, Value>) -> Map<String, Value> {
    let mut all = defaults.clone();
    let says = |name: &str| own.get(name).is_some_and(|value| !value.is_null());
    let replaced: &[_] = match (says("pipeline"), says("features")) {
        (true, _) => &["features", "parameters", "degrade"],
        (false, true) => &["pipeline"],
        (false, false) => &[],
    };
    for name in replaced {
        all.remove(*name);
    }
    for (name, value) in own {
        match (all.get_mut(&name), value) {
            (Some(Value::Object(of_all)), Value::Object(own)) if name == "parameters" => of_all.extend(own),
            (_, value) => _ = all.insert(name, value),
        }
    }
    all
}

fn wrong(place: &str, detail: &str) -> IngestError {
    let error = FieldError::new(place, ErrorCode::InvalidParameter, detail);
    IngestError::Fields(vec![error])
}
