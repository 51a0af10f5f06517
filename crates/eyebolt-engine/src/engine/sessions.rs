use eyebolt_types::Class;

use crate::models::{Lent, Model};

/// Sessions on loan for one image.
#[derive(Default)]
pub(crate) struct Sessions(Vec<(String, Lent)>);

impl Sessions {
    /// Whether somebody waits for one of them who is more urgent.
    pub(crate) fn are_wanted(&self, class: Class) -> bool {
        self.0.iter().any(|(_, lent)| lent.is_wanted(class))
    }

    /// The session of a model of the plan.
    pub(crate) fn of(&mut self, model: &Model) -> &mut Lent {
        let found = self.0.iter_mut().find(|(id, _)| *id == model.id);
        &mut found.expect("every model of a plan was taken before").1
    }

    /// Takes a session of the plan out, to hold several at once; [`Sessions::put`] brings it back.
    pub(crate) fn take(&mut self, model: &Model) -> Lent {
        let index = self.0.iter().position(|(id, _)| *id == model.id);
        self.0.swap_remove(index.expect("every model of a plan was taken before")).1
    }

    /// Puts it back.
    pub(crate) fn put(&mut self, model: &Model, session: Lent) {
        self.0.push((model.id.clone(), session));
    }
}
