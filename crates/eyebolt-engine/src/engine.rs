//! The engine: one checked image and a plan in, findings out.

mod sessions;
mod stint;
mod work;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use eyebolt_types::{AnalyzeRequest, Class, Feature, ImageLimits, Results};

use self::work::Looks;
pub use self::work::{Findings, StepReport};
pub(crate) use self::{
    sessions::Sessions,
    stint::{Pixels, Progress, Stint, Work},
    work::{judge, step},
};
use crate::{
    BackendError, EngineError, ImageError, Picture,
    backend::{Backend, OnnxRuntime, Rten},
    compute::{Compute, Lost},
    decode::{
        self, DecodePlan,
        pool::{DecodePool, PoolSettings},
    },
    memory::MemoryBudget,
    models::{Model, Models},
    plan::Plan,
    probe::{self, Header},
    sitting::{Order, Sat, Served, Sitting},
};

/// What runs the models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendChoice {
    /// ONNX Runtime from this library file.
    OnnxRuntime(PathBuf),
    /// rten: no library, two to four times the time.
    Rten,
}

/// How an engine is set up.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// The folder whose subfolders hold a `model.toml` each.
    pub models: PathBuf,
    /// What runs the models.
    pub backend: BackendChoice,
    /// Threads that decode and run models.
    pub threads: usize,
    /// Sessions of each model: how many requests can run one model at once.
    pub sessions: usize,
    /// Memory for decoded pixels, bytes.
    pub memory: u64,
    /// What an image may be.
    pub limits: ImageLimits,
    /// The command that starts a decoder process; `None`: decode in this process, where an abort takes it down.
    pub decoder: Option<Vec<String>>,
}

/// Reads images. Holds models, threads and the memory budget.
pub struct Engine {
    models: Models,
    compute: Compute,
    memory: MemoryBudget,
    limits: ImageLimits,
    decoder: Arc<Decoder>,
}

/// Where decoding happens.
struct Decoder {
    /// Decoder processes; none: in this one.
    pool: Option<DecodePool>,
    /// Images that were begun.
    count: AtomicU64,
}

impl Decoder {
    fn decode(&self, bytes: &[u8], header: &Header, plan: &DecodePlan) -> Result<Picture, ImageError> {
        self.count.fetch_add(1, Ordering::Relaxed);
        match &self.pool {
            None => decode::decode(bytes, header, plan),
            Some(pool) => pool.decode(bytes, header, plan),
        }
    }
}

impl Engine {
    /// Starts threads and decoder processes, and begins to load models; returns before any is loaded.
    ///
    /// # Errors
    /// Where the runtime library can't be loaded or no decoder process starts.
    pub fn start(settings: EngineSettings) -> Result<Self, EngineError> {
        let backend: Arc<dyn Backend> = match &settings.backend {
            BackendChoice::Rten => Arc::new(Rten),
            BackendChoice::OnnxRuntime(library) => {
                Arc::new(OnnxRuntime::load(library).map_err(EngineError::Backend)?)
            }
        };
        let pool =
            settings.decoder.as_deref().map(|program| start_decoders(program, &settings)).transpose()?;
        let decoder = Decoder { pool, count: AtomicU64::new(0) };
        Ok(Self {
            models: Models::open(&settings.models, backend, settings.sessions),
            compute: Compute::start(settings.threads.max(1)),
            memory: MemoryBudget::new(settings.memory),
            limits: settings.limits,
            decoder: Arc::new(decoder),
        })
    }

    /// The models there are.
    pub fn models(&self) -> &Models {
        &self.models
    }

    /// What an image may be.
    pub fn limits(&self) -> &ImageLimits {
        &self.limits
    }

    /// Images whose decoding was begun since the start.
    pub fn decodes(&self) -> u64 {
        self.decoder.count.load(Ordering::Relaxed)
    }

    /// Memory for pixels that is taken now, bytes.
    pub fn memory_used(&self) -> u64 {
        self.memory.used()
    }

    /// Bytes that all decoders may hold together.
    pub fn memory_total(&self) -> u64 {
        self.memory.total()
    }

    /// Reads the header and refuses what must not be decoded. Needs no permit: it allocates nothing for pixels.
    ///
    /// # Errors
    /// Where the file is no image, is broken, dangerous, or beyond a limit.
    pub fn probe(&self, bytes: &[u8]) -> Result<Header, ImageError> {
        probe::probe(bytes, &self.limits)
    }

    /// Resolves models and checks what only they can check.
    ///
    /// # Errors
    /// Where a model is unknown or of another task, or a parameter names something that the model doesn't know.
    pub fn plan(&self, request: &AnalyzeRequest) -> Result<Plan, EngineError> {
        Plan::new(request, &self.models)
    }

