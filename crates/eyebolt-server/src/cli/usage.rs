use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use eyebolt_store::Charge;
use eyebolt_types::Clock;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::output;
use crate::{Place, Settings};

/// Of `eyebolt usage`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print charges of all projects as events (`CloudEvents` 1.0), one JSON object a line, oldest first.
    Export {
        /// The member `cursor` of the last event that is known already.
        #[arg(long)]
        after: Option<String>,
    },
}

/// Charges read at once.
const BATCH: u32 = 1000;

/// Charges younger than this are left for the next time: one that was written at the same moment may still be on its
/// way to the disk, and would be skipped.
const SETTLING: SignedDuration = SignedDuration::from_secs(10);

pub(super) async fn run(command: Command, settings: Settings) -> anyhow::Result<ExitCode> {
    let Command::Export { after } = command;
    let clock = Clock::system();
    let place = Place::open_existing(&settings.storage, &settings.access, &clock).await?;
    let mut place_in_order = after.as_deref().map_or(Ok((Timestamp::UNIX_EPOCH, String::new())), cursor)?;
    let until = clock.now() - SETTLING;
    loop {
        let charges = place.store.charges(place_in_order.clone(), until, BATCH).await?;
        let Some(last) = charges.last() else { return Ok(ExitCode::SUCCESS) };
        place_in_order = (last.created_at, name(last));
        for charge in &charges {
            output::line(event(charge))?;
        }
    }
}

fn name(charge: &Charge) -> String {
    format!("{}/{}", charge.job, charge.transfer)
}

/// `CloudEvents` 1.0 in its JSON form. The id is the same in every export.
fn event(charge: &Charge) -> Value {
    json!({
        "specversion": "1.0",
        "id": name(charge),
        "source": "/v1/usage",
        "type": "eyebolt.usage.charged",
        "subject": charge.project.to_string(),
        "time": charge.created_at.to_string(),
        "cursor": format!("{}-{}", charge.created_at.as_microsecond(), name(charge)),
        "datacontenttype": "application/json",
        "data": {
            "project": charge.project.to_string(),
            "mode": charge.mode.name(),
            "key": charge.key,
            "job": charge.job.to_string(),
            "feature": charge.feature,
            "model": charge.model,
            "units": charge.units,
        },
    })
}

fn cursor(text: &str) -> anyhow::Result<(Timestamp, String)> {
    let read = || {
        let (micros, name) = text.split_once('-')?;
        Some((Timestamp::from_microsecond(micros.parse().ok()?).ok()?, name.to_owned()))
    };
    read().context("--after takes the member `cursor` of an event")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back() {
        let (at, name) = cursor("1800000000000001-job_1/use/0").unwrap();
        assert_eq!((at.as_microsecond(), name.as_str()), (1_800_000_000_000_001, "job_1/use/0"));
        assert!(cursor("job_1").is_err());
    }
}
