//! What makes two batches the same: what is asked of them, and of each item of what image, in their order. The form of the body
//! does not count.

use std::{collections::HashMap, time::Duration};

use aws_lc_rs::digest::{Context, SHA256, digest};
use eyebolt_types::{AnalyzeRequest, ErrorCode, FieldError, id::ImageId};

use crate::{
    ApiError,
    idempotency::IdempotencyKey,
    ingest::{BatchHead, BatchItem, ItemPlace},
};

/// The image of an item, as it is known by.
#[derive(Debug, Clone, Copy)]
pub(super) enum Image {
    /// By its bytes.
    Bytes([u8; 32]),
    /// By its name.
    Stored(ImageId),
    /// It can't be taken.
    Refused(ErrorCode),
}

/// A digest of all that came so far.
pub(super) struct Fingerprint(Context);

impl Fingerprint {
    /// Of what is asked of the whole batch.
    pub(super) fn of(head: &BatchHead, expires_in: Duration) -> Self {
        let mut fingerprint = Self(Context::new(&SHA256));
        let rate = head.max_failure_rate.to_be_bytes();
        let told = head.webhook_url.as_deref().unwrap_or_default();
        let (priority, expires_in) = (head.priority.to_be_bytes(), expires_in.as_secs().to_be_bytes());
        for part in [b"eyebolt batch 1".as_slice(), &priority, &rate, &expires_in, told.as_bytes()] {
            fingerprint.take(part);
        }
        fingerprint
    }

    /// The next item.
    pub(super) fn item(&mut self, item: &BatchItem, image: Image) {
        let asked = AnalyzeRequest { reprocess: false, ..item.request.clone() };
        if let Some(key) = &item.key {
            // No custom_id begins so: without a key an item is known by what it always was.
            self.take(&[b"\0", key.as_str().as_bytes()].concat());
        }
        self.take(item.custom_id.as_bytes());
        self.take(&serde_json::to_vec(&asked).expect("a request is plain data"));
        match image {
            Image::Bytes(sha256) => self.take(&sha256),
            Image::Stored(id) => self.take(id.to_string().as_bytes()),
            Image::Refused(code) => self.take(code.as_str().as_bytes()),
        }
    }

    /// Of the whole batch.
    pub(super) fn finish(self) -> Vec<u8> {
        self.0.finish().as_ref().to_vec()
    }

    fn take(&mut self, part: &[u8]) {
        self.0.update(&(part.len() as u64).to_be_bytes());
        self.0.update(part);
    }
}

/// The names and the keys of a batch's items, each at most once.
#[derive(Debug, Default)]
pub(super) struct Names {
    custom_ids: Once,
    keys: Once,
}

/// Where each text stands that is there once.
#[derive(Debug, Default)]
struct Once(HashMap<[u8; 16], ItemPlace>);

impl Names {
    /// Takes an item's.
    ///
    /// # Errors
    /// `duplicate_custom_id` or `duplicate_idempotency_key`, with both places.
    pub(super) fn take(&mut self, item: &BatchItem) -> Result<(), ApiError> {
        let (name, place) = (item.custom_id.as_str(), item.place);
        if let Some(first) = self.custom_ids.take(name, place) {
            return Err(twice(ErrorCode::DuplicateCustomId, ("custom_id", name), (first, place)));
        }
        let Some(key) = item.key.as_ref().map(IdempotencyKey::as_str) else { return Ok(()) };
        match self.keys.take(key, place) {
            Some(first) => {
                Err(twice(ErrorCode::DuplicateIdempotencyKey, ("idempotency_key", key), (first, place)))
            }
            None => Ok(()),
        }
    }
}

impl Once {
    /// Where the same text stood before.
    fn take(&mut self, text: &str, place: ItemPlace) -> Option<ItemPlace> {
        let digest = digest(&SHA256, text.as_bytes());
        let known = digest.as_ref()[..16].try_into().expect("SHA-256 has 32 bytes");
        self.0.insert(known, place)
    }
}

fn twice(code: ErrorCode, (what, text): (&str, &str), (first, second): (ItemPlace, ItemPlace)) -> ApiError {
    let mut error = ApiError::new(code, format!("The {what} of {second} is that of {first} too."));
    let place = FieldError::new(format!("/{what}"), code, format!("is that of {first} too"));
    error.problem_mut().errors = vec![second.at(place)];
    let params = &mut error.problem_mut().params;
    params.insert(what.to_owned(), crate::problem::shown(text).into());
    params.insert("first".to_owned(), first.to_string().into());
    params.insert("second".to_owned(), second.to_string().into());
    error
}