    /// Decodes the image and does what the plan says, for somebody who waits for it. Dropping the future cancels what has not begun.
    ///
    /// # Errors
    /// Where the image is refused, or a model can't be had. A feature that fails is told in its step.
    pub async fn analyze(
        &self,
        bytes: impl AsRef<[u8]> + Send + 'static,
        request: (Header, Plan),
    ) -> Result<Findings, EngineError> {
        self.analyze_by_step(bytes, request, (Class::Interactive, |_: &_, _: &_| {})).await
    }

    /// As [`Engine::analyze`], as urgently as it is said; `ended` is told each step as it ends, with all results so far, on
    /// the thread that computes.
    ///
    /// Waits for memory first, then for models and a thread. Between two features it gives those back to whoever is more
    /// urgent and waits for them, and keeps its picture: so nobody who has a thread or a model ever waits for memory.
    ///
    /// # Errors
    /// As [`Engine::analyze`].
    pub async fn analyze_by_step(
        &self,
        bytes: impl AsRef<[u8]> + Send + 'static,
        (header, plan): (Header, Plan),
        (class, ended): (Class, impl FnMut(&StepReport, &Results) + Send + 'static),
    ) -> Result<Findings, EngineError> {
        let decoding = decode::plan(&header, plan.wanted_side(&header));
        let pixels = self.pixels(decoding.bytes_needed).await?;
        let decoder = Arc::clone(&self.decoder);
        let decode = move |header: &Header| decoder.decode(bytes.as_ref(), header, &decoding);
        self.in_stints(Looks { header, plan, decode, ended, seen: None, _pixels: pixels }, class).await
    }

    /// Decodes the image once and does orders with it, until nobody can give any more. Waits as [`Engine::analyze_by_step`] does,
    /// and gives back between two orders what somebody more urgent waits for; dropping the future cancels what has not begun.
    ///
    /// # Errors
    /// Where the image is refused, or a model can't be had. What fails of an order is told to whoever gave it.
    pub async fn sit(
        &self,
        bytes: impl AsRef<[u8]> + Send + 'static,
        (header, sitting): (Header, Sitting),
        orders: mpsc::Receiver<Order>,
    ) -> Result<Sat, EngineError> {
        let decoding = decode::plan(&header, sitting.wanted_side(&header));
        // The parts have together with their whole at most twice its pixels at a time.
        let parts = if sitting.full { header.pixels() * 3 } else { 0 };
        let held = decoding.bytes_needed.max((decoding.bytes_needed + parts).min(self.memory.total()));
        let (pixels, class) = (self.pixels(held).await?, sitting.class);
        let decoder = Arc::clone(&self.decoder);
        let decode = move || decoder.decode(bytes.as_ref(), &header, &decoding);
        self.in_stints(Served::new(sitting, decode, orders, pixels), class).await
    }

    /// A session of each.
    async fn sessions(&self, models: Vec<Arc<Model>>, class: Class) -> Result<Sessions, EngineError> {
        let mut sessions = Sessions::default();
        for model in models {
            let lent = self.models.session(&model, class).await?;
            sessions.put(&model, lent);
        }
        Ok(sessions)
    }

    /// Whether all models that read text are there.
    pub fn reads_text(&self) -> bool {
        let request = AnalyzeRequest::of([Feature::Text]);
        let sound = |plan: Plan| plan.models().iter().all(|model| model.failure().is_none());
        self.plan(&request).is_ok_and(sound)
    }

    /// Runs a tiny inference on the default model that is cheapest to run.
    ///
    /// # Errors
    /// Where no model is installed, or it can't be loaded or run.
    pub async fn canary(&self) -> Result<(), EngineError> {
        let first = [Feature::Faces, Feature::Objects, Feature::Labels, Feature::Text];
        let model = first.into_iter().find_map(|feature| self.models.resolve(feature, None).ok());
        let model = model.ok_or_else(|| EngineError::FeatureUnavailable {
            feature: Feature::Objects,
            reason: "no model is installed: run eyebolt setup".to_owned(),
        })?;
        let mut session = self.models.session(&model, Class::Interactive).await?;
        let permit = self.compute.permit(Class::Interactive).await.map_err(|Lost| EngineError::Stopped)?;
        let ran = self.compute.run(permit, move |_| Models::canary(&model, &mut session)).await;
        ran.map_err(|Lost| EngineError::Died)?
    }
}

fn start_decoders(command: &[String], settings: &EngineSettings) -> Result<DecodePool, EngineError> {
    let failed = |reason: String| EngineError::Decoders { reason };
    let (program, arguments) =
        command.split_first().ok_or_else(|| failed("the command that starts one is empty".to_owned()))?;
    DecodePool::start(PoolSettings {
        program: program.into(),
        arguments: arguments.iter().map(Into::into).collect(),
        workers: settings.threads,
        limits: settings.limits.clone(),
        memory_bytes: settings.memory,
        max_decode: Duration::from_secs(u64::from(settings.limits.max_decode_seconds)),
    })
    .map_err(|error| failed(error.to_string()))
}

impl From<BackendError> for EngineError {
    fn from(error: BackendError) -> Self {
        Self::Backend(error)
    }
}
