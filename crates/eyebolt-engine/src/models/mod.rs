//! The models: which there are, what a request means by a name, and their sessions.

mod canary;
mod catalog;
mod loader;
mod pool;
mod running;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use eyebolt_types::{Class, Feature, ModelManifest, manifest::Decoder};

use self::{catalog::Entry, loader::Loader, pool::SessionPool};
pub use self::{catalog::ManifestError, running::Phases};
pub(crate) use self::{pool::Lent, running::Running};
use crate::{BackendError, EngineError, backend::Backend, text::Characters};

/// One model: its manifest, the files beside it, and its sessions.
pub struct Model {
    /// The snapshot, `name@version`.
    pub id: String,
    /// What it is.
    pub manifest: ModelManifest,
    /// Class names, in the order of the outputs; an empty one is a class that is never answered.
    pub labels: Vec<String>,
    /// Names that lead to it, such as `objects/default`.
    pub aliases: Vec<String>,
    pub(crate) anchors: Vec<[f32; 4]>,
    pub(crate) characters: Option<Characters>,
    pub(crate) folder: PathBuf,
    pub(crate) pool: Arc<SessionPool>,
}

impl Model {
    /// Where it is written what its confidences mean.
    pub fn confidence_guide(&self) -> String {
        format!("/v1/models/{}#confidence", self.id)
    }

    /// Why it can't be used, where it can't.
    pub fn failure(&self) -> Option<&str> {
        self.pool.failure()
    }

    fn open(entry: Entry) -> Result<Self, BackendError> {
        let Entry { manifest, folder } = entry;
        let file = |name: &str| -> Result<Vec<u8>, BackendError> {
            let path = folder.join(name);
            std::fs::read(&path).map_err(|error| BackendError::Load {
                backend: "file",
                reason: format!("{}: {error}", path.display()),
            })
        };
        let labels = manifest.labels_file.as_deref().map(&file).transpose()?;
        let labels = labels.map_or_else(Vec::new, |bytes| lines(&bytes));
        let (mut anchors, mut characters) = (Vec::new(), None);
        match &manifest.decoder {
            Decoder::Ssd { anchors_file, .. } => anchors = read_anchors(&file(anchors_file)?),
            Decoder::CtcText { characters_file } => {
                let lines = lines(&file(characters_file)?);
                characters = Some(Characters::new(lines.iter().map(String::as_str)));
            }
            _ => {}
        }
        let aliases = aliases(&manifest);
        let id = manifest.id().to_string();
        Ok(Self { id, manifest, labels, aliases, anchors, characters, folder, pool: SessionPool::new() })
    }

    fn answers_to(&self, name: &str) -> bool {
        self.id == name || self.aliases.iter().any(|alias| alias == name)
    }

    /// Whether it serves the feature in the role of its decoder: a classifier answers `embedding` too.
    fn serves(&self, feature: Feature) -> bool {
        match (&self.manifest.decoder, feature) {
            (Decoder::Classifier { embedding_output, .. }, Feature::Embedding) => embedding_output.is_some(),
            (Decoder::DbText { .. } | Decoder::LineOrientation {}, _) => false,
            _ => self.manifest.task == feature,
        }
    }
}

fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
}

fn read_anchors(bytes: &[u8]) -> Vec<[f32; 4]> {
    let number = |four: &[u8]| f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
    bytes
        .chunks_exact(16)
        .map(|row| [number(&row[0..4]), number(&row[4..8]), number(&row[8..12]), number(&row[12..16])])
        .collect()
}

fn aliases(manifest: &ModelManifest) -> Vec<String> {
    let role = match &manifest.decoder {
        Decoder::DbText { .. } => "text/detection",
        Decoder::LineOrientation {} => "text/orientation",
        _ => manifest.task.name(),
    };
    let mut aliases = Vec::new();
    if manifest.default {
        aliases.push(format!("{role}/default"));
        if matches!(manifest.decoder, Decoder::Classifier { embedding_output: Some(_), .. }) {
            aliases.push("embedding/default".to_owned());
        }
    }
    aliases
}

