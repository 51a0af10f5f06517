//! Answers for people.

use std::{fmt::Write, path::Path};

use eyebolt_types::{
    BoundingBox, Job, Problem, Results,
    pipeline::{JobResults, StepFound},
};

/// What was found, a line each.
pub(super) fn of_job(file: &Path, job: &Job) -> String {
    let input = &job.input;
    let mut text = format!("{}  {} {} × {}\n", file.display(), input.format, input.width, input.height);
    match &job.results {
        JobResults::Features(results) => found(&mut text, None, results),
        JobResults::Steps(steps) => {
            for name in job.steps.iter().filter_map(|step| step.name.as_deref()) {
                if let Some(step) = steps.get(name) {
                    of_step(&mut text, name, step);
                }
            }
        }
    }
    for warning in &job.warnings {
        line(&mut text, ["warning", "", &warning.detail, &warning.code]);
    }
    let named = job.results.features().is_some();
    for step in job.steps.iter().filter(|step| named && step.error.is_some()) {
        let detail = step.error.as_ref().map_or("", |problem| problem.detail.as_str());
        line(&mut text, [step.feature.name(), "", detail, "failed"]);
    }
    text
}

/// What was found by one step of a pipeline: under its name, and under its name with a number for each part.
fn of_step(text: &mut String, name: &str, step: &StepFound) {
    let why =
        |error: &Option<Problem>| error.as_ref().map_or(String::new(), |problem| problem.detail.clone());
    match (&step.result, &step.items) {
        (Some(results), _) => found(text, Some(name), results),
        (None, Some(items)) if items.is_empty() => line(text, [name, "", "no parts", step.status.name()]),
        (None, Some(items)) => {
            for item in items {
                let name = format!("{name}/{}", item.index);
                match &item.result {
                    Some(results) if !rows(results).iter().all(|(_, rows)| rows.is_empty()) => {
                        found(text, Some(&name), results);
                    }
                    Some(_) => line(text, [&name, "", "none", &place(&item.region.bounds)]),
                    None => line(text, [&name, "", &why(&item.error), item.status.name()]),
                }
            }
        }
        (None, None) => line(text, [name, "", &why(&step.error), step.status.name()]),
    }
}

/// Results, under the names of features or under that of a step.
fn found(text: &mut String, step: Option<&str>, results: &Results) {
    for (feature, rows) in rows(results) {
        let name = step.unwrap_or(feature);
        if rows.is_empty() {
            line(text, [name, "", "none", ""]);
        }
        for (index, [confidence, what, place]) in rows.iter().enumerate() {
            line(text, [if index == 0 { name } else { "" }, confidence, what, place]);
        }
    }
}

/// Why it was refused, and what to do.
pub(super) fn of_problem(file: &Path, problem: &Problem) -> String {
    let mut text = format!("{}  refused: {}\n", file.display(), problem.code);
    line(&mut text, ["reason", "", &problem.detail, ""]);
    for error in &problem.errors {
        line(&mut text, ["at", "", &error.detail, &error.pointer]);
    }
    line(&mut text, ["remedy", "", problem.code.row().remedy, ""]);
    text
}

fn line(text: &mut String, [feature, confidence, what, place]: [&str; 4]) {
    // A step may have a long name.
    let gap = if feature.len() < 10 { "" } else { " " };
    let line = format!("  {feature:<10}{gap}{confidence:>5}  {what:<44}  {place}");
    // Writing to a string does not fail.
    let _ = writeln!(text, "{}", line.trim_end());
}

type Rows = Vec<[String; 3]>;

