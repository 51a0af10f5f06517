//! Answers for people.

use std::{fmt::Write, path::Path};

use eyebolt_types::{BoundingBox, Job, Problem};

/// What was found, a line each.
pub(super) fn of_job(file: &Path, job: &Job) -> String {
    let input = &job.input;
    let mut text = format!("{}  {} {} × {}\n", file.display(), input.format, input.width, input.height);
    for (feature, rows) in rows(job) {
        if rows.is_empty() {
            line(&mut text, [feature, "", "none", ""]);
        }
        for (index, [confidence, what, place]) in rows.iter().enumerate() {
            line(&mut text, [if index == 0 { feature } else { "" }, confidence, what, place]);
        }
    }
    for warning in &job.warnings {
        line(&mut text, ["warning", "", &warning.detail, &warning.code]);
    }
    for step in job.steps.iter().filter(|step| step.error.is_some()) {
        let detail = step.error.as_ref().map_or("", |problem| problem.detail.as_str());
        line(&mut text, [step.feature.name(), "", detail, "failed"]);
    }
    text
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
    let line = format!("  {feature:<10}{confidence:>5}  {what:<44}  {place}");
    // Writing to a string does not fail.
    let _ = writeln!(text, "{}", line.trim_end());
}

type Rows = Vec<[String; 3]>;

fn rows(job: &Job) -> Vec<(&'static str, Rows)> {
    let mut all: Vec<(&'static str, Rows)> = Vec::new();
    let Some(results) = job.results.features() else { return all };
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
    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(super::printable("a\u{1b}[2Jb\r\n"), "a·[2Jb··");
    }
}