/// All models of one server.
pub struct Models {
    all: Vec<Arc<Model>>,
    loader: Arc<Loader>,
    backend: Arc<dyn Backend>,
    /// Folders whose manifest or files can't be used.
    errors: Vec<String>,
}

impl Models {
    /// Reads the manifests below `folder` and starts to load: default models first, `sessions` of each in the end.
    pub fn open(folder: &Path, backend: Arc<dyn Backend>, sessions: usize) -> Self {
        let (entries, errors) = catalog::read(folder);
        let mut errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        let mut all = Vec::new();
        for entry in entries {
            let id = entry.manifest.id();
            match Model::open(entry) {
                Ok(model) => all.push(Arc::new(model)),
                Err(error) => errors.push(format!("{id}: {error}")),
            }
        }
        // Small models first, so that the first answers come soonest.
        let mut order = all.clone();
        order.sort_by_key(|model: &Arc<Model>| (!model.manifest.default, model.manifest.task));
        let loader = Loader::start(Arc::clone(&backend), &order, sessions.max(1));
        Self { all, loader, backend, errors }
    }

    /// Every model, sorted by folder name.
    pub fn all(&self) -> &[Arc<Model>] {
        &self.all
    }

    /// What can't be used, in a sentence each.
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    /// The backend that computes.
    pub fn backend(&self) -> &'static str {
        self.backend.name()
    }

    /// The model that a request means: a snapshot, an alias, a bare name (its last version), or nothing, which is the
    /// default of the feature.
    ///
    /// # Errors
    /// Where there is none of this name, it does another task, or the feature has no default model.
    pub fn resolve(&self, feature: Feature, name: Option<&str>) -> Result<Arc<Model>, EngineError> {
        let Some(name) = name else {
            let alias = format!("{feature}/default");
            return self.find(&alias).ok_or_else(|| EngineError::FeatureUnavailable {
                feature,
                reason: "no default model is installed for it: run eyebolt setup".to_owned(),
            });
        };
        let model = self.find(name).ok_or_else(|| EngineError::UnknownModel { name: name.to_owned() })?;
        if model.serves(feature) {
            Ok(model)
        } else {
            let task = model.manifest.task;
            Err(EngineError::ModelMismatch { name: model.id.clone(), task, wanted: feature })
        }
    }

    /// The feature that a model of this name answers.
    pub fn task(&self, name: &str) -> Option<Feature> {
        self.find(name).map(|model| model.manifest.task)
    }

    /// The model in a role that no request names: `text/detection/default`, `text/orientation/default`.
    pub(crate) fn in_role(&self, alias: &str) -> Option<Arc<Model>> {
        self.find(alias)
    }

    fn find(&self, name: &str) -> Option<Arc<Model>> {
        let exact = self.all.iter().find(|model| model.answers_to(name));
        // Versions are compared as text: for equal names the last folder is the newest.
        exact.or_else(|| self.all.iter().rev().find(|model| model.manifest.name == name)).cloned()
    }

    /// Waits for a session of the model, which is loaded at once where it isn't yet.
    pub(crate) async fn session(&self, model: &Arc<Model>, class: Class) -> Result<Lent, EngineError> {
        self.loader.hurry(model);
        model.pool.take(class).await.map_err(|reason| EngineError::ModelUnavailable {
            model: model.id.clone(),
            source: BackendError::Load { backend: self.backend.name(), reason },
        })
    }

    /// Runs a tiny inference on a session.
    pub(crate) fn canary(model: &Model, session: &mut Lent) -> Result<(), EngineError> {
        canary::run(model, &mut **session)
            .map_err(|source| EngineError::ModelFailed { model: model.id.clone(), source })
    }
}

impl Drop for Models {
    fn drop(&mut self) {
        self.loader.stop();
    }
}
