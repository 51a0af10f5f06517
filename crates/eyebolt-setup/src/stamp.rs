//! `setup.json`: what is known of each file that was brought, so that looking is enough the next time.

use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use serde::{Deserialize, Serialize};

use crate::{
    catalogue::Source,
    digest::sha256_of,
    error::SetupError,
    install::{Scratch, replace_file},
};

const FILE: &str = "setup.json";

/// All files that were brought, by path relative to the models directory.
#[derive(Debug)]
pub(crate) struct Stamps {
    models_dir: PathBuf,
    files: BTreeMap<String, Stamp>,
    changed: bool,
}

/// A file as it was when its digest was taken. A file with the same size and time counts as unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    /// Time of the last change, nanoseconds since 1970.
    modified: u64,
    sha256: String,
}

impl Stamps {
    /// What `setup.json` says; nothing where it is missing or unreadable, which costs one round of hashing.
    pub(crate) fn load(models_dir: &Path) -> Self {
        let text = fs::read(models_dir.join(FILE)).unwrap_or_default();
        let files = serde_json::from_slice(&text).unwrap_or_default();
        Self { models_dir: models_dir.to_owned(), files, changed: false }
    }

    /// Total size of a source whose files are all there with their pinned digests; `None` if one isn't.
    pub(crate) fn sound_bytes(&mut self, source: &Source) -> Option<u64> {
        let mut total = 0;
        for file in &source.files {
            total += self.sound_file(&source.path_of(file), &file.sha256)?;
        }
        Some(total)
    }

    fn sound_file(&mut self, path: &str, sha256: &str) -> Option<u64> {
        let full = self.models_dir.join(path);
        let metadata = fs::symlink_metadata(&full).ok().filter(Metadata::is_file)?;
        let (bytes, modified) = (metadata.len(), modified(&metadata)?);
        let known = self.files.get(path);
        if known.is_some_and(|known| known.bytes == bytes && known.modified == modified) {
            return known.is_some_and(|known| known.sha256 == sha256).then_some(bytes);
        }
        let found = sha256_of(File::open(&full).ok()?, &mut |_| ()).ok()?;
        let sound = found == sha256;
        self.files.insert(path.to_owned(), Stamp { bytes, modified, sha256: found });
        self.changed = true;
        sound.then_some(bytes)
    }

    /// Notes the files of a source that was just brought.
    pub(crate) fn note(&mut self, source: &Source) {
        for file in &source.files {
            let path = source.path_of(file);
            let metadata = fs::metadata(self.models_dir.join(&path)).ok();
            let stamp = metadata.and_then(|metadata| {
                let sha256 = file.sha256.clone();
                Some(Stamp { bytes: metadata.len(), modified: modified(&metadata)?, sha256 })
            });
            if let Some(stamp) = stamp {
                self.files.insert(path, stamp);
                self.changed = true;
            }
        }
    }

    /// Writes `setup.json`, if there is news.
    pub(crate) fn save(&mut self, scratch: &Scratch) -> Result<(), SetupError> {
        if !self.changed {
            return Ok(());
        }
        let path = self.models_dir.join(FILE);
        let text = serde_json::to_vec_pretty(&self.files)
            .map_err(|error| SetupError::io("write", &path, error.into()))?;
        replace_file(scratch, &path, &text)?;
        self.changed = false;
        Ok(())
    }
}

fn modified(metadata: &Metadata) -> Option<u64> {
    let since = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}
