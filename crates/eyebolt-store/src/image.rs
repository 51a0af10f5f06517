//! Image bytes: small ones in a row, larger ones in a blob that is there before the row that names it.

use bytes::Bytes;
use eyebolt_types::{
    Mode,
    id::{ImageId, JobId, ProjectId},
};

use crate::{Blobs, Store, StoreError};

/// Images up to this size are kept in their row, bytes: one fsync takes row and image, where a file costs two more.
pub const MAX_INLINE: usize = 128 << 10;

/// Documents up to this size are kept in their row, bytes.
pub const MAX_INLINE_DOCUMENT: usize = 256 << 10;

const IMAGE_KNOWN: &str = "SELECT id FROM images WHERE id = $1 AND removed_at IS NULL";
const FORMER_IMAGE_KNOWN: &str =
    "SELECT id FROM images WHERE project_id = $1 AND mode = $2 AND sha256 = $3 AND removed_at IS NULL";
const DOCUMENT_KNOWN: &str = "SELECT id FROM jobs WHERE id = $1 AND document_digest = $2";

/// The name of the blob that holds an image. It is the image's own: the same content sent again, after this image was
/// removed, has another one.
pub fn image_blob((project, mode): (ProjectId, Mode), image: ImageId, sha256: &[u8]) -> String {
    let digest = hex::encode(sha256);
    format!("images/{project}/{}/{}/{image}-{digest}", mode.name(), &digest[..2])
}

/// The name that it had before images were removed.
pub(crate) fn former_image_blob((project, mode): (ProjectId, Mode), sha256: &[u8]) -> String {
    let digest = hex::encode(sha256);
    format!("images/{project}/{}/{}/{digest}", mode.name(), &digest[..2])
}

/// The name of the blob that holds a document of a job.
pub fn document_blob(job: JobId, sha256: &[u8]) -> String {
    let digest = hex::encode(sha256);
    // Few folders: those that are empty are not removed.
    format!("documents/{}/{job}-{digest}", &digest[..2])
}

impl Blobs {
    /// Reads an image.
    ///
    /// # Errors
    /// As [`Blobs::get`].
    pub async fn image(
        &self,
        whose: (ProjectId, Mode),
        (image, sha256): (ImageId, &[u8]),
    ) -> Result<Bytes, StoreError> {
        match self.get(&image_blob(whose, image, sha256)).await {
            Err(gone @ StoreError::Corrupt { .. }) => {
                self.get(&former_image_blob(whose, sha256)).await.map_err(|_| gone)
            }
            read => read,
        }
    }
}

impl Store {
    /// Those of the names that no row knows. A name that is not one of ours is left alone.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn unknown_blobs(&self, names: Vec<String>) -> Result<Vec<String>, StoreError> {
        self.database
            .read(move |transaction| {
                let mut unknown = Vec::new();
                for name in &names {
                    let parts: Vec<_> = name.split('/').collect();
                    let known = match parts.as_slice() {
                        ["images", project, mode, _, file] => {
                            if let Some((image, _)) = file.rsplit_once('-') {
                                transaction.query_one(IMAGE_KNOWN, &[image.into()])?
                            } else {
                                let Ok(digest) = hex::decode(file) else { continue };
                                let key = [(*project).into(), (*mode).into(), digest.into()];
                                transaction.query_one(FORMER_IMAGE_KNOWN, &key)?
                            }
                        }
                        ["documents", folder, file] => {
                            let job = file.rsplit_once('-').map_or(*folder, |(job, _)| job);
                            transaction.query_one(DOCUMENT_KNOWN, &[job.into(), name.as_str().into()])?
                        }
                        _ => continue,
                    };
                    if known.is_none() {
                        unknown.push(name.clone());
                    }
                }
                Ok(unknown)
            })
            .await
    }
}
