//! One module a feature: a picture and a model in, findings out.

pub(crate) mod detection;
pub(crate) mod faces;
pub(crate) mod labels;
pub(crate) mod objects;
pub(crate) mod quality;
pub(crate) mod reading;

use eyebolt_types::{Results, result::Barcodes};

use crate::{
    EngineError, Picture, barcodes,
    engine::Sessions,
    models::{Model, Phases, Running},
    plan::Task,
};

/// Does one task and puts its answer into `results`.
pub(crate) fn run_task(
    task: &Task,
    picture: &Picture,
    (sessions, phases): (&mut Sessions, &mut Phases),
    results: &mut Results,
) -> Result<(), EngineError> {
    match task {
        Task::Objects(model, parameters, detail) => {
            let found = objects::find(picture, &mut running(model, sessions, phases), (parameters, *detail))?;
            results.objects = Some(found);
        }
        Task::Faces(model, parameters, detail) => {
            let found = faces::find(picture, &mut running(model, sessions, phases), (parameters, *detail))?;
            results.faces = Some(found);
        }
        Task::Text(plan) => results.text = Some(reading::read(picture, plan, (sessions, phases))?),
        Task::Barcodes(parameters) => {
            let begun = std::time::Instant::now();
            let items = barcodes::read(picture, parameters)?;
            results.barcodes = Some(Barcodes { model: barcodes::MODEL.to_owned(), items });
            phases.inference = begun.elapsed();
        }
        Task::Labels(model, parameters) => {
            let named = labels::name(picture, &mut running(model, sessions, phases), parameters)?;
            results.labels = Some(named);
        }
        Task::Embedding(model) => {
            results.embedding = Some(labels::embed(picture, &mut running(model, sessions, phases))?);
        }
        Task::Quality => results.quality = Some(quality::report(picture)),
    }
    Ok(())
}

fn running<'a>(
    model: &'a std::sync::Arc<Model>,
    sessions: &'a mut Sessions,
    phases: &'a mut Phases,
) -> Running<'a> {
    Running { session: &mut **sessions.of(model), model, phases }
}
