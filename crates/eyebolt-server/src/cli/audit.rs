use std::process::ExitCode;

use eyebolt_types::Clock;
use serde_json::json;

use super::output;
use crate::{Place, Settings};

/// Of `eyebolt audit`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Exit status 0 where the ledger is sound, 1 where it is not.
pub(super) async fn run(arguments: Arguments, settings: Settings) -> anyhow::Result<ExitCode> {
    let place = Place::open_existing(&settings.storage, &settings.access, &Clock::system()).await?;
    let audit = place.store.audit().await?;
    let lists = [
        ("unsettled", "ended with units still reserved", &audit.unsettled),
        ("unreserved", "have no reservation for their last run", &audit.unreserved),
        ("overdrawn", "gave away more than was reserved", &audit.overdrawn),
        ("overcharged", "were charged for a step that did not succeed", &audit.overcharged),
        ("lost", "are gone, and were not removed for their age", &audit.lost),
    ];
    if arguments.json {
        let [unsettled, unreserved, overdrawn, overcharged, lost] = lists.map(|(.., jobs)| jobs);
        output::line(json!({
            "sound": audit.is_sound(),
            "unsettled": unsettled,
            "unreserved": unreserved,
            "overdrawn": overdrawn,
            "overcharged": overcharged,
            "lost": lost,
        }))?;
    } else if audit.is_sound() {
        output::line("The ledger is sound.")?;
    } else {
        for (_, what, jobs) in lists.into_iter().filter(|(.., jobs)| !jobs.is_empty()) {
            output::line(format_args!("{} jobs {what}:", jobs.len()))?;
            for job in jobs {
                output::line(format_args!("  {job}"))?;
            }
        }
    }
    Ok(if audit.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
