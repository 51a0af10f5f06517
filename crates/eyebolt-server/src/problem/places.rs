//! The places at fault, in the words in which the settings were sent.

use super::ApiError;
use crate::ingest::name_of;

impl ApiError {
    /// Each place in the request as the name of its part or setting.
    pub(crate) fn by_field(mut self) -> Self {
        let problem = self.problem_mut();
        for error in problem.errors.iter_mut().filter(|error| error.pointer.starts_with('/')) {
            let name = name_of(&error.pointer);
            if let Some(rest) = problem.detail.strip_prefix(&format!("{}: ", error.pointer)) {
                problem.detail = format!("{name}: {rest}");
            }
            error.pointer = name;
        }
        self
    }

    /// The same fault, found at this place of the request.
    pub(crate) fn moved_to(mut self, place: &str) -> Self {
        for error in &mut self.problem_mut().errors {
            place.clone_into(&mut error.pointer);
        }
        self
    }
}
