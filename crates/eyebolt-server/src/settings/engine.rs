//! What the settings mean for the engine.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use eyebolt_engine::{BackendChoice, EngineSettings};

use super::{BackendSetting, DecoderPlace, Settings};

impl Settings {
    /// The folder with models and runtime library.
    pub fn models_dir(&self) -> PathBuf {
        if !self.models.dir.as_os_str().is_empty() {
            return self.models.dir.clone();
        }
        etcetera::choose_base_strategy()
            .map_or_else(|_| PathBuf::from("eyebolt-models"), |base| base.cache_dir().join("eyebolt"))
    }

    /// The runtime library that will be used, where one is there.
    pub fn library(&self) -> Option<PathBuf> {
        if !self.models.library.as_os_str().is_empty() {
            return Some(self.models.library.clone());
        }
        installed_library(&self.models_dir().join("runtime"))
    }

    /// Threads that compute.
    pub fn threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if self.engine.threads == 0 { cores } else { self.engine.threads }
    }

    /// What the engine is told. `decoder` is the command that starts a decoder process.
    pub fn engine(&self, decoder: Vec<String>) -> EngineSettings {
        let threads = self.threads();
        let sessions = if self.engine.sessions == 0 { threads.min(4) } else { self.engine.sessions };
        let library = self.library();
        let backend = match (self.models.backend, library) {
            (BackendSetting::Rten, _) | (BackendSetting::Auto, None) => BackendChoice::Rten,
            (_, library) => {
                BackendChoice::OnnxRuntime(library.unwrap_or_else(|| self.models_dir().join("runtime")))
            }
        };
        EngineSettings {
            models: self.models_dir().join("models"),
            backend,
            threads,
            sessions,
            memory: self.engine.memory_bytes,
            limits: self.limits.clone(),
            decoder: (self.engine.decoder == DecoderPlace::Process).then_some(decoder),
        }
    }
}

/// The newest `runtime/*/libonnxruntime.*`.
fn installed_library(runtime: &Path) -> Option<PathBuf> {
    let folders = std::fs::read_dir(runtime).ok()?.flatten();
    let files =
        folders.filter_map(|folder| std::fs::read_dir(folder.path()).ok()).flat_map(Iterator::flatten);
    let is_library = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libonnxruntime."))
    };
    files.map(|file| file.path()).filter(is_library).max()
}
