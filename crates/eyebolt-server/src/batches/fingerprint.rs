//! What makes two batches the same: what is asked of them, and of each item of what image, in their order. The form of the body
//! does not count.

use std::{collections::HashMap, time::Duration};

use aws_lc_rs::digest::{Context, SHA256, digest};
use eyebolt_types::{AnalyzeRequest, ErrorCode, id::ImageId};

use crate::{
    ApiError,
    ingest::{BatchHead, ItemPlace},
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
    pub(super) fn item(&mut self, custom_id: &str, request: &AnalyzeRequest, image: Image) {
        let asked = AnalyzeRequest { reprocess: false, ..request.clone() };
        self.take(custom_id.as_bytes());
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

/// The names of a batch's items, each at most once.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<[u8; 16], ItemPlace>);

impl Names {
    /// Takes a name.
    ///
    /// # Errors
    /// `duplicate_custom_id`, with both places.
    pub(super) fn take(&mut self, name: &str, place: ItemPlace) -> Result<(), ApiError> {
        let digest = digest(&SHA256, name.as_bytes());
        let known = digest.as_ref()[..16].try_into().expect("SHA-256 has 32 bytes");
        let Some(first) = self.0.insert(known, place) else { return Ok(()) };
        let detail = format!("The custom_id of {place} is that of {first} too.");
        let mut error = ApiError::new(ErrorCode::DuplicateCustomId, detail);
        let params = &mut error.problem_mut().params;
        params.insert("custom_id".to_owned(), crate::problem::shown(name).into());
        params.insert("first".to_owned(), first.to_string().into());
        params.insert("second".to_owned(), place.to_string().into());
        Err(error)
    }
}
