//! `eyebolt setup`: brings the pinned models and the ONNX Runtime library into a models directory.
//!
//! [`setup`] fetches each pinned archive with the user's own package client (or takes it from a directory), checks
//! its SHA-256 and that of every file it takes out, converts where needed, checks the result, and puts a finished
//! directory in place by a rename. What is there and sound stays; what is missing or changed is replaced; a run
//! that was killed leaves nothing half. What is pinned is in `sources/*.toml`, read as a [`Catalogue`].
//!
//! ```text
//! MODELS_DIR/runtime/onnxruntime-1.32.0/libonnxruntime.so.1.32.0, LICENSE, ThirdPartyNotices.txt
//! MODELS_DIR/models/NAME@VERSION/model.toml, model.onnx, LICENSE, NOTICE, and labels.txt, anchors.f32
//!                                or characters.txt where the decoder needs it
//! MODELS_DIR/setup.json           size, time and digest of each file, so that a second run only looks
//! ```

mod archive;
mod catalogue;
mod convert;
mod digest;
mod error;
mod fetch;
mod install;
mod onnx;
mod product;
mod progress;
mod run;
mod stamp;

use std::{ffi::OsString, path::Path, path::PathBuf};

pub use catalogue::{
    Archive, Catalogue, CatalogueError, Client, Member, Origin, Platform, Recipe, Source, SourceFile,
};
pub use error::SetupError;
pub use progress::{Progress, ProgressDisplay};

/// What to bring and from where.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where everything goes; made if it is missing.
    pub models_dir: PathBuf,
    /// Takes the archives from this directory instead of fetching them.
    pub from: Option<PathBuf>,
    /// Names of sources (`centerface@1`, or without the version); empty: all that this platform has.
    pub only: Vec<String>,
    /// Where package clients are looked for; the environment's `PATH` if absent.
    pub search_path: Option<OsString>,
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Sources that were brought.
    pub installed: Vec<String>,
    /// Sources that were there and sound.
    pub already_there: Vec<String>,
    /// Sources that this platform does not have, each as one sentence with what to do.
    pub skipped: Vec<String>,
    /// Bytes of the files that were written.
    pub bytes: u64,
    /// The models directory, absolute.
    pub models_dir: PathBuf,
}

/// Brings what [`Catalogue::pinned`] lists. `progress` hears of every step.
///
/// # Errors
/// One sentence that says what is missing or wrong and what to do. Sources that were finished before stay.
pub fn setup(options: &Options, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Summary, SetupError> {
    Catalogue::pinned().setup(options, progress)
}

/// Whether all sources that this platform has are in `models_dir`, sound. Reads only; hashes only files that
/// changed since they were brought.
pub fn is_complete(models_dir: &Path) -> bool {
    Catalogue::pinned().is_complete(models_dir)
}

/// The pinned sources, in the order in which they are brought.
pub fn sources() -> &'static [Source] {
    Catalogue::pinned().sources()
}
