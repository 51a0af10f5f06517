//! Image bytes: small ones in a row, larger ones in a blob that is there before the row that names it.

use eyebolt_types::{Mode, id::ProjectId};

use crate::{Store, StoreError};

/// Images up to this size are kept in their row, bytes: one fsync takes row and image.
pub const MAX_INLINE: usize = 32 << 10;

/// Documents up to this size are kept in their row, bytes.
pub const MAX_INLINE_DOCUMENT: usize = 256 << 10;

const IMAGE_KNOWN: &str = "SELECT id FROM images WHERE project_id = $1 AND mode = $2 AND sha256 = $3";
const DOCUMENT_KNOWN: &str = "SELECT id FROM jobs WHERE id = $1 AND document_digest = $2";

/// The name of the blob that holds an image.
pub fn image_blob((project, mode): (ProjectId, Mode), sha256: &[u8]) -> String {
    let digest = hex::encode(sha256);
    format!("images/{project}/{}/{}/{digest}", mode.name(), &digest[..2])
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
                        ["images", project, mode, _, digest] => {
                            let Ok(digest) = hex::decode(digest) else { continue };
                            let key = [(*project).into(), (*mode).into(), digest.into()];
                            transaction.query_one(IMAGE_KNOWN, &key)?
                        }
                        ["documents", job, _] => {
                            transaction.query_one(DOCUMENT_KNOWN, &[(*job).into(), name.as_str().into()])?
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
