//! The threads that decode and run models: as many as there are cores to give, apart from those that serve sockets.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use eyebolt_types::Class;
use tokio::sync::oneshot;

use crate::turns::{Closed, Turn, Turns};

type Work = Box<dyn FnOnce() + Send>;

/// A fixed set of threads, with a permit for each: work is handed over only when a thread is free, so that a caller
/// who leaves while waiting has cost nothing.
pub(crate) struct Compute {
    work: mpsc::Sender<Work>,
    turns: Turns,
}

/// The right to use one thread.
pub(crate) struct ComputePermit(Turn);

/// Whether the caller still waits for the answer.
pub(crate) struct Canceled<'a>(&'a dyn Fn() -> bool);

impl Canceled<'_> {
    pub(crate) fn is_canceled(&self) -> bool {
        (self.0)()
    }
}

/// The work panicked, or the threads were stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost;

impl Compute {
    /// Starts `threads` threads; they end when the last handle is dropped.
    pub(crate) fn start(threads: usize) -> Self {
        let (work, queue) = mpsc::channel::<Work>();
        let queue = Arc::new(Mutex::new(queue));
        for index in 0..threads {
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name(format!("eyebolt-compute-{index}"))
                .spawn(move || serve(&queue))
                .expect("the system has threads to spare when the server starts");
        }
        Self { work, turns: Turns::new(threads) }
    }

    /// Waits for a free thread: first come, first served, but for batches, which others pass.
    pub(crate) async fn permit(&self, class: Class) -> Result<ComputePermit, Lost> {
        self.turns.take(class).await.map(ComputePermit).map_err(|Closed| Lost)
    }

    /// The threads, and who waits for one.
    pub(crate) fn turns(&self) -> Turns {
        self.turns.clone()
    }

    /// Runs `work` on the thread that the permit stands for. Dropping the future cancels it: `work` sees that.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        permit: ComputePermit,
        work: impl FnOnce(&Canceled<'_>) -> T + Send + 'static,
    ) -> Result<T, Lost> {
        let (answer, answered) = oneshot::channel();
        let work = Box::new(move || {
            let canceled = || answer.is_closed();
            let done = catch_unwind(AssertUnwindSafe(|| work(&Canceled(&canceled))));
            // The thread is free before the caller hears of it, so that the next one starts at once.
            drop(permit.0);
            if let Ok(done) = done {
                let _ = answer.send(done);
            }
        });
        self.work.send(work).map_err(|_| Lost)?;
        answered.await.map_err(|_| Lost)
    }
}

fn serve(queue: &Mutex<mpsc::Receiver<Work>>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(work) => work(),
            Err(mpsc::RecvError) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_loses_its_own_work_alone() {
        let compute = Compute::start(1);
        let permit = compute.permit(Class::Interactive).await.unwrap();
        assert_eq!(compute.run(permit, |_| panic!("on purpose")).await, Err::<(), _>(Lost));
        let permit = compute.permit(Class::Interactive).await.unwrap();
        assert_eq!(compute.run(permit, |_| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn whoever_leaves_while_waiting_costs_nothing_and_later_is_seen() {
        let compute = Compute::start(1);
        let (begun, has_begun) = oneshot::channel();
        let (seen, was_seen) = oneshot::channel();
        let permit = compute.permit(Class::Interactive).await.unwrap();
        let running = compute.run(permit, |canceled| {
            let _ = begun.send(());
            while !canceled.is_canceled() {
                thread::yield_now();
            }
            let _ = seen.send(());
        });
        tokio::select! {
            _ = running => unreachable!("it runs until it is canceled"),
            _ = has_begun => {}
        }
        assert_eq!(was_seen.await, Ok(()));
        assert!(compute.permit(Class::Interactive).await.is_ok());
    }
}
