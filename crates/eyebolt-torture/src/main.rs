//! Crash tests of the real server: clients with keys on disk, servers that are killed and stopped at random and at named
//! places, and a checker over everything that was seen. See docs/torture.md. And overload: docs/overload.md.

mod batch;
mod checker;
mod client;
mod database;
mod history;
mod journal;
mod listening;
mod nemesis;
mod observed;
mod overload;
mod payload;
mod plan;
mod profile;
mod report;
mod run;
mod server;
mod settle;
mod wire;

use std::process::ExitCode;

use clap::Parser;

use checker::{Invariant, Verdict};
use profile::Arguments;

/// The run itself failed: it says nothing about the server.
const NO_VERDICT: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match judge(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("no verdict: {error:#}");
            ExitCode::from(NO_VERDICT)
        }
    }
}

/// Runs or loads, checks, tells; whether the verdict is the wanted one.
async fn judge(arguments: &Arguments) -> anyhow::Result<bool> {
    if arguments.overload {
        overload::run(arguments).await?;
        return Ok(true);
    }
    let (folder, schema) = match &arguments.check {
        Some(folder) => (folder, None),
        None => (&arguments.run_folder, run::run(arguments).await?),
    };
    let record = run::load(folder)?;
    let verdict = checker::check(&record);
    report::write(folder, &verdict)?;
    print!("{}", report::text(&verdict));
    println!("run folder: {}, seed: {}", folder.display(), checker::setup(&record.events).seed);
    let wanted = is_wanted(arguments, &verdict);
    match schema {
        Some(schema) if wanted => tokio::task::spawn_blocking(move || schema.remove()).await??,
        // For a look.
        Some(schema) => println!("its rows are kept: {}", schema.name()),
        None => {}
    }
    Ok(wanted)
}

fn is_wanted(arguments: &Arguments, verdict: &Verdict) -> bool {
    let Some(expected) = &arguments.expect_violation else { return verdict.violations.is_empty() };
    let by_defect = arguments.defect.violates();
    let expected = if expected.is_empty() { by_defect } else { expected };
    // That a run did too little is no proof that the checker bites.
    let found = verdict.violations.iter().map(|violation| violation.invariant);
    found
        .filter(|invariant| *invariant != Invariant::I16)
        .any(|invariant| expected.is_empty() || expected.contains(&invariant))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Violation;

    fn wanted(arguments: &[&str], found: &[Invariant]) -> bool {
        let arguments = ["eyebolt-torture", "--server-binary=eyebolt"].iter().chain(arguments);
        let arguments = Arguments::parse_from(arguments);
        let violation = |invariant: &Invariant| Violation {
            invariant: *invariant,
            what: String::new(),
            evidence: Vec::new(),
        };
        let verdict = Verdict { violations: found.iter().map(violation).collect(), ..Verdict::default() };
        is_wanted(&arguments, &verdict)
    }

    #[test]
    fn a_run_succeeds_without_violations() {
        assert!(wanted(&[], &[]));
        assert!(!wanted(&[], &[Invariant::I16]));
    }

    #[test]
    fn a_defect_must_violate_what_it_is_known_for() {
        let late = ["--defect=late_key", "--expect-violation"];
        assert!(!wanted(&late, &[]));
        assert!(!wanted(&late, &[Invariant::I16, Invariant::I7]));
        assert!(wanted(&late, &[Invariant::I2, Invariant::I16]));
    }

    #[test]
    fn expected_invariants_can_be_named() {
        let named = ["--expect-violation", "I8,I9"];
        assert!(wanted(&named, &[Invariant::I9]));
        assert!(!wanted(&named, &[Invariant::I2]));
        assert!(wanted(&["--expect-violation"], &[Invariant::I1]));
        assert!(!wanted(&["--expect-violation"], &[Invariant::I16]));
    }
}
