//! Work in stints: it stops where somebody more urgent waits for what it has, and goes on later.

use std::sync::Arc;

use eyebolt_types::Class;

use super::{Engine, Sessions};
use crate::{
    EngineError,
    compute::{Canceled, Lost},
    memory::{self, Reservation},
    models::Model,
    turns::Turns,
};

/// Work on one picture.
pub(crate) trait Work: Send + Sized + 'static {
    /// What comes of it.
    type Done: Send + 'static;

    /// The models that must be at hand, each once, in an order that is the same for everybody.
    fn models(&self) -> Vec<Arc<Model>>;

    /// Does what can be done in this stint: something, before it is interrupted.
    fn go_on(self, stint: Stint<'_>) -> Result<Progress<Self>, EngineError>;
}

/// How a stint ended.
pub(crate) enum Progress<W: Work> {
    Done(W::Done),
    /// Somebody more urgent waits: what is left.
    Interrupted(W),
}

/// What work has for a while.
pub(crate) struct Stint<'a> {
    pub(crate) sessions: Sessions,
    canceled: &'a Canceled<'a>,
    threads: Turns,
    class: Class,
}

impl Stint<'_> {
    /// Whether somebody more urgent waits for the thread or for one of the sessions.
    pub(crate) fn is_wanted(&self) -> bool {
        self.threads.is_wanted(self.class) || self.sessions.are_wanted(self.class)
    }

    /// Nobody waits for the answer any more: what is left would be for nothing.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        if self.canceled.is_canceled() { Err(EngineError::Canceled) } else { Ok(()) }
    }
}

/// Memory for the pixels of one image. To be dropped after them.
pub(crate) struct Pixels {
    held: u64,
    _memory: Reservation,
}

impl Drop for Pixels {
    fn drop(&mut self) {
        memory::give_back(self.held);
    }
}

impl Engine {
    /// Waits until so many bytes may be held.
    pub(super) async fn pixels(&self, held: u64) -> Result<Pixels, EngineError> {
        Ok(Pixels { held, _memory: self.memory.reserve(held).await? })
    }

    /// Does work to its end. Each stint waits for models, then for a thread.
    pub(super) async fn in_stints<W: Work>(&self, mut work: W, class: Class) -> Result<W::Done, EngineError> {
        loop {
            let sessions = self.sessions(work.models(), class).await?;
            let permit = self.compute.permit(class).await.map_err(|Lost| EngineError::Stopped)?;
            let threads = self.compute.turns();
            let stint =
                move |canceled: &Canceled<'_>| work.go_on(Stint { sessions, canceled, threads, class });
            match self.compute.run(permit, stint).await.map_err(|Lost| EngineError::Died)?? {
                Progress::Done(done) => return Ok(done),
                Progress::Interrupted(left) => work = left,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Mutex, mpsc},
        task::{Context, Waker},
    };

    use eyebolt_types::{AnalyzeRequest, Feature, ImageLimits};
    use tokio::sync::oneshot;

    use super::*;
    use crate::{BackendChoice, EngineSettings, Order, Sitting};

    /// An engine with one thread and no model, and a picture.
    fn engine() -> (Engine, Vec<u8>) {
        let settings = EngineSettings {
            models: std::env::temp_dir().join("no-models"),
            backend: BackendChoice::Rten,
            threads: 1,
            sessions: 1,
            memory: 64 << 20,
            limits: ImageLimits::default(),
            decoder: None,
        };
        let pixels = (0..96 * 96 * 3).map(|place: u32| (place % 251) as u8);
        let picture = b"P6\n96 96\n255\n".iter().copied().chain(pixels).collect();
        (Engine::start(settings).unwrap(), picture)
    }

    fn measure(engine: &Engine, features: impl IntoIterator<Item = Feature>) -> crate::Plan {
        engine.plan(&AnalyzeRequest::of(features)).unwrap()
    }

    #[tokio::test]
    async fn a_batch_gives_its_thread_to_whoever_is_waited_for_between_two_parts() {
        let (engine, picture) = engine();
        let header = || engine.probe(&picture).unwrap();
        let happened = Arc::new(Mutex::new(Vec::new()));
        let (give, orders) = mpsc::channel();
        let order = |name: &'static str| {
            let (happened, (tell, told)) = (Arc::clone(&happened), oneshot::channel());
            let done = Box::new(move |found: Result<_, _>| _ = tell.send(found.is_ok()));
            let begun = Box::new(move || happened.lock().unwrap().push(name));
            give.send(Order { plan: 0, region: None, begun, done }).unwrap();
            told
        };
        let plans = vec![measure(&engine, [Feature::Quality])];
        let sitting = Sitting { plans, full: true, class: Class::Batch };
        let mut sat = Box::pin(engine.sit(picture.clone(), (header(), sitting), orders));
        let mut context = Context::from_waker(Waker::noop());
        assert!(sat.as_mut().poll(&mut context).is_pending());
        assert_eq!(order("first").await, Ok(true));

        let ended = Arc::clone(&happened);
        let plan = measure(&engine, [Feature::Quality]);
        let tell = move |_: &_, _: &_| ended.lock().unwrap().push("call");
        let call = engine.analyze_by_step(picture.clone(), (header(), plan), (Class::Interactive, tell));
        let mut call = Box::pin(call);
        assert!(call.as_mut().poll(&mut context).is_pending(), "the sitting has the thread");
        let (second, third) = (order("second"), order("third"));
        drop(give);
        let (called, sat) = tokio::join!(call, sat);
        assert!(called.is_ok() && sat.is_ok());
        assert_eq!((second.await, third.await), (Ok(true), Ok(true)));
        assert_eq!(*happened.lock().unwrap(), ["first", "call", "second", "third"]);
        assert_eq!((engine.decodes(), engine.memory_used()), (2, 0));
    }

    #[tokio::test]
    async fn so_it_does_between_two_features_and_nothing_is_done_twice() {
        let (engine, picture) = engine();
        let header = || engine.probe(&picture).unwrap();
        let happened = Arc::new(Mutex::new(Vec::new()));
        let (begun, has_begun) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let steps = Arc::clone(&happened);
        let tell = move |report: &crate::StepReport, _: &_| {
            steps.lock().unwrap().push(report.feature.name());
            begun.send(()).unwrap();
            // The first feature ends when the call waits.
            _ = may_go_on.recv();
        };
        let plan = measure(&engine, [Feature::Quality, Feature::Barcodes]);
        let item = engine.analyze_by_step(picture.clone(), (header(), plan), (Class::Batch, tell));
        let mut item = Box::pin(item);
        let mut context = Context::from_waker(Waker::noop());
        assert!(item.as_mut().poll(&mut context).is_pending());
        has_begun.recv().unwrap();

        let (ended, plan) = (Arc::clone(&happened), measure(&engine, [Feature::Quality]));
        let tell = move |_: &_, _: &_| ended.lock().unwrap().push("call");
        let call = engine.analyze_by_step(picture.clone(), (header(), plan), (Class::Interactive, tell));
        let mut call = Box::pin(call);
        assert!(call.as_mut().poll(&mut context).is_pending(), "the item has the thread");
        drop(go_on);
        let (called, found) = tokio::join!(call, item);
        assert_eq!((called.unwrap().steps.len(), found.unwrap().steps.len()), (1, 2));
        assert_eq!(*happened.lock().unwrap(), ["quality", "call", "barcodes"]);
        assert_eq!((engine.decodes(), engine.memory_used()), (2, 0));
    }
}
