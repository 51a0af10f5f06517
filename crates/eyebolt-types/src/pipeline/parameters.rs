use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{AnalyzeRequest, ErrorCode, Feature, FieldError, request::Parameters};

/// The settings of a step as those of a request for its feature alone. Every name and value that can't be taken goes to
/// `errors`, with its place below `at`.
pub(super) fn read(
    feature: Feature,
    params: &Map<String, Value>,
    (at, errors): (&str, &mut Vec<FieldError>),
) -> Parameters {
    let mut sound = Map::new();
    for (name, value) in params {
        match wrong(feature, name, value) {
            None => _ = sound.insert(name.clone(), value.clone()),
            Some((code, detail)) => errors.push(FieldError::new(place(at, name), code, detail)),
        }
    }
    let parameters = parse(feature, sound).unwrap_or_default();
    let request = AnalyzeRequest { parameters, ..AnalyzeRequest::of([feature]) };
    let own = format!("/parameters/{feature}");
    for error in request.check() {
        let name = error.pointer.strip_prefix(&own).unwrap_or(&error.pointer);
        errors.push(FieldError { pointer: format!("{at}{name}"), ..error });
    }
    request.parameters
}

/// What is wrong with one setting, alone.
fn wrong(feature: Feature, name: &str, value: &Value) -> Option<(ErrorCode, String)> {
    if name == "model" {
        let detail = "is not said here, but by the step's own `model`".to_owned();
        return Some((ErrorCode::InvalidParameter, detail));
    }
    let alone = Map::from_iter([(name.to_owned(), value.clone())]);
    let message = parse(feature, alone).err()?;
    // The message quotes what the client wrote; what is known stands at its end.
    let known = message.rsplit_once(", expected ").map_or("", |(_, known)| known);
    let known = known.strip_prefix("one of ").unwrap_or(known).replace('`', "").replace("model, ", "");
    Some(match (message.starts_with("unknown field"), known.as_str()) {
        (true, "" | "there are no fields") => {
            (ErrorCode::UnknownParameter, "is not known; nothing can be set here".to_owned())
        }
        (true, known) => (ErrorCode::UnknownParameter, format!("is not known; known are {known}")),
        (false, _) => (ErrorCode::InvalidParameter, "is not of the kind that this setting takes".to_owned()),
    })
}

fn parse(feature: Feature, params: Map<String, Value>) -> Result<Parameters, String> {
    fn of<T: DeserializeOwned>(params: Map<String, Value>) -> Result<T, String> {
        serde_json::from_value(Value::Object(params)).map_err(|error| error.to_string())
    }
    let mut all = Parameters::default();
    match feature {
        Feature::Objects => all.objects = of(params)?,
        Feature::Faces => all.faces = of(params)?,
        Feature::Text => all.text = of(params)?,
        Feature::Barcodes => all.barcodes = of(params)?,
        Feature::Labels => all.labels = of(params)?,
        Feature::Embedding => all.embedding = of(params)?,
        Feature::Quality => all.quality = of(params)?,
    }
    Ok(all)
}

/// A JSON pointer to a name that a client chose: what is safe of it.
fn place(at: &str, name: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_-.@:".contains(c);
    let name: String = name.chars().take(64).map(|c| if safe(c) { c } else { '?' }).collect();
    format!("{at}/{name}")
}
