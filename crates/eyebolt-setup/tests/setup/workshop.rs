//! Makes archives and a catalogue of them in a temporary directory.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use aws_lc_rs::digest::{SHA256, digest};
use eyebolt_setup::{Catalogue, Options, Progress, SetupError, Summary};
use flate2::{Compression, write::GzEncoder};
use tempfile::TempDir;

pub(crate) const CAT: &[u8] = b"weights of the cat";
pub(crate) const DOG: [&[u8]; 2] = [b"first half, ", b"second half"];
pub(crate) const LABELS: &[u8] = br#"["tabby", "siamese"]"#;

pub(crate) struct Workshop {
    root: TempDir,
    pub(crate) catalogue: Catalogue,
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

impl Workshop {
    /// `cat@1` comes out of a wheel, `dog@1` out of an npm package, `fish@1` is for no platform.
    pub(crate) fn new() -> Self {
        Self::with_cat(CAT, &sha256(CAT))
    }

    /// With these weights in the wheel, and this digest pinned for the finished file.
    pub(crate) fn with_cat(weights: &[u8], pinned: &str) -> Self {
        let root = TempDir::new().unwrap();
        let archives = root.path().join("archives");
        fs::create_dir(&archives).unwrap();
        let cat = archives.join("cat-1.0-py3-none-any.whl");
        write_zip(&cat, &[("cat/weights", weights), ("cat/labels.json", LABELS)]);
        let dog = archives.join("dog-2.0.tgz");
        write_tar(&dog, &[("package/1", DOG[0]), ("package/noise", b"-"), ("package/2", DOG[1])]);
        let table = [
            archive("cat", "pip", "1.0", &cat),
            archive("dog", "npm", "2.0", &dog),
            archive("fish", "pip", "1.0", &cat),
        ];
        let catalogue = Catalogue::parse(&table.concat(), &[
            &source(
                "cat",
                &[
                    file("model.onnx", "join", pinned, &[("cat", "cat/weights", weights)]),
                    file("labels.txt", "label_lines", &sha256(b"tabby\nsiamese\n"), &[(
                        "cat",
                        "cat/labels.json",
                        LABELS,
                    )]),
                    "[[files]]\nname = \"NOTICE\"\ntext = \"A cat.\\n\"\n".to_owned(),
                ],
            ),
            &source("dog", &[file("model.onnx", "join", &sha256(&DOG.concat()), &[
                ("dog", "package/1", DOG[0]),
                ("dog", "package/2", DOG[1]),
            ])]),
            &source("fish", &[
                "platform = { os = \"none\", arch = \"none\", otherwise = \"No fish here: use a cat.\" }\n".to_owned(),
                file("model.onnx", "join", &sha256(CAT), &[("fish", "cat/weights", CAT)]),
            ]),
        ]);
        Self { root, catalogue: catalogue.unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Path in the models directory.
    pub(crate) fn model(&self, name: &str) -> PathBuf {
        self.path("models").join(name)
    }

    /// Takes the archives from the directory where they were made.
    pub(crate) fn given(&self) -> Options {
        Options { from: Some(self.path("archives")), ..self.fetching() }
    }

    /// Fetches them with the clients in `bin`.
    pub(crate) fn fetching(&self) -> Options {
        fs::create_dir_all(self.path("bin")).unwrap();
        Options {
            models_dir: self.path("models"),
            search_path: Some(self.path("bin").into_os_string()),
            ..Options::default()
        }
    }

    /// Runs, and gives the events that don't count bytes.
    pub(crate) fn run(&self, options: &Options) -> (Result<Summary, SetupError>, Vec<String>) {
        let mut events = Vec::new();
        let result = self.catalogue.setup(options, &mut |step| {
            if let Some(event) = event(step) {
                events.push(event);
            }
        });
        (result, events)
    }

    /// Puts a shell script in the place of a client. A shell writes it: were it written by this process, a client
    /// that another test starts at this moment could hold it open, and then it could not be run.
    pub(crate) fn client(&self, name: &str, script: &str) {
        let script = format!(
            "#!/bin/sh\nPATH=/usr/bin:/bin\nARCHIVES='{}'\n{script}",
            self.path("archives").display()
        );
        fs::create_dir_all(self.path("bin")).unwrap();
        let written = Command::new("/bin/sh")
            .args(["-c", "printf '%s' \"$1\" > \"$2\" && chmod +x \"$2\"", "sh", &script])
            .arg(self.path("bin").join(name))
            .status()
            .unwrap();
        assert!(written.success());
    }
}

fn event(step: Progress<'_>) -> Option<String> {
    Some(match step {
        Progress::Verified { archive, .. } => format!("verified {archive}"),
        Progress::Refetching { archive } => format!("again {archive}"),
        Progress::Installed { name, bytes } => format!("installed {name} {bytes}"),
        Progress::AlreadyThere { name, bytes } => format!("there {name} {bytes}"),
        Progress::Skipped { name, .. } => format!("skipped {name}"),
        _ => return None,
    })
}

fn archive(name: &str, client: &str, version: &str, path: &Path) -> String {
    let content = fs::read(path).unwrap();
    let file = path.file_name().unwrap().to_str().unwrap();
    format!(
        "[{name}]\nclient = \"{client}\"\npackage = \"{name}\"\nversion = \"{version}\"\nfile = \"{file}\"\n\
         bytes = {}\nsha256 = \"{}\"\n",
        content.len(),
        sha256(&content)
    )
}

fn source(name: &str, parts: &[String]) -> String {
    format!("name = \"{name}@1\"\ndirectory = \"models/{name}@1\"\n{}", parts.concat())
}

fn file(name: &str, recipe: &str, pinned: &str, members: &[(&str, &str, &[u8])]) -> String {
    let members = members.iter().map(|(archive, path, content)| {
        let (bytes, digest) = (content.len(), sha256(content));
        format!("{{ archive = \"{archive}\", path = \"{path}\", bytes = {bytes}, sha256 = \"{digest}\" }}")
    });
    let members = members.collect::<Vec<_>>().join(", ");
    format!(
        "[[files]]\nname = \"{name}\"\nrecipe = \"{recipe}\"\nsha256 = \"{pinned}\"\nmembers = [{members}]\n"
    )
}

pub(crate) fn write_zip(path: &Path, members: &[(&str, &[u8])]) {
    let mut zip = zip::ZipWriter::new(File::create(path).unwrap());
    for (name, content) in members {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap();
}

fn write_tar(path: &Path, members: &[(&str, &[u8])]) {
    let mut tar = tar::Builder::new(GzEncoder::new(File::create(path).unwrap(), Compression::default()));
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *content).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap();
}