fn rows(results: &Results) -> Vec<(&'static str, Rows)> {
    let mut all: Vec<(&'static str, Rows)> = Vec::new();
    if let Some(found) = &results.objects {
        let rows =
            found.items.iter().map(|one| [percent(one.confidence), one.label.clone(), place(&one.bounds)]);
        all.push(("objects", rows.collect()));
    }
    if let Some(found) = &results.faces {
        let rows =
            found.items.iter().map(|one| [percent(one.confidence), "face".to_owned(), place(&one.bounds)]);
        all.push(("faces", rows.collect()));
    }
    if let Some(read) = &results.text {
        let rows =
            read.lines.iter().map(|one| [percent(one.confidence), printable(&one.text), place(&one.bounds)]);
        all.push(("text", rows.collect()));
    }
    if let Some(read) = &results.barcodes {
        let said = |one: &eyebolt_types::result::Barcode| format!("{} {}", one.format, printable(&one.text));
        let rows = read.items.iter().map(|one| [percent(one.confidence), said(one), place(&one.bounds)]);
        all.push(("barcodes", rows.collect()));
    }
    if let Some(named) = &results.labels {
        let rows = named.items.iter().map(|one| [percent(one.confidence), one.label.clone(), String::new()]);
        all.push(("labels", rows.collect()));
    }
    if let Some(vector) = &results.embedding {
        let row =
            [String::new(), format!("{} numbers (--json prints them)", vector.dimensions), String::new()];
        all.push(("embedding", vec![row]));
    }
    if let Some(quality) = &results.quality {
        let rows = quality.verdicts.iter().map(|one| {
            let measured = format!("{:.3} {} (limit {:.3})", one.value, one.unit, one.limit);
            [
                format!("{:?}", one.verdict).to_lowercase(),
                format!("{}: {measured}", one.measure),
                String::new(),
            ]
        });
        all.push(("quality", rows.collect()));
    }
    all
}

fn percent(confidence: f32) -> String {
    format!("{:.0} %", confidence * 100.0)
}

fn place(bounds: &BoundingBox) -> String {
    format!("{:.0} × {:.0} at {:.0}, {:.0}", bounds.width, bounds.height, bounds.x, bounds.y)
}

/// Text of strangers must not steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|one| if one.is_control() { '·' } else { one }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn the_steps_of_a_pipeline_stand_under_their_names() {
        let place = |x: f32| json!({"x": x, "y": 0.0, "width": 25.0, "height": 20.0});
        let object =
            json!({"label": "sign", "confidence": 0.9, "confidence_band": "high", "box": place(0.0)});
        let objects = json!({"objects": {"model": "cats@1", "confidence_guide": "", "items": [object]}});
        let text = |lines: &serde_json::Value| json!({"text": {"model": "reader@1", "confidence_guide": "", "text": "", "rotation": 0, "lines": lines}});
        let item = |index: u32, status: &str| {
            let region = json!({"box": place(index as f32)});
            json!({"index": index, "region": region, "status": status, "attempt": 1, "key": "", "model": null,
                "started_at": null, "finished_at": null})
        };
        let mut items = [item(0, "succeeded"), item(1, "succeeded"), item(2, "failed")];
        items[0]["result"] = text(&json!([]));
        let exit = json!({"text": "EXIT", "confidence": 1.0, "confidence_band": "high", "box": place(1.0),
            "polygon": [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]});
        items[1]["result"] = text(&json!([exit]));
        items[2]["error"] =
            json!(eyebolt_types::Problem::new(eyebolt_types::ErrorCode::ModelFailed, "It broke."));
        let steps = json!({
            "find": {"status": "succeeded", "feature": "objects", "result": objects},
            "read-all": {"status": "failed", "feature": "text", "items": items},
            "look": {"status": "succeeded", "feature": "quality", "items": []},
            "last": {"status": "canceled", "feature": "labels"},
        });
        let steps: std::collections::BTreeMap<String, super::StepFound> =
            serde_json::from_value(steps).unwrap();
        let mut shown = String::new();
        for name in ["find", "read-all", "look", "last"] {
            super::of_step(&mut shown, name, &steps[name]);
        }
        let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines.iter().map(|words| words.join(" ")).collect::<Vec<_>>(),
            [
                "find 90 % sign 25 × 20 at 0, 0",
                "read-all/0 none 25 × 20 at 0, 0",
                "read-all/1 100 % EXIT 25 × 20 at 1, 0",
                "read-all/2 It broke. failed",
                "look no parts succeeded",
                "last canceled",
            ]
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(super::printable("a\u{1b}[2Jb\r\n"), "a·[2Jb··");
    }
}
