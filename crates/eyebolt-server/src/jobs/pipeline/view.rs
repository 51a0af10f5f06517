//! A job with a pipeline as readers get it.

use std::collections::BTreeMap;

use eyebolt_store::{Charging, StoredJob, StoredStep, StoredTask};
use eyebolt_types::{
    Job, JobStatus, Results, Step, StepStatus, Warning,
    pipeline::{Course, JobResults, StepFound, TaskCounts, TaskFound},
};

use super::{
    super::document::{self, Outline, State},
    course, unreadable,
};
use crate::ApiError;

/// The whole job.
///
/// # Errors
/// Where its columns hold what this version can't read.
pub(crate) fn shown(job: &StoredJob, mut outline: Outline, state: State) -> Result<Job, ApiError> {
    let course = course(job)?.ok_or_else(unreadable)?;
    let (mut steps, mut results, mut units) = (Vec::new(), BTreeMap::new(), 0);
    for (step, stage) in job.steps.iter().zip(&course.stages) {
        let tasks: Vec<_> = job.tasks.iter().filter(|task| task.position == step.position).collect();
        let found = of_step(step, &tasks, state.status)?;
        // What was taken over from another job costs nothing in this one.
        units += match &found.items {
            _ if step.units == 0 => 0,
            Some(items) => items.iter().filter(|item| item.status == StepStatus::Succeeded).count() as u64,
            None => u64::from(found.status == StepStatus::Succeeded),
        };
        let (row, _) = document::of_row(step)?;
        steps.push(Step {
            name: Some(stage.id.clone()),
            status: found.status,
            key: step.key.as_ref().map(hex::encode),
            tasks: found.items.as_deref().map(counted),
            ..row
        });
        results.insert(stage.id.clone(), found);
    }
    if state.status.is_terminal() {
        outline.warnings.extend(warnings(job, &course, &results));
    }
    if state.charging != Charging::Pipeline {
        units = 0;
    }
    Ok(outline.whole((steps, JobResults::Steps(results), units), state))
}

fn of_step(step: &StoredStep, tasks: &[&StoredTask], job: JobStatus) -> Result<StepFound, ApiError> {
    let (row, result) = document::of_row(step)?;
    let items = tasks.iter().map(|task| of_task(task, job)).collect::<Result<Vec<_>, _>>()?;
    Ok(StepFound {
        status: standing(step.status, job),
        feature: step.feature,
        result,
        items: step.tasks.map(|_| items),
        error: row.error,
    })
}

fn of_task(task: &StoredTask, job: JobStatus) -> Result<TaskFound, ApiError> {
    let result: Option<Result<Results, _>> = task.result.as_deref().map(serde_json::from_slice);
    Ok(TaskFound {
        index: task.number,
        region: document::read(&task.region)?,
        status: standing(task.status, job),
        attempt: task.attempts.max(1),
        key: hex::encode(&task.key),
        model: task.model.clone(),
        started_at: task.started_at,
        finished_at: task.finished_at,
        result: result.transpose().map_err(|_| unreadable())?,
        error: task.error.as_deref().map(document::read).transpose()?,
    })
}

/// What an ended job did not come to is canceled.
fn standing(status: StepStatus, job: JobStatus) -> StepStatus {
    let open = matches!(status, StepStatus::Pending | StepStatus::Processing);
    if open && job.is_terminal() { StepStatus::Canceled } else { status }
}

fn counted(items: &[TaskFound]) -> TaskCounts {
    let count = |status| items.iter().filter(|item| item.status == status).count() as u32;
    TaskCounts {
        total: items.len() as u32,
        succeeded: count(StepStatus::Succeeded),
        failed: count(StepStatus::Failed),
        skipped: count(StepStatus::Skipped),
    }
}

/// What the job went on without.
fn warnings(job: &StoredJob, course: &Course, results: &BTreeMap<String, StepFound>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for stage in &course.stages {
        let Some(found) = results.get(&stage.id) else { continue };
        let id = &stage.id;
        if found.status == StepStatus::Skipped {
            let detail = match &found.error {
                Some(error) => format!("The step {id} failed and was left out: {}", error.detail),
                None => format!("The step {id} was left out, since it needs one that was."),
            };
            warnings.push(Warning { code: "step_skipped".to_owned(), detail });
        }
        let items = found.items.as_deref().unwrap_or_default();
        let counts = counted(items);
        if counts.skipped > 0 {
            let (missing, total) = (counts.skipped, counts.total);
            let detail = format!("The step {id} failed on {missing} of {total} parts, which were left out.");
            warnings.push(Warning { code: "parts_skipped".to_owned(), detail });
        }
        let of = stage.each.as_ref().and_then(|each| {
            let found = document::of_row(job.steps.get(each.of)?).ok()?.1?;
            let intake: document::Intake = document::read(&job.input).ok()?;
            let size = (intake.input.width, intake.input.height);
            Some(each.regions((&found, size), stage.crop).1)
        });
        if let Some(of) = of.filter(|of| *of > items.len() && !items.is_empty()) {
            let detail = format!("The step {id} was done for the first {} of {of} parts.", items.len());
            warnings.push(Warning { code: "parts_left_out".to_owned(), detail });
        }
    }
    warnings
}
