//! What a command asks of images: features, or a pipeline by its name or from a file.

use std::path::MAIN_SEPARATOR;

use anyhow::Context;
use serde_json::Value;

use super::analyze::escaped;
use crate::{ApiError, ingest};

/// What is asked unless the caller says.
const FEATURES: &str = "objects,faces,text,barcodes,labels";

/// What is asked of each image.
#[derive(Debug, clap::Args)]
pub(super) struct Wish {
    /// What to ask: objects, faces, text, barcodes, labels, embedding, quality. Default: the first five, unless a pipeline is asked.
    #[arg(long, short, value_name = "NAMES", conflicts_with = "pipeline")]
    features: Option<String>,
    /// Ask a pipeline of a server instead: its name, `name@version`, or a file with all of it.
    #[arg(long, short, value_name = "NAME|FILE.json", value_parser = read)]
    pipeline: Option<Choice>,
    /// Any other setting, such as `detail=high` or `objects.min_confidence=0.6`; of a batch also `priority=10` or
    /// `max_failure_rate=0.1`.
    #[arg(long = "set", short, value_name = "NAME=VALUE")]
    set: Vec<String>,
}

/// A pipeline.
#[derive(Debug, Clone, PartialEq)]
enum Choice {
    /// `name`, or `name@version`.
    Named(String),
    /// All of it.
    Inline(Value),
}

/// A name has neither points nor slashes. A file holds the pipeline, or a request with it.
fn read(text: &str) -> Result<Choice, String> {
    if !text.contains(['.', '/', MAIN_SEPARATOR]) {
        return Ok(Choice::Named(text.to_owned()));
    }
    let bytes = std::fs::read(text).map_err(|error| format!("it can't be read: {error}"))?;
    let mut whole: Value =
        serde_json::from_slice(&bytes).map_err(|error| format!("it is no JSON: {error}"))?;
    let inner = whole.get_mut("pipeline").map(Value::take);
    Ok(Choice::Inline(inner.unwrap_or(whole)))
}

impl Wish {
    /// As simple fields, but for a pipeline of a file.
    pub(super) fn fields(&self) -> anyhow::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        for pair in &self.set {
            let (name, value) = pair.split_once('=').with_context(|| format!("--set {pair}: no = in it"))?;
            fields.push((name.to_owned(), value.to_owned()));
        }
        let set = fields.iter().any(|(name, _)| name == "pipeline");
        anyhow::ensure!(!set || self.pipeline.is_none(), "--set pipeline=… beside --pipeline");
        let asked = match (&self.pipeline, &self.features) {
            (Some(Choice::Named(name)), _) => Some(("pipeline", name.as_str())),
            (Some(Choice::Inline(_)), _) => None,
            (None, Some(features)) => Some(("features", features.as_str())),
            (None, None) => (!set).then_some(("features", FEATURES)),
        };
        let asked = asked.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(asked.into_iter().chain(fields).collect())
    }

    /// The pipeline of a file.
    pub(super) fn inline(&self) -> Option<&Value> {
        match &self.pipeline {
            Some(Choice::Inline(pipeline)) => Some(pipeline),
            _ => None,
        }
    }

    /// Whether a pipeline is asked.
    pub(super) fn is_piped(&self) -> bool {
        self.pipeline.is_some() || self.set.iter().any(|pair| pair.starts_with("pipeline="))
    }

    /// The fields as a query.
    pub(super) fn query(&self) -> anyhow::Result<String> {
        let pair = |(name, value): &(String, String)| format!("{name}={}", escaped(value));
        Ok(self.fields()?.iter().map(pair).collect::<Vec<_>>().join("&"))
    }

    /// All of it as a JSON document, where a pipeline of a file belongs to it: one can't stand in a query.
    pub(super) fn document(&self) -> anyhow::Result<Option<String>> {
        let Some(pipeline) = self.inline() else { return Ok(None) };
        let told = |error: ApiError| {
            let problem = error.problem();
            let at = problem.errors.iter().map(|error| format!("; {}: {}", error.pointer, error.detail));
            anyhow::anyhow!("{}{}", problem.detail, at.collect::<String>())
        };
        let mut members = ingest::members_of(self.fields()?).map_err(told)?;
        members.insert("pipeline".to_owned(), pipeline.clone());
        Ok(Some(Value::Object(members).to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        wish: Wish,
    }

    fn wish(arguments: &[&str]) -> Result<Wish, clap::Error> {
        let line = [&["eyebolt"], arguments].concat();
        <Line as clap::Parser>::try_parse_from(line).map(|line| line.wish)
    }

    #[test]
    fn a_pipeline_is_asked_without_features() {
        let query = |arguments: &[&str]| wish(arguments).unwrap().query().unwrap();
        assert_eq!(query(&[]), format!("features={FEATURES}"));
        assert_eq!(query(&["-f", "text", "-s", "detail=low"]), "features=text&detail=low");
        assert_eq!(query(&["--pipeline", "ocr@2", "-s", "detail=low"]), "pipeline=ocr@2&detail=low");
        assert_eq!(query(&["-s", "pipeline=ocr"]), "pipeline=ocr");
        assert!(wish(&["--pipeline", "ocr", "--features", "text"]).is_err());
        assert!(wish(&["--pipeline", "ocr", "-s", "pipeline=ocr"]).unwrap().query().is_err());
    }

    #[test]
    fn a_file_holds_a_pipeline_or_a_request_with_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("signs.json");
        let path = file.to_str().unwrap();
        for text in [r#"{"steps": []}"#, r#"{"pipeline": {"steps": []}}"#] {
            std::fs::write(&file, text).unwrap();
            let wish = wish(&["--pipeline", path, "-s", "detail=low"]).unwrap();
            let document: Value = serde_json::from_str(&wish.document().unwrap().unwrap()).unwrap();
            assert_eq!(document, serde_json::json!({"detail": "low", "pipeline": {"steps": []}}), "{text}");
        }
        std::fs::write(&file, "steps:").unwrap();
        assert!(wish(&["--pipeline", path]).unwrap_err().to_string().contains("no JSON"));
        assert!(wish(&["--pipeline", "gone.json"]).unwrap_err().to_string().contains("can't be read"));
    }
}
