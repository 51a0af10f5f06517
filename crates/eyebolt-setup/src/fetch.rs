//! Fetches archives with the user's own package clients, which know the user's network and mirrors.

use std::{
    ffi::OsStr,
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use crate::{
    catalogue::{Archive, Client},
    error::SetupError,
};

/// How often the growth of a download is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How many characters of a client's complaint are passed on.
const TAIL: usize = 400;

impl Client {
    /// Command lines under which the client may be found, in the order in which they are tried.
    fn programs(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Pip => &[&["pip"], &["pip3"], &["python3", "-m", "pip"]],
            Self::Npm => &[&["npm"]],
        }
    }

    /// What to call it where none of them is found.
    fn title(self) -> &'static str {
        match self {
            Self::Pip => "pip (as pip, pip3 or python3 -m pip)",
            Self::Npm => "npm",
        }
    }
}

impl Archive {
    /// The package as its client names it.
    pub fn specification(&self) -> String {
        match self.client {
            Client::Pip => format!("{}=={}", self.package, self.version),
            Client::Npm => format!("{}@{}", self.package, self.version),
        }
    }

    /// The command that fetches it into `directory`, for the user's own hands.
    pub fn command_line(&self, directory: &str) -> String {
        let program = self.client.programs()[0].join(" ");
        format!("{program} {}", self.arguments(directory).join(" "))
    }

    /// Python packages are only taken as wheels, which are unpacked and never run, and for one version of Python,
    /// so that every machine gets the same file. npm is kept from running scripts of packages.
    fn arguments(&self, directory: &str) -> Vec<String> {
        let (first, target): (&[&str], _) = match self.client {
            Client::Pip => {
                (&["download", "--no-deps", "--only-binary", ":all:", "--python-version", "3.11"], "-d")
            }
            Client::Npm => (&["pack", "--ignore-scripts"], "--pack-destination"),
        };
        let chosen = first.iter().copied().chain(self.build.iter().map(String::as_str));
        let package = self.specification();
        chosen.chain([target, directory, &package]).map(str::to_owned).collect()
    }
}

/// Where to fetch to, and how.
pub(crate) struct Place<'a> {
    /// An empty directory for the archive.
    pub(crate) download: PathBuf,
    /// A directory for what the client itself puts aside.
    pub(crate) temporary: PathBuf,
    /// Where clients are looked for, if not on the environment's `PATH`.
    pub(crate) search_path: Option<&'a OsStr>,
}

/// Runs the archive's client and gives the path of the file it wrote, unchecked. `growing` hears the name of the
/// client and how many bytes have arrived.
pub(crate) fn fetch(
    archive: &Archive,
    place: &Place<'_>,
    growing: &mut dyn FnMut(&str, u64),
) -> Result<PathBuf, SetupError> {
    for program in archive.client.programs() {
        let name = program.join(" ");
        let output = match run(&mut command(archive, program, place), &mut || {
            growing(&name, bytes_in(&place.temporary).max(bytes_in(&place.download)));
        }) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(SetupError::io("run", Path::new(&name), error)),
            Ok(output) if is_absent(&output) => continue,
            Ok(output) => output,
        };
        let path = place.download.join(&archive.file);
        if output.status.success() && path.is_file() {
            return Ok(path);
        }
        if ran_out_of_space(&output) {
            return Err(SetupError::NoSpace { path: place.download.clone() });
        }
        return Err(SetupError::ClientFailed {
            client: name,
            package: archive.specification(),
            file: archive.file.clone(),
            tail: complaint(&output, &archive.file),
        });
    }
    Err(SetupError::NoClient {
        client: archive.client.title(),
        package: archive.specification(),
        file: archive.file.clone(),
    })
}

fn command(archive: &Archive, program: &[&str], place: &Place<'_>) -> Command {
    let (name, first) = program.split_first().unwrap_or((&"", &[]));
    let mut command = Command::new(name);
    command
        .args(first)
        .args(archive.arguments(&place.download.to_string_lossy()))
        .env("TMPDIR", &place.temporary)
        .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
        .env("PIP_NO_INPUT", "1")
        .env("NPM_CONFIG_UPDATE_NOTIFIER", "false")
        .current_dir(&place.temporary)
        .stdin(Stdio::null());
    if let Some(search_path) = place.search_path {
        command.env("PATH", search_path);
    }
    command
}

/// Runs a command to its end, and calls `look` from time to time until then.
fn run(command: &mut Command, look: &mut dyn FnMut()) -> io::Result<Output> {
    thread::scope(|scope| {
        let (done, finished) = channel();
        scope.spawn(move || done.send(command.output()));
        look();
        loop {
            match finished.recv_timeout(LOOK) {
                Ok(output) => return output,
                Err(RecvTimeoutError::Timeout) => look(),
                Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("it was not waited for")),
            }
        }
    })
}

/// Whether the client says that the disk is full: pip in the system's words, npm by its code.
fn ran_out_of_space(output: &Output) -> bool {
    let said = String::from_utf8_lossy(&output.stderr);
    said.contains("No space left on device") || said.contains("ENOSPC")
}

/// Whether what ran was only a stand-in for a client that isn't installed: a version manager's shim, or Python
/// without pip.
fn is_absent(output: &Output) -> bool {
    output.status.code() == Some(127)
        || !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("No module named pip")
}

/// The end of what the client said on one line.
fn complaint(output: &Output, file: &str) -> String {
    if output.status.success() {
        return format!("it brought no {file}");
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let start = words.char_indices().rev().nth(TAIL - 1).map_or(0, |(index, _)| index);
    match &words[start..] {
        "" => format!("it ended with {}", output.status),
        tail if start > 0 => format!("…{tail}"),
        tail => tail.to_owned(),
    }
}

/// Size of the files in a directory and in those directly below it; 0 where it can't be read.
fn bytes_in(directory: &Path) -> u64 {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let size = |entry: &fs::DirEntry| {
        entry.metadata().map_or(0, |metadata| if metadata.is_file() { metadata.len() } else { 0 })
    };
    entries(directory)
        .map(|entry| size(&entry) + entries(&entry.path()).map(|below| size(&below)).sum::<u64>())
        .sum()
}
