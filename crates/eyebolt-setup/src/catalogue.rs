//! What is pinned: packages, their files, and what is made of them.

mod document;

use std::{collections::BTreeMap, sync::LazyLock};

use eyebolt_types::ModelManifest;
use serde::Deserialize;

const ARCHIVES: &str = include_str!("../sources/archives.toml");
const SOURCES: &[&str] = &[
    include_str!("../sources/onnxruntime.toml"),
    include_str!("../sources/ssdlite-mobilenet-v2.toml"),
    include_str!("../sources/centerface.toml"),
    include_str!("../sources/pp-ocrv6-det-small.toml"),
    include_str!("../sources/pp-ocrv6-rec-small.toml"),
    include_str!("../sources/pp-lcnet-textline-orientation.toml"),
    include_str!("../sources/efficientnet-lite0.toml"),
];

/// Archives, and the sources made of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalogue {
    archives: BTreeMap<String, Archive>,
    sources: Vec<Source>,
}

/// A package at one version.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// The client that fetches it.
    pub client: Client,
    /// Its name there.
    pub package: String,
    /// Exactly this version.
    pub version: String,
    /// Name of the file that the client writes.
    pub file: String,
    /// Size of that file.
    pub bytes: u64,
    /// Digest of that file, hex.
    pub sha256: String,
    /// Further arguments for the client: which of several builds.
    #[serde(default)]
    pub build: Vec<String>,
}

/// A package client on the user's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Client {
    /// Python packages.
    Pip,
    /// JavaScript packages.
    Npm,
}

/// Something that is brought as a whole: a directory of files.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Its name: that of a model (`centerface@1`) or of the runtime.
    pub name: String,
    /// Where it goes, relative to the models directory.
    pub directory: String,
    /// The only platform that it is for; `None`: all.
    pub platform: Option<Platform>,
    /// Its files.
    pub files: Vec<SourceFile>,
    /// What the server reads of it, for models.
    pub manifest: Option<ModelManifest>,
}

/// An operating system and processor, in the words of [`std::env::consts`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    /// Operating system.
    pub os: String,
    /// Processor.
    pub arch: String,
    /// What to do on others: one sentence.
    pub otherwise: String,
}

/// A file of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its name in the source's directory.
    pub name: String,
    /// Digest of the finished file, hex.
    pub sha256: String,
    /// What it is made of.
    pub origin: Origin,
}

/// What a file is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// This text.
    Text(String),
    /// Files of archives.
    Members {
        /// How they become one.
        recipe: Recipe,
        /// In the order that the recipe takes them.
        members: Vec<Member>,
    },
}

/// A file in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The archive's key.
    pub archive: String,
    /// Its path in there.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its digest, hex.
    pub sha256: String,
}

/// How files of archives become a file of a source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipe {
    /// All members, one after the other.
    #[default]
    Join,
    /// ONNX with free batch, height and width.
    DynamicShapes,
    /// `PyTorch` weights of EfficientNet-Lite0 → ONNX.
    EfficientnetLite0,
    /// TensorFlow.js `SSDLite` (JSON, shards…) → ONNX.
    SsdGraph,
    /// TensorFlow.js `SSDLite` (JSON, shards…) → anchors as 32-bit floats.
    SsdAnchors,
    /// ONNX → the characters in its metadata, one a line.
    CharacterLines,
    /// JSON array of names → one a line.
    LabelLines,
}

/// Why a catalogue can't be read.
#[derive(Debug, thiserror::Error)]
#[error("the catalogue is not sound: {0}")]
pub struct CatalogueError(String);

impl Catalogue {
    /// What this version brings.
    pub fn pinned() -> &'static Self {
        static PINNED: LazyLock<Catalogue> = LazyLock::new(|| {
            Catalogue::parse(ARCHIVES, SOURCES).expect("a test reads the catalogue that is compiled in")
        });
        &PINNED
    }

    /// Reads a table of archives by key, and one document for each source, all TOML. Own texts and the manifest
    /// get their digests here; everything made of archives must bring its own.
    ///
    /// # Errors
    /// A document is not of that form, names an archive that isn't there, or leaves out or contradicts a digest.
    pub fn parse(archives: &str, sources: &[&str]) -> Result<Self, CatalogueError> {
        let broken = |error: toml::de::Error| CatalogueError(error.to_string());
        let archives: BTreeMap<String, Archive> = toml::from_str(archives).map_err(broken)?;
        let sources = sources
            .iter()
            .map(|text| Source::checked(toml::from_str(text).map_err(broken)?, &archives))
            .collect::<Result<_, _>>()?;
        Ok(Self { archives, sources })
    }

    /// All sources, in the order in which they are brought.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The archive with this key; every key in a source has one.
    pub fn archive(&self, key: &str) -> Option<&Archive> {
        self.archives.get(key)
    }
}

impl Source {
    /// The sentence for a platform that this source is not for; `None` where it can be brought.
    pub fn unavailable(&self) -> Option<&str> {
        let here = |platform: &Platform| {
            platform.os == std::env::consts::OS && platform.arch == std::env::consts::ARCH
        };
        self.platform.as_ref().filter(|platform| !here(platform)).map(|platform| platform.otherwise.as_str())
    }

    /// Whether a user who writes `text` means this source: its name, with or without `@version`.
    pub fn answers_to(&self, text: &str) -> bool {
        self.name == text || self.name.split_once('@').is_some_and(|(name, _)| name == text)
    }

    /// Path of a file, relative to the models directory.
    pub fn path_of(&self, file: &SourceFile) -> String {
        format!("{}/{}", self.directory, file.name)
    }
}

impl Origin {
    /// The files of archives that it takes.
    pub fn members(&self) -> &[Member] {
        match self {
            Self::Text(_) => &[],
            Self::Members { members, .. } => members,
        }
    }
}
