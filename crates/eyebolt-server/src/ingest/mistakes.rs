//! Every mistake of a small document, where serde stops at the first: what is at fault is taken out, and the rest read again.

use eyebolt_types::FieldError;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    IngestError,
    request::{of_json, of_value},
};

/// Mistakes that are told at once at most.
const MOST_TOLD: usize = 20;

/// How often a document is read to find them: a place may have to be mended twice.
const MOST_READ: usize = 2 * MOST_TOLD;

/// Reads a JSON document that is small, since it may be read many times.
///
/// # Errors
/// Every place that can't be read.
pub(crate) fn of_small_json<T: DeserializeOwned>(text: &[u8]) -> Result<T, IngestError> {
    of_json(text).map_err(|error| match (error, serde_json::from_slice(text)) {
        (IngestError::Fields(first), Ok(rest)) => IngestError::Fields(all::<T>(rest, first)),
        (error, _) => error,
    })
}

fn all<T: DeserializeOwned>(rest: Value, first: Vec<FieldError>) -> Vec<FieldError> {
    let mut mending = Mending { rest, shortened: Vec::new(), told: first };
    let mut at_fault = mending.told.last().map(|error| error.pointer.clone());
    for _ in 0..MOST_READ {
        let Some(place) = at_fault else { break };
        mending.mend(&place);
        let Err(error) = of_value::<T>(mending.rest.clone()) else { break };
        at_fault = Some(error.pointer.clone());
        mending.tell(error);
        if mending.told.len() >= MOST_TOLD {
            break;
        }
    }
    mending.told
}

/// A document as far as it has no mistakes that were told.
struct Mending {
    rest: Value,
    /// Lists that an element was taken out of, by their places in the whole document: once for each element.
    shortened: Vec<String>,
    told: Vec<FieldError>,
}

impl Mending {
    /// Takes out what is at fault. A member that is missing is put in as a text, which most of them are.
    fn mend(&mut self, place: &str) {
        let Some((parent, name)) = place.rsplit_once('/') else { return };
        let list = self.in_whole(parent);
        match (self.rest.pointer_mut(parent), name.parse::<usize>()) {
            (Some(Value::Array(items)), Ok(at)) if at < items.len() => {
                items.remove(at);
                self.shortened.push(list);
            }
            (Some(Value::Object(members)), _) => {
                let was_there = members.remove(name).is_some();
                if !was_there {
                    members.insert(name.to_owned(), Value::String("x".to_owned()));
                }
            }
            _ => {}
        }
    }

    /// What was mended and is at fault still, or is missing since, is no other mistake.
    fn tell(&mut self, error: FieldError) {
        let pointer = self.in_whole(&error.pointer);
        if self.told.iter().all(|told| told.pointer != pointer) {
            self.told.push(FieldError { pointer, ..error });
        }
    }

    /// A place of the rest, as it is in the whole document: a list is read in order, so that all that was taken out of it stood
    /// before.
    fn in_whole(&self, pointer: &str) -> String {
        let mut whole = String::new();
        for name in pointer.split('/').skip(1) {
            let before = self.shortened.iter().filter(|list| **list == whole).count();
            let name = match name.parse::<usize>() {
                Ok(at) if before > 0 => (at + before).to_string(),
                _ => name.to_owned(),
            };
            whole = format!("{whole}/{name}");
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use eyebolt_types::AnalyzeRequest;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn places(request: &Value) -> Vec<String> {
        match of_small_json::<AnalyzeRequest>(request.to_string().as_bytes()) {
            Err(IngestError::Fields(errors)) => errors.into_iter().map(|error| error.pointer).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lists_that_were_shortened_keep_their_places() {
        let steps = json!([7, {"id": "a", "needs": [1, "b", 2]}, {"feature": "smell"}, 8, {"id": 9, "x": 1}]);
        let wrong = json!({"features": ["foo", "text", "bar"], "pipeline": {"steps": steps}});
        let mut found = places(&wrong);
        found.sort();
        let wanted = [
            "/features/0",
            "/features/2",
            "/pipeline/steps/0",
            "/pipeline/steps/1/needs/0",
            "/pipeline/steps/1/needs/2",
            "/pipeline/steps/2/feature",
            "/pipeline/steps/2/id",
            "/pipeline/steps/3",
            "/pipeline/steps/4/id",
            "/pipeline/steps/4/x",
        ];
        assert_eq!(found, wanted);
    }

    proptest! {
        #[test]
        fn many_mistakes_end(count in 1usize..60) {
            let found = places(&json!({"features": vec!["foo"; count]}));
            prop_assert_eq!(found.len(), count.min(MOST_TOLD));
        }
    }
}
