//! Files beside the rows: images and large answers. A name ends in the SHA-256 of the content, so that what is read can
//! be checked; a blob is durable before the row that names it is written, and one that no row names is swept.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use futures_util::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use object_store::{ObjectStore, ObjectStoreExt, local::LocalFileSystem};

use crate::{Store, StoreError};

/// A blob without a row is left for so long: its row may still be on the way.
const ORPHAN_AGE: SignedDuration = SignedDuration::from_hours(1);

/// Names that are compared with the rows at once.
const BATCH: usize = 500;

/// A place for blobs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Blobs {
    files: Arc<dyn ObjectStore>,
}

impl Blobs {
    /// A folder, made where it is missing. Each blob is written beside its place, synced, renamed, and its folder
    /// synced.
    ///
    /// # Errors
    /// Where the folder can't be made.
    pub fn in_folder(folder: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(folder).map_err(|error| unavailable(&error))?;
        let files = LocalFileSystem::new_with_prefix(folder).map_err(|error| unavailable(&error))?;
        Ok(Self { files: Arc::new(files.with_fsync(true)) })
    }

    /// Writes a blob; it is durable after.
    ///
    /// # Errors
    /// [`StoreError::Full`] where there is no room, [`StoreError::Unavailable`] where it can't be written.
    pub async fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        // What is there already is written again all the same: a sweep may be about to remove it, but not one so young.
        self.files.put(&name.into(), bytes.into()).await.map_err(of_store)?;
        Ok(())
    }

    /// Reads a blob and checks it against the digest in its name.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where it is gone or its content differs, [`StoreError::Unavailable`] where it can't be
    /// read.
    pub async fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        let found = self.files.get(&name.into()).await.map_err(of_store)?;
        let bytes = found.bytes().await.map_err(of_store)?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
        if name.rsplit(['/', '-']).next() == Some(hex::encode(digest).as_str()) {
            return Ok(bytes);
        }
        Err(StoreError::Corrupt {
            what: format!("the blob {name} has another content than when it was written"),
        })
    }

    /// Removes blobs that no row names, except young ones. How many.
    ///
    /// # Errors
    /// Where blobs or rows can't be read.
    pub async fn sweep(&self, store: &Store, now: Timestamp) -> Result<usize, StoreError> {
        let mut listed = self.files.list(None);
        let (mut removed, mut names) = (0, Vec::new());
        loop {
            let next = listed.try_next().await.map_err(of_store)?;
            let ended = next.is_none();
            names.extend(next.filter(|blob| is_old(blob, now)).map(|blob| blob.location.to_string()));
            if names.len() >= BATCH || (ended && !names.is_empty()) {
                for name in store.unknown_blobs(std::mem::take(&mut names)).await? {
                    removed += usize::from(self.remove_old(&name, now).await?);
                }
            }
            if ended {
                return Ok(removed);
            }
        }
    }
}

impl Blobs {
    /// Removes blobs that nothing names; what is gone already is no mistake. What can't be removed now is found by
    /// [`Blobs::sweep`].
    ///
    /// # Errors
    /// Where one can't be removed; the others were.
    pub async fn remove(&self, names: &[String]) -> Result<(), StoreError> {
        let mut removed = Ok(());
        for name in names {
            match self.files.delete(&name.as_str().into()).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => removed = Err(of_store(error)),
            }
        }
        removed
    }

    /// Removes a blob, unless it was written anew since it was listed: then its row is on the way.
    async fn remove_old(&self, name: &str, now: Timestamp) -> Result<bool, StoreError> {
        let path = name.into();
        let old = is_old(&self.files.head(&path).await.map_err(of_store)?, now);
        if old {
            self.files.delete(&path).await.map_err(of_store)?;
        }
        Ok(old)
    }
}

fn is_old(blob: &object_store::ObjectMeta, now: Timestamp) -> bool {
    blob.last_modified.timestamp() < (now - ORPHAN_AGE).as_second()
}

fn unavailable(error: &dyn std::error::Error) -> StoreError {
    StoreError::Unavailable { reason: error.to_string() }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn of_store(error: object_store::Error) -> StoreError {
    match &error {
        object_store::Error::NotFound { path, .. } => {
            StoreError::Corrupt { what: format!("the blob {path} is gone") }
        }
        other if is_full(other) => StoreError::Full,
        _ => StoreError::Unavailable { reason: error.to_string() },
    }
}

/// Whether somewhere below there is a full disk.
fn is_full(error: &object_store::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            let full = [std::io::ErrorKind::StorageFull, std::io::ErrorKind::QuotaExceeded];
            return full.contains(&io.kind());
        }
        source = error.source();
    }
    false
}
