//! A run: look, fetch, check, make, install.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File},
    path::{Path, PathBuf, absolute},
};

use crate::{
    Options, Progress, Summary, archive,
    catalogue::{Archive, Catalogue, Member, Origin, Source},
    digest::sha256_of,
    error::SetupError,
    fetch::{Place, fetch},
    install::{Lock, Scratch, Staged},
    product,
    stamp::Stamps,
};

impl Catalogue {
    /// As [`crate::setup`], with these sources.
    ///
    /// # Errors
    /// As [`crate::setup`].
    pub fn setup(
        &self,
        options: &Options,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Summary, SetupError> {
        let wanted = self.wanted(&options.only)?;
        // Clients run in a directory of their own, where a relative path would lead elsewhere.
        let models_dir = absolute(&options.models_dir)
            .map_err(|error| SetupError::io("create", &options.models_dir, error))?;
        let lock = Lock::take(&models_dir, &mut || progress(Progress::Waiting))?;
        let run = Run {
            catalogue: self,
            options,
            scratch: Scratch::new(&models_dir, &lock)?,
            stamps: Stamps::load(&models_dir),
            progress,
            checked: BTreeMap::new(),
            summary: Summary { models_dir, ..Summary::default() },
        };
        run.bring(wanted)
    }

    /// As [`crate::is_complete`], with these sources.
    pub fn is_complete(&self, models_dir: &Path) -> bool {
        let mut stamps = Stamps::load(models_dir);
        let mut here = self.sources().iter().filter(|source| source.unavailable().is_none());
        here.all(|source| stamps.sound_bytes(source).is_some())
    }

    /// The sources that the user asks for, in the order of the catalogue. Asking by name for one that this platform
    /// does not have is an error; asking for all is not.
    fn wanted(&self, only: &[String]) -> Result<Vec<&Source>, SetupError> {
        for name in only {
            let source = self.sources().iter().find(|source| source.answers_to(name)).ok_or_else(|| {
                let known: Vec<&str> = self.sources().iter().map(|source| source.name.as_str()).collect();
                SetupError::UnknownName { name: name.clone(), known: known.join(", ") }
            })?;
            if let Some(reason) = source.unavailable() {
                return Err(SetupError::NotForPlatform(reason.to_owned()));
            }
        }
        let asked = |source: &&Source| only.is_empty() || only.iter().any(|name| source.answers_to(name));
        Ok(self.sources().iter().filter(asked).collect())
    }
}

struct Run<'a, 'p> {
    catalogue: &'a Catalogue,
    options: &'a Options,
    scratch: Scratch,
    stamps: Stamps,
    progress: &'p mut dyn FnMut(Progress<'_>),
    /// Archives that have their pinned digest, by key.
    checked: BTreeMap<&'a str, PathBuf>,
    summary: Summary,
}

