use super::Pipeline;
use crate::{ErrorCode, FieldError};

/// What needs what, by places of steps.
pub(super) struct Graph {
    names: Vec<String>,
    /// Of each step the places of what it needs.
    pub(super) needs: Vec<Vec<usize>>,
    /// An order in which each step comes after what it needs, as close to that of the pipeline as can be; shorter where there is a
    /// circle.
    pub(super) order: Vec<usize>,
}

impl Graph {
    /// Looks names up; mistakes go to `errors`.
    pub(super) fn of(pipeline: &Pipeline, errors: &mut Vec<FieldError>) -> Self {
        let place = |name: &str| pipeline.steps.iter().position(|step| step.id == name);
        let mut needs = Vec::with_capacity(pipeline.steps.len());
        for (index, step) in pipeline.steps.iter().enumerate() {
            let named = step.needs.iter().enumerate().map(|(at, name)| (format!("needs/{at}"), name));
            let each = step.for_each.iter().map(|each| ("for_each/step".to_owned(), &each.step));
            let mut of_step = Vec::new();
            for (member, name) in named.chain(each) {
                match place(name) {
                    Some(found) if !of_step.contains(&found) => of_step.push(found),
                    Some(_) => {}
                    None => errors
                        .push(wrong(format!("/steps/{index}/{member}"), "names no step of this pipeline")),
                }
            }
            needs.push(of_step);
        }
        let order = order(&needs);
        for index in (0..needs.len()).filter(|index| !order.contains(index)) {
            if is_in_circle(&needs, index) {
                errors.push(wrong(format!("/steps/{index}"), "needs itself, over the steps that it needs"));
            }
        }
        Self { names: pipeline.steps.iter().map(|step| step.id.clone()).collect(), needs, order }
    }

    /// The place of the step of this name.
    pub(super) fn place_of(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }
}

pub(super) fn wrong(pointer: String, detail: impl Into<String>) -> FieldError {
    FieldError::new(pointer, ErrorCode::InvalidPipeline, detail)
}

fn order(needs: &[Vec<usize>]) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::with_capacity(needs.len());
    let ready = |order: &[usize]| {
        (0..needs.len())
            .find(|step| !order.contains(step) && needs[*step].iter().all(|need| order.contains(need)))
    };
    while let Some(next) = ready(&order) {
        order.push(next);
    }
    order
}

fn is_in_circle(needs: &[Vec<usize>], start: usize) -> bool {
    let mut seen = vec![false; needs.len()];
    let mut open = needs[start].clone();
    while let Some(step) = open.pop() {
        if step == start {
            return true;
        }
        if !std::mem::replace(&mut seen[step], true) {
            open.extend(&needs[step]);
        }
    }
    false
}
