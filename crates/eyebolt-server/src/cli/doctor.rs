use std::{process::ExitCode, time::Instant};

use bytes::Bytes;
use eyebolt_types::{AnalyzeRequest, Clock, Feature, StepStatus, request::QualityGate};

use super::{output, quickstart::SAMPLE};
use crate::{Declared, Place, Runner, Settings, place::PlaceError};

pub(super) async fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    super::log_to_stderr(&crate::settings::LogSettings {
        filter: "error".to_owned(),
        ..settings.log.clone()
    })?;
    let mut report = Report::default();
    report.line(true, "settings", "read and sound")?;
    check_data(&settings, &mut report).await?;
    let dir = settings.models_dir();
    let complete = eyebolt_setup::is_complete(&dir);
    let said = if complete { "complete" } else { "incomplete: run eyebolt setup" };
    report.line(complete, "models folder", &format!("{} is {said}", dir.display()))?;
    let runner = match super::start(&settings) {
        Ok(runner) => runner,
        Err(error) => {
            report.line(false, "engine", &format!("{error:#}"))?;
            return Ok(report.exit());
        }
    };
    report.line(true, "backend", runner.engine.models().backend())?;
    for error in runner.engine.models().errors() {
        report.line(false, "model folder", error)?;
    }
    for feature in Feature::ALL {
        try_feature(&runner, feature, &mut report).await?;
    }
    let free = std::net::TcpListener::bind(settings.http.listen);
    let said = free.as_ref().map_or_else(|error| format!("is taken: {error}"), |_| "is free".to_owned());
    report.line(free.is_ok(), "address", &format!("{} {said}", settings.http.listen))?;
    Ok(report.exit())
}

/// Looks at data folder and database, and changes nothing.
async fn check_data(settings: &Settings, report: &mut Report) -> anyhow::Result<()> {
    let (folder, database) = (settings.storage.data_dir.display(), settings.storage.database());
    match Place::open_existing(&settings.storage, &settings.access, &Clock::system()).await {
        Ok(_) => report.line(true, "data", &format!("{folder}; {database}, complete")),
        Err(PlaceError::Missing { .. }) => {
            report.line(true, "data", &format!("{folder}; {database}: the first start makes it"))
        }
        Err(PlaceError::Behind { there, known }) => {
            let said =
                format!("{folder}; {database}, {there} of {known} migrations: the next start makes the rest");
            report.line(true, "data", &said)
        }
        Err(error) => report.line(false, "data", &format!("{folder}; {database}: {error}")),
    }
}

/// Asks the feature of the sample picture, in which there is something for each.
async fn try_feature(runner: &Runner, feature: Feature, report: &mut Report) -> anyhow::Result<()> {
    let request = AnalyzeRequest { quality_gate: QualityGate::Off, ..AnalyzeRequest::of([feature]) };
    let begun = Instant::now();
    match runner.run(Bytes::from_static(SAMPLE), &request, &Declared::default()).await {
        Ok(job) => {
            let step = &job.steps[0];
            let sound = step.status == StepStatus::Succeeded;
            let model = step.model.as_deref().unwrap_or("no model needed");
            let why = step.error.as_ref().map_or("", |problem| problem.detail.as_str());
            let took = begun.elapsed().as_millis();
            report.line(sound, feature.name(), &format!("{model}, {took} ms with loading {why}"))
        }
        Err(error) => report.line(false, feature.name(), &error.to_string()),
    }
}

#[derive(Default)]
struct Report {
    failed: usize,
}

impl Report {
    fn line(&mut self, sound: bool, what: &str, said: &str) -> anyhow::Result<()> {
        self.failed += usize::from(!sound);
        output::line(format_args!(
            "{} {what:<14} {}",
            if sound { "ok    " } else { "FAILED" },
            said.trim_end()
        ))
    }

    fn exit(&self) -> ExitCode {
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