impl<'a> Run<'a, '_> {
    fn bring(mut self, wanted: Vec<&'a Source>) -> Result<Summary, SetupError> {
        let mut missing = Vec::new();
        for source in wanted {
            if let Some(reason) = source.unavailable() {
                (self.progress)(Progress::Skipped { name: &source.name, reason });
                self.summary.skipped.push(reason.to_owned());
            } else if let Some(bytes) = self.stamps.sound_bytes(source) {
                (self.progress)(Progress::AlreadyThere { name: &source.name, bytes });
                self.summary.already_there.push(source.name.clone());
            } else {
                missing.push(source);
            }
        }
        self.stamps.save(&self.scratch)?;
        self.all_given(&missing)?;
        for source in missing {
            self.install(source)?;
        }
        Ok(self.summary)
    }

    /// With `from`: complains about all missing archives at once, before any work.
    fn all_given(&self, missing: &[&Source]) -> Result<(), SetupError> {
        let Some(dir) = &self.options.from else { return Ok(()) };
        let needed: BTreeSet<&str> = missing.iter().flat_map(|source| archives_of(source)).collect();
        let absent = needed.into_iter().filter_map(|key| self.catalogue.archive(key));
        let absent: Vec<String> = absent
            .filter(|archive| !dir.join(&archive.file).is_file())
            .map(|archive| format!("{} ({})", archive.file, archive.command_line("DIR")))
            .collect();
        if absent.is_empty() {
            return Ok(());
        }
        Err(SetupError::MissingArchives { dir: dir.clone(), files: absent.join(", ") })
    }

    fn install(&mut self, source: &'a Source) -> Result<(), SetupError> {
        let members = self.members_of(source)?;
        let mut staged = Staged::new(&self.scratch)?;
        for file in &source.files {
            if matches!(file.origin, Origin::Members { .. }) {
                (self.progress)(Progress::Converting { name: &source.name, file: &file.name });
            }
            let made = product::make(file, &members);
            let content =
                made.map_err(|reason| SetupError::Conversion { file: source.path_of(file), reason })?;
            staged.add(&file.name, &content)?;
        }
        let bytes = staged.install(&self.summary.models_dir.join(&source.directory))?;
        self.stamps.note(source);
        self.stamps.save(&self.scratch)?;
        (self.progress)(Progress::Installed { name: &source.name, bytes });
        self.summary.installed.push(source.name.clone());
        self.summary.bytes += bytes;
        Ok(())
    }

    /// The contents of all files of archives that a source is made of.
    fn members_of(&mut self, source: &'a Source) -> Result<HashMap<&'a Member, Vec<u8>>, SetupError> {
        let mut members = HashMap::new();
        for key in archives_of(source) {
            let path = self.checked_archive(key)?;
            let wanted: Vec<&Member> = source.members().filter(|member| member.archive == key).collect();
            let contents = archive::extract(&path, &wanted).map_err(|reason| SetupError::BadArchive {
                file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                reason,
            })?;
            members.extend(contents);
        }
        Ok(members)
    }

    /// Path of an archive that has its pinned digest.
    fn checked_archive(&mut self, key: &'a str) -> Result<PathBuf, SetupError> {
        if let Some(path) = self.checked.get(key) {
            return Ok(path.clone());
        }
        let archive = self.catalogue.archive(key).ok_or_else(|| SetupError::BadArchive {
            file: key.to_owned(),
            reason: "the catalogue does not list it".to_owned(),
        })?;
        let path = match &self.options.from {
            Some(dir) => self.given(archive, dir)?,
            None => self.fetched(archive)?,
        };
        (self.progress)(Progress::Verified { archive: &archive.file, bytes: archive.bytes });
        self.checked.insert(key, path.clone());
        Ok(path)
    }

    fn given(&mut self, archive: &Archive, dir: &Path) -> Result<PathBuf, SetupError> {
        let path = dir.join(&archive.file);
        let found = self.digest(archive, &path)?;
        if found == archive.sha256 {
            return Ok(path);
        }
        Err(SetupError::WrongArchive { path, expected: archive.sha256.clone(), found })
    }

    /// Fetches an archive; once more, if what arrives has another digest.
    fn fetched(&mut self, archive: &Archive) -> Result<PathBuf, SetupError> {
        let (path, found) = self.fetched_once(archive)?;
        if found == archive.sha256 {
            return Ok(path);
        }
        fs::remove_file(&path).map_err(|error| SetupError::io("remove", &path, error))?;
        (self.progress)(Progress::Refetching { archive: &archive.file });
        let (path, found) = self.fetched_once(archive)?;
        if found == archive.sha256 {
            return Ok(path);
        }
        let (file, expected) = (archive.file.clone(), archive.sha256.clone());
        Err(SetupError::WrongDownload { file, expected, found })
    }

    fn fetched_once(&mut self, archive: &Archive) -> Result<(PathBuf, String), SetupError> {
        let place = Place {
            download: self.scratch.directory()?,
            temporary: self.scratch.directory()?,
            search_path: self.options.search_path.as_deref(),
        };
        let progress = &mut self.progress;
        let path = fetch(archive, &place, &mut |client, done| {
            progress(Progress::Fetching { archive: &archive.file, client, done, bytes: archive.bytes });
        })?;
        let found = self.digest(archive, &path)?;
        Ok((path, found))
    }

    fn digest(&mut self, archive: &Archive, path: &Path) -> Result<String, SetupError> {
        let fail = |error| SetupError::io("read", path, error);
        let file = File::open(path).map_err(fail)?;
        let progress = &mut self.progress;
        let hashed = sha256_of(file, &mut |done| {
            progress(Progress::Verifying { archive: &archive.file, done, bytes: archive.bytes });
        });
        hashed.map_err(fail)
    }
}

impl Source {
    fn members(&self) -> impl Iterator<Item = &Member> {
        self.files.iter().flat_map(|file| file.origin.members())
    }
}

/// Keys of the archives that a source is made of.
fn archives_of(source: &Source) -> BTreeSet<&str> {
    source.members().map(|member| member.archive.as_str()).collect()
}
