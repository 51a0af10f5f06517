//! One picture, and orders that come while it is there: the steps of a pipeline and their parts.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use eyebolt_types::{Results, pipeline::Region, result::QualityVerdict};

use crate::{
    EngineError, ImageError, Picture, Plan,
    compute::Canceled,
    digest::{self, ContentDigests},
    engine::{Sessions, judge, step},
    models::Model,
    probe::Header,
    view,
};

/// What may be ordered of one picture.
pub struct Sitting {
    /// Plans of one feature each; an order names one by its place. The first one's quality gate is that of the picture.
    pub plans: Vec<Plan>,
    /// Whether every pixel is needed: parts are cut out.
    pub full: bool,
}

/// One thing to do.
pub struct Order {
    /// The place of its plan.
    pub plan: usize,
    /// The part of the picture; `None`: all of it.
    pub region: Option<Region>,
    /// Called as it begins.
    pub begun: Box<dyn FnOnce() + Send>,
    /// Called with what was found, as it lies in the whole image.
    pub done: Box<dyn FnOnce(Result<Results, EngineError>) + Send>,
}

/// What is known of a picture beside what was ordered.
#[derive(Debug)]
pub struct Sat {
    /// Verdicts of the quality gate; empty where it is off.
    pub verdicts: Vec<QualityVerdict>,
    /// What the picture is known by when it comes again.
    pub content: ContentDigests,
    /// Bytes to pixels.
    pub decode: Duration,
}

impl Sitting {
    /// The models that must be at hand, each once, in an order that is the same for everybody.
    pub(crate) fn models(&self) -> Vec<Arc<Model>> {
        let mut models: Vec<_> = self.plans.iter().flat_map(Plan::models).collect();
        models.sort_by(|a, b| a.id.cmp(&b.id));
        models.dedup_by(|a, b| a.id == b.id);
        models
    }

    pub(crate) fn wanted_side(&self, header: &Header) -> Option<u32> {
        if self.full {
            return None;
        }
        let sides: Option<Vec<_>> = self.plans.iter().map(|plan| plan.wanted_side(header)).collect();
        sides.and_then(|sides| sides.into_iter().max())
    }

    /// Decodes, and does orders until nobody can give any more.
    pub(crate) fn serve(
        &self,
        (header, mut sessions): (&Header, Sessions),
        decode: impl FnOnce(&Header) -> Result<Picture, ImageError>,
        (orders, canceled): (&mpsc::Receiver<Order>, &Canceled<'_>),
    ) -> Result<Sat, EngineError> {
        let begun = Instant::now();
        let picture = decode(header)?;
        let decode = begun.elapsed();
        let gate = self.plans.first().map(|plan| plan.gate).unwrap_or_default();
        let verdicts = judge(gate, &picture)?;
        let content = digest::content_digests(&picture);
        while let Ok(order) = orders.recv() {
            if canceled.is_canceled() {
                return Err(EngineError::Canceled);
            }
            (order.begun)();
            let done = || self.one((order.plan, order.region.as_ref()), &picture, &mut sessions);
            // A part that brings a reader down must not take the others with it.
            let done = catch_unwind(AssertUnwindSafe(done)).unwrap_or(Err(EngineError::Died));
            (order.done)(done);
        }
        Ok(Sat { verdicts, content, decode })
    }

    fn one(
        &self,
        (plan, region): (usize, Option<&Region>),
        picture: &Picture,
        sessions: &mut Sessions,
    ) -> Result<Results, EngineError> {
        let plan = self.plans.get(plan).ok_or(EngineError::Died)?;
        let (part, warp) = region.map(|region| view::cut(picture, region)).unzip();
        let mut results = Results::default();
        for task in &plan.tasks {
            let report = step(task, part.as_ref().unwrap_or(picture), sessions, &mut results);
            if let Some(error) = report.error {
                return Err(error);
            }
        }
        let size = (picture.full_width, picture.full_height);
        Ok(match warp {
            Some(warp) => results.placed(&warp, size),
            None => results,
        })
    }
}
