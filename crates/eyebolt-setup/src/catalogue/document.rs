//! Sources as they are written in TOML, and their checks.

use std::collections::BTreeMap;

use eyebolt_types::ModelManifest;
use serde::Deserialize;

use super::{Archive, CatalogueError, Member, Origin, Platform, Recipe, Source, SourceFile};
use crate::digest::sha256;

/// The text that models under Apache-2.0 come with; some packages ship only its short notice.
const APACHE_LICENCE: &str = include_str!("../../../../LICENSE");

/// A source as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceEntry {
    name: String,
    directory: String,
    platform: Option<Platform>,
    files: Vec<FileEntry>,
    manifest: Option<ModelManifest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEntry {
    name: String,
    #[serde(default)]
    recipe: Recipe,
    #[serde(default)]
    members: Vec<Member>,
    sha256: Option<String>,
    text: Option<String>,
    /// The whole Apache-2.0 text.
    #[serde(default)]
    apache_licence: bool,
}

impl Source {
    pub(super) fn checked(
        entry: SourceEntry,
        archives: &BTreeMap<String, Archive>,
    ) -> Result<Self, CatalogueError> {
        let SourceEntry { name, directory, platform, files, manifest } = entry;
        let broken = |what: String| CatalogueError(format!("{name}: {what}"));
        let files = files.into_iter().map(FileEntry::checked).collect::<Result<Vec<_>, _>>();
        let mut files = files.map_err(broken)?;
        let members = files.iter().flat_map(|file| file.origin.members());
        if let Some(member) = members.into_iter().find(|member| !archives.contains_key(&member.archive)) {
            return Err(broken(format!("no archive {:?}", member.archive)));
        }
        if let Some(manifest) = &manifest {
            let model = files.iter().find(|file| file.name == manifest.file);
            if model.is_none_or(|model| model.sha256 != manifest.sha256) || manifest.id().to_string() != name
            {
                return Err(broken("the manifest's name or digest is not that of its model".to_owned()));
            }
            let text = toml::to_string(manifest).map_err(|error| broken(error.to_string()))?;
            files.push(SourceFile::text("model.toml".to_owned(), text));
        }
        Ok(Self { name, directory, platform, files, manifest })
    }
}

impl FileEntry {
    fn checked(self) -> Result<SourceFile, String> {
        let Self { name, recipe, members, sha256, text, apache_licence } = self;
        match (text, apache_licence, members.is_empty(), sha256) {
            (Some(text), false, true, None) => Ok(SourceFile::text(name, text)),
            (None, true, true, None) => Ok(SourceFile::text(name, APACHE_LICENCE.to_owned())),
            (None, false, false, Some(sha256)) => {
                Ok(SourceFile { name, sha256, origin: Origin::Members { recipe, members } })
            }
            _ => Err(format!("{name}: give text, apache_licence, or members with sha256")),
        }
    }
}

impl SourceFile {
    fn text(name: String, text: String) -> Self {
        Self { name, sha256: sha256(text.as_bytes()), origin: Origin::Text(text) }
    }
}
