//! Images that the command line is given as files and folders.

use std::path::{Path, PathBuf};

use anyhow::Context;
use eyebolt_types::ImageFormat;

/// A file, and its name among the others: of one in a folder, its path in there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) path: PathBuf,
    pub(super) name: String,
}

/// The files, and those of folders whose names are images', in the order of their names; `deep`: of the folders in them too.
pub(super) fn all(paths: &[PathBuf], deep: bool) -> anyhow::Result<Vec<Picture>> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            walk(path, path, deep, &mut found)?;
        } else {
            found.push(Picture { path: path.clone(), name: path.display().to_string() });
        }
    }
    Ok(found)
}

fn walk(root: &Path, folder: &Path, deep: bool, found: &mut Vec<Picture>) -> anyhow::Result<()> {
    let unreadable = || format!("{} can't be read", folder.display());
    let entries = std::fs::read_dir(folder).with_context(unreadable)?;
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    for path in paths {
        // A link to a folder above would lead round for ever.
        let kind = path.symlink_metadata().with_context(unreadable)?.file_type();
        if kind.is_dir() && deep {
            walk(root, &path, deep, found)?;
        } else if !kind.is_dir() && is_image(&path) {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            found.push(Picture { path, name });
        }
    }
    Ok(())
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|text| text.to_str()).unwrap_or_default().to_ascii_lowercase();
    ImageFormat::ALL.into_iter().any(|format| format.extensions().contains(&extension.as_str()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn folders_give_their_images_in_order_and_those_below_if_wanted() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("deep")).unwrap();
        for name in ["b.JPG", "a.png", "notes.txt", "deep/c.webp"] {
            fs::write(folder.path().join(name), b"x").unwrap();
        }
        let names = |deep| {
            let found = all(&[folder.path().to_owned()], deep).unwrap();
            found.into_iter().map(|picture| picture.name).collect::<Vec<_>>()
        };
        assert_eq!(names(false), ["a.png", "b.JPG"]);
        assert_eq!(names(true), ["a.png", "b.JPG", "deep/c.webp"]);
        let named = folder.path().join("notes.txt");
        assert_eq!(
            all(std::slice::from_ref(&named), false).unwrap()[0].path,
            named,
            "who names a file means it"
        );
        assert!(all(&[folder.path().join("gone")], false).is_ok(), "it is told when it is read");
    }
}
