//! Decoder processes: an abort, an endless loop or a memory error in a decoder ends a child, not the server.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use eyebolt_types::ImageLimits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::DecodePlan;
use super::process::{Lost, Process, Recipe};
use crate::probe::Header;
use crate::{ImageError, Picture};

/// How to start processes, and what each may take.
#[derive(Debug, Clone)]
pub struct PoolSettings {
    /// An executable that runs [`super::worker::decode_worker_main`] with these arguments.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// How many pictures are decoded at once.
    pub workers: usize,
    /// The longest file and the most pixels bound the shared memory.
    pub limits: ImageLimits,
    /// Memory that one decode may take, bytes: a plan that needs more is refused.
    pub memory_bytes: u64,
    /// Time for one decode, after which its process is killed.
    pub max_decode: Duration,
}

/// A number of decoder processes, each busy with one picture at a time. One that fails is replaced at once.
#[derive(Debug)]
pub struct DecodePool {
    permits: Arc<Semaphore>,
    shelf: Arc<Shelf>,
    memory_bytes: u64,
    max_decode: Duration,
    orders: Option<Sender<Order>>,
    starter: Option<JoinHandle<()>>,
}

/// "Start one more process."
struct Order;

/// Processes that wait for work.
#[derive(Debug, Default)]
struct Shelf {
    idle: Mutex<VecDeque<io::Result<Process>>>,
    filled: Condvar,
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, VecDeque<io::Result<Process>>> {
        // The queue is whole between any two of its calls.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, process: io::Result<Process>) {
        self.lock().push_back(process);
        self.filled.notify_one();
    }

    /// Waits for one. The last that came back goes first, since its memory is still at hand.
    fn take(&self) -> io::Result<Process> {
        let mut idle = self.lock();
        loop {
            if let Some(process) = idle.pop_back() {
                return process;
            }
            idle = self.filled.wait(idle).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The right to one decode, held while it lasts.
#[derive(Debug)]
pub struct DecodePermit(#[expect(dead_code, reason = "gives itself back on drop")] OwnedSemaphorePermit);

impl DecodePool {
    /// Starts the processes, and returns when all of them are ready.
    ///
    /// # Errors
    /// Where one can't be started.
    pub fn start(settings: PoolSettings) -> io::Result<Self> {
        let PoolSettings { program, arguments, workers, limits, memory_bytes, max_decode } = settings;
        // A page of rounding between the two.
        let shared_bytes = limits.max_file_bytes + limits.max_pixels * 3 + (64 << 10);
        let recipe = Recipe { program, arguments, shared_bytes, memory_bytes };
        let shelf = Arc::<Shelf>::default();
        let (orders, received) = channel();
        let starter = std::thread::Builder::new().name("decode-starter".to_owned()).spawn({
            let shelf = Arc::clone(&shelf);
            move || start_on_order(&recipe, &received, &shelf)
        })?;
        let pool = Self {
            permits: Arc::new(Semaphore::new(workers)),
            shelf,
            memory_bytes,
            max_decode,
            orders: Some(orders),
            starter: Some(starter),
        };
        (0..workers).for_each(|_| pool.order());
        let started: io::Result<Vec<_>> = (0..workers).map(|_| pool.shelf.take()).collect();
        started?.into_iter().for_each(|process| pool.shelf.put(Ok(process)));
        Ok(pool)
    }

    /// Waits for a turn; whoever asks first is served first. [`Self::decode`] then finds a process without waiting,
    /// unless one is just being replaced.
    ///
    /// # Panics
    /// Never: the semaphore is not closed.
    pub async fn turn(&self) -> DecodePermit {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        DecodePermit(permit.expect("the semaphore is never closed"))
    }

    /// Decodes as [`super::decode`] does, in another process. Blocks the thread until that is done.
    ///
    /// # Errors
    /// Those of [`super::decode`]; [`ImageError::OverBudget`] where the plan goes beyond a process's memory;
    /// [`ImageError::DecodeTimeout`] where it took too long; [`ImageError::DecoderDied`]
    /// where the process ended, or where none can be started.
    pub fn decode(&self, bytes: &[u8], header: &Header, plan: &DecodePlan) -> Result<Picture, ImageError> {
        if plan.bytes_needed > self.memory_bytes {
            return Err(ImageError::OverBudget { budget: self.memory_bytes, needed: plan.bytes_needed });
        }
        let died = ImageError::DecoderDied { format: header.format };
        let Some(mut process) = self.living() else { return Err(died) };
        match process.decode(bytes, (header, plan), self.max_decode) {
            Ok(outcome) => {
                self.shelf.put(Ok(process));
                Ok(plan.picture(header, outcome?))
            }
            Err(lost) => {
                self.order();
                drop(process);
                Err(match lost {
                    Lost::TimedOut => {
                        let limit_seconds = self.max_decode.as_secs_f32().ceil() as u32;
                        ImageError::DecodeTimeout { limit_seconds }
                    }
                    Lost::Died => died,
                })
            }
        }
    }

    /// A process that runs. One that ended while it was idle says nothing about this picture: the next one is taken.
    fn living(&self) -> Option<Process> {
        loop {
            match self.shelf.take() {
                Ok(mut process) => {
                    if process.is_alive() {
                        return Some(process);
                    }
                    self.order();
                }
                Err(error) => {
                    tracing::error!(%error, "a decoder process can't be started");
                    self.order();
                    return None;
                }
            }
        }
    }

    fn order(&self) {
        if let Some(orders) = &self.orders {
            // The starter listens until this sender is dropped.
            let _ = orders.send(Order);
        }
    }
}

impl Drop for DecodePool {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(starter) = self.starter.take() {
            let _ = starter.join();
        }
    }
}

/// Starts a process for each order, all from this thread: Linux kills them with the thread that started them.
fn start_on_order(recipe: &Recipe, orders: &Receiver<Order>, shelf: &Shelf) {
    while let Ok(Order) = orders.recv() {
        shelf.put(Process::start(recipe));
    }
}
