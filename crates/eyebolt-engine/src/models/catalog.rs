//! Models on disk: a folder each, with `model.toml` and the files that it names.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use eyebolt_types::{
    Feature, ModelManifest,
    manifest::{Decoder, Fit},
};
use thiserror::Error;

/// A manifest and the folder that it was found in.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) manifest: ModelManifest,
    pub(crate) folder: PathBuf,
}

/// Why a folder with a manifest is not a model.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ManifestError {
    #[error("{path}: {reason}")]
    Unreadable { path: PathBuf, reason: String },
    #[error("{path}: {reason}")]
    Wrong { path: PathBuf, reason: String },
    #[error("{first} and {second} are both {id}")]
    Twice { id: String, first: PathBuf, second: PathBuf },
}

/// Reads every `*/model.toml` below `folder`, sorted by folder name. A missing folder holds no model.
///
/// What can't be used is told beside what can: one broken manifest must not take the others away.
pub(crate) fn read(folder: &Path) -> (Vec<Entry>, Vec<ManifestError>) {
    let (mut entries, mut errors): (Vec<Entry>, _) = (Vec::new(), Vec::new());
    let mut folders: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    folders.sort();
    for folder in folders.into_iter().filter(|path| path.join("model.toml").is_file()) {
        match read_one(&folder) {
            Ok(entry) => match entries.iter().find(|other| other.manifest.id() == entry.manifest.id()) {
                Some(other) => errors.push(ManifestError::Twice {
                    id: entry.manifest.id().to_string(),
                    first: other.folder.clone(),
                    second: entry.folder,
                }),
                None => entries.push(entry),
            },
            Err(error) => errors.push(error),
        }
    }
    (entries, errors)
}

fn read_one(folder: &Path) -> Result<Entry, ManifestError> {
    let path = folder.join("model.toml");
    let unreadable = |reason: String| ManifestError::Unreadable { path: path.clone(), reason };
    let text = fs::read_to_string(&path).map_err(|error| unreadable(error.to_string()))?;
    let manifest: ModelManifest = toml::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
    check(&manifest).map_err(|reason| ManifestError::Wrong { path, reason })?;
    Ok(Entry { manifest, folder: folder.to_owned() })
}

/// What the types of a manifest can't say.
fn check(manifest: &ModelManifest) -> Result<(), String> {
    manifest.id().to_string().parse::<eyebolt_types::ModelId>()?;
    for file in files(manifest) {
        if Path::new(file).components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(format!("{file:?} is not a file beside the manifest"));
        }
    }
    let task = match manifest.decoder {
        Decoder::Ssd { .. } | Decoder::Yolox { .. } => Feature::Objects,
        Decoder::Centerface { .. } => Feature::Faces,
        Decoder::Classifier { .. } => Feature::Labels,
        Decoder::DbText { .. } | Decoder::LineOrientation {} | Decoder::CtcText { .. } => Feature::Text,
    };
    if manifest.task != task {
        return Err(format!("the decoder answers {task}, the manifest says {}", manifest.task));
    }
    let names_things = matches!(task, Feature::Objects | Feature::Labels);
    if names_things && manifest.labels_file.is_none() {
        return Err(format!("a model for {task} needs labels_file"));
    }
    let fixed = manifest.input.width > 0 && manifest.input.height > 0;
    if names_things && (!fixed || manifest.input.fit == Fit::Multiple32) {
        return Err(format!("a model for {task} needs an input of fixed width and height"));
    }
    if manifest.input.width.max(manifest.input.height) > 4096 {
        return Err("an input side is larger than 4096".to_owned());
    }
    Ok(())
}

fn files(manifest: &ModelManifest) -> impl Iterator<Item = &str> {
    let extra = match &manifest.decoder {
        Decoder::Ssd { anchors_file, .. } => Some(anchors_file),
        Decoder::CtcText { characters_file } => Some(characters_file),
        _ => None,
    };
    [Some(&manifest.file), manifest.labels_file.as_ref(), extra].into_iter().flatten().map(String::as_str)
}
