//! One picture, and orders that come while it is there: the steps of a pipeline and their parts.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use eyebolt_types::{Class, Results, pipeline::Region, result::QualityVerdict};

use crate::{
    EngineError, ImageError, Picture, Plan,
    digest::{self, ContentDigests},
    engine::{Pixels, Progress, Sessions, Stint, Work, judge, step},
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
    /// How urgent it is.
    pub class: Class,
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

/// A sitting that is served.
pub(crate) struct Served<D> {
    sitting: Sitting,
    decode: D,
    orders: mpsc::Receiver<Order>,
    /// What the first stint saw.
    seen: Option<Seen>,
    /// An order that came when the thread was wanted.
    next: Option<Order>,
    _pixels: Pixels,
}

struct Seen {
    picture: Picture,
    sat: Sat,
}

impl Sitting {
    pub(crate) fn wanted_side(&self, header: &Header) -> Option<u32> {
        if self.full {
            return None;
        }
        let sides: Option<Vec<_>> = self.plans.iter().map(|plan| plan.wanted_side(header)).collect();
        sides.and_then(|sides| sides.into_iter().max())
    }

    fn look(&self, decode: impl FnOnce() -> Result<Picture, ImageError>) -> Result<Seen, EngineError> {
        let begun = Instant::now();
        let picture = decode()?;
        let decode = begun.elapsed();
        let gate = self.plans.first().map(|plan| plan.gate).unwrap_or_default();
        let sat =
            Sat { verdicts: judge(gate, &picture)?, content: digest::content_digests(&picture), decode };
        Ok(Seen { picture, sat })
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

impl<D: Fn() -> Result<Picture, ImageError> + Send + 'static> Served<D> {
    /// `decode`: bytes to pixels.
    pub(crate) fn new(sitting: Sitting, decode: D, orders: mpsc::Receiver<Order>, pixels: Pixels) -> Self {
        Self { sitting, decode, orders, seen: None, next: None, _pixels: pixels }
    }
}

impl<D: Fn() -> Result<Picture, ImageError> + Send + 'static> Work for Served<D> {
    type Done = Sat;

    fn models(&self) -> Vec<Arc<Model>> {
        let mut models: Vec<_> = self.sitting.plans.iter().flat_map(Plan::models).collect();
        models.sort_by(|a, b| a.id.cmp(&b.id));
        models.dedup_by(|a, b| a.id == b.id);
        models
    }

    /// Decodes, where it is the first stint, and does orders until nobody can give any more.
    fn go_on(mut self, mut stint: Stint<'_>) -> Result<Progress<Self>, EngineError> {
        let (seen, mut did) = match self.seen.take() {
            Some(seen) => (seen, false),
            None => (self.sitting.look(&self.decode)?, true),
        };
        while let Some(order) = self.next.take().or_else(|| self.orders.recv().ok()) {
            stint.check()?;
            if did && stint.is_wanted() {
                return Ok(Progress::Interrupted(Self { seen: Some(seen), next: Some(order), ..self }));
            }
            (order.begun)();
            let wanted = (order.plan, order.region.as_ref());
            let done = || self.sitting.one(wanted, &seen.picture, &mut stint.sessions);
            // A part that brings a reader down must not take the others with it.
            let done = catch_unwind(AssertUnwindSafe(done)).unwrap_or(Err(EngineError::Died));
            (order.done)(done);
            did = true;
        }
        Ok(Progress::Done(seen.sat))
    }
}
