//! What a run tells while it goes, and how that looks on a terminal.

use std::{
    io::{IsTerminal as _, stderr},
    time::Duration,
};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// A step of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// Another run is at work in this models directory; this one waits for it.
    Waiting,
    /// A client is fetching an archive; `done` of `bytes` have arrived, as far as can be seen.
    Fetching {
        /// The archive.
        archive: &'a str,
        /// The command that runs.
        client: &'a str,
        /// Bytes that have arrived.
        done: u64,
        /// Bytes in all.
        bytes: u64,
    },
    /// An archive is being hashed.
    Verifying {
        /// The archive.
        archive: &'a str,
        /// Bytes hashed.
        done: u64,
        /// Bytes in all.
        bytes: u64,
    },
    /// An archive has its pinned digest.
    Verified {
        /// The archive.
        archive: &'a str,
        /// Its size.
        bytes: u64,
    },
    /// An archive arrived wrong and is fetched once more.
    Refetching {
        /// The archive.
        archive: &'a str,
    },
    /// A file is being made.
    Converting {
        /// The source.
        name: &'a str,
        /// The file.
        file: &'a str,
    },
    /// A source is in place.
    Installed {
        /// The source.
        name: &'a str,
        /// Size of its files.
        bytes: u64,
    },
    /// A source was there and sound.
    AlreadyThere {
        /// The source.
        name: &'a str,
        /// Size of its files.
        bytes: u64,
    },
    /// A source is not for this platform.
    Skipped {
        /// The source.
        name: &'a str,
        /// What to do: one sentence.
        reason: &'a str,
    },
}

/// Shows progress on standard error: a bar on a terminal, otherwise one line for each event.
#[derive(Debug)]
pub struct ProgressDisplay {
    bar: Option<ProgressBar>,
    last: String,
}

impl Default for ProgressDisplay {
    fn default() -> Self {
        Self::new()
    }
}

impl ProgressDisplay {
    /// A display that suits what standard error is.
    pub fn new() -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar, last: String::new() }
    }

    /// Shows a step.
    pub fn show(&mut self, step: Progress<'_>) {
        let line = sentence(step);
        let Some(bar) = &self.bar else {
            // Steps with a count come again and again.
            if line != self.last {
                eprintln!("{line}");
                self.last = line;
            }
            return;
        };
        match step {
            Progress::Fetching { done, bytes, .. } | Progress::Verifying { done, bytes, .. } => {
                bar.set_style(style("{spinner} {wide_msg} {bar:24} {bytes}/{total_bytes}"));
                bar.set_length(bytes);
                bar.set_position(done.min(bytes));
                bar.set_message(line);
            }
            Progress::Waiting | Progress::Converting { .. } => {
                bar.set_style(style("{spinner} {wide_msg}"));
                bar.set_message(line);
            }
            Progress::Verified { .. } => {}
            _ => bar.println(line),
        }
    }

    /// Takes the bar off the terminal.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn sentence(step: Progress<'_>) -> String {
    match step {
        Progress::Waiting => "waiting for another setup to end".to_owned(),
        Progress::Fetching { archive, client, bytes, .. } => {
            format!("fetching {archive} with {client} ({})", HumanBytes(bytes))
        }
        Progress::Verifying { archive, .. } => format!("checking {archive}"),
        Progress::Verified { archive, .. } => format!("{archive} is sound"),
        Progress::Refetching { archive } => format!("{archive} arrived wrong: fetching it once more"),
        Progress::Converting { name, file } => format!("making {name}/{file}"),
        Progress::Installed { name, bytes } => format!("{name}: installed, {}", HumanBytes(bytes)),
        Progress::AlreadyThere { name, bytes } => format!("{name}: already there, {}", HumanBytes(bytes)),
        Progress::Skipped { name, reason } => format!("{name}: skipped. {reason}"),
    }
}
