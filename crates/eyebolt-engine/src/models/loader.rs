//! Loads sessions on a thread of its own, so that loading never blocks a request: what is asked for first, then the
//! default models, then the rest, then further sessions of each.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use super::{Model, canary};
use crate::{
    BackendError,
    backend::{Backend, Session},
    digest,
};

/// The thread that loads, told what is wanted.
pub(crate) struct Loader {
    queue: Mutex<Queue>,
    wake: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Arc<Model>>,
    stopped: bool,
}

impl Loader {
    /// Starts the thread with everything to load, in order; each model gets `sessions` sessions in the end.
    pub(crate) fn start(backend: Arc<dyn Backend>, models: &[Arc<Model>], sessions: usize) -> Arc<Self> {
        let rounds = (0..sessions).flat_map(|_| models.iter().cloned());
        let queue = Mutex::new(Queue { waiting: rounds.collect(), stopped: false });
        let loader = Arc::new(Self { queue, wake: Condvar::new(), thread: Mutex::default() });
        let worker = Arc::clone(&loader);
        let thread = thread::Builder::new()
            .name("eyebolt-loader".to_owned())
            .spawn(move || worker.work(backend.as_ref(), sessions))
            .expect("the system has a thread to spare when the server starts");
        *loader.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        loader
    }

    /// Brings a model to the front that has no session yet.
    pub(crate) fn hurry(&self, model: &Arc<Model>) {
        if model.pool.loaded() == 0 && model.pool.failure().is_none() {
            self.queue.lock().unwrap_or_else(PoisonError::into_inner).waiting.push_front(Arc::clone(model));
            self.wake.notify_one();
        }
    }

    /// Ends the thread after what it loads now, and waits for that: a runtime library that is unloaded while a model
    /// loads fails in its own ways.
    pub(crate) fn stop(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).stopped = true;
        self.wake.notify_one();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A loader that panicked has said so.
            let _ = thread.join();
        }
    }

    fn next(&self) -> Option<Arc<Model>> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if queue.stopped {
                return None;
            }
            if let Some(model) = queue.waiting.pop_front() {
                return Some(model);
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self, backend: &dyn Backend, sessions: usize) {
        while let Some(model) = self.next() {
            if model.pool.failure().is_some() || model.pool.loaded() >= sessions {
                continue;
            }
            match load(backend, &model) {
                Ok(session) => model.pool.add(session),
                Err(error) => {
                    tracing::error!(model = model.id, %error, "the model can't be loaded");
                    model.pool.fail(error.to_string());
                }
            }
        }
    }
}

/// Loads one session and runs the canary through it, which also warms it up.
fn load(backend: &dyn Backend, model: &Model) -> Result<Box<dyn Session>, BackendError> {
    let path = model.folder.join(&model.manifest.file);
    if model.pool.loaded() == 0 {
        check_digest(&path, &model.manifest.sha256)?;
    }
    let mut session = backend.load(&path)?;
    canary::run(model, session.as_mut())?;
    tracing::debug!(model = model.id, backend = backend.name(), "session loaded");
    Ok(session)
}

fn check_digest(path: &Path, wanted: &str) -> Result<(), BackendError> {
    let failed = |reason: String| BackendError::Load { backend: "file", reason };
    let bytes = std::fs::read(path).map_err(|error| failed(format!("{}: {error}", path.display())))?;
    let found = digest::sha256_hex(&bytes);
    if found.eq_ignore_ascii_case(wanted) {
        Ok(())
    } else {
        Err(failed(format!("{} has the digest {found}, its manifest says {wanted}", path.display())))
    }
}
