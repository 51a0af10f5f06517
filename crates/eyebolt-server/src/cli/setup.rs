use std::{path::PathBuf, process::ExitCode};

use eyebolt_setup::{Options, ProgressDisplay, Summary};

use super::output;
use crate::Settings;

/// Of `eyebolt setup`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Take the archives from this folder instead of fetching them.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Only these models; may be given several times.
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<String>,
}

pub(super) fn run(arguments: &Arguments, settings: &Settings) -> anyhow::Result<ExitCode> {
    let summary = bring(settings, arguments.from.clone(), arguments.only.clone())?;
    if summary.installed.is_empty() {
        output::line(format_args!("Everything is there: {}", summary.models_dir.display()))?;
    } else {
        let (count, mib) = (summary.installed.len(), summary.bytes / (1 << 20));
        output::line(format_args!(
            "Brought {count} packages ({mib} MiB) to {}",
            summary.models_dir.display()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Brings what is missing, with progress on standard error.
pub(super) fn bring(
    settings: &Settings,
    from: Option<PathBuf>,
    only: Vec<String>,
) -> anyhow::Result<Summary> {
    let options = Options { models_dir: settings.models_dir(), from, only, search_path: None };
    let mut display = ProgressDisplay::new();
    let done = eyebolt_setup::setup(&options, &mut |step| display.show(step));
    display.finish();
    let summary = done?;
    for sentence in &summary.skipped {
        eprintln!("{sentence}");
    }
    Ok(summary)
}
