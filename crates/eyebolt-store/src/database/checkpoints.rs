//! SQLite's log is moved into the file beside the writer, not by it: a commit that had to wait for ten thousand pages and
//! their sync would keep everybody behind it waiting.
//!
//! A log can be begun anew only when all of it has been moved, and beside a writer that never rests some of it is always
//! left. So the thread of this room moves nearly all, and the writer the rest, between two groups.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU8, Ordering},
        mpsc,
    },
    thread,
};

use rusqlite::Connection as Handle;

use crate::StoreError;

/// Pages of 4 KiB in the log before they are moved. Under load the same pages change again and again: with SQLite's own
/// 1,000 they are moved, and synced, ten times as often.
const PAGES: i64 = 10_000;

/// So many, and the writer moves them whatever it costs: the log must end somewhere.
const MOST_PAGES: i64 = 4 * PAGES;

/// What the writer moves without anybody noticing.
const FEW_PAGES: i64 = 500;

/// How often the log is gone through before what is left goes to the writer.
const PASSES: usize = 4;

/// Nobody moves pages.
const RESTING: u8 = 0;
/// The thread does.
const MOVING: u8 = 1;
/// The rest is the writer's.
const LEFT: u8 = 2;

/// The writer's end.
pub(super) struct Checkpoints {
    pages: Arc<AtomicI64>,
    state: Arc<AtomicU8>,
    wake: mpsc::Sender<()>,
}

impl Checkpoints {
    /// Takes over from the writer. The thread ends with what is returned.
    pub(super) fn beside(writer: &mut Handle, path: &Path) -> Result<Self, StoreError> {
        let (pages, state) = (Arc::<AtomicI64>::default(), Arc::<AtomicU8>::default());
        let counted = Arc::clone(&pages);
        // In the place of the hook that moves them.
        writer.wal_hook(Some(move |_: &mut _, pages: std::ffi::c_int| {
            counted.store(i64::from(pages), Ordering::Relaxed);
            Ok(())
        }))?;
        let handle = Handle::open(path)?;
        handle.busy_timeout(super::sqlite::BUSY)?;
        let (wake, woken) = mpsc::channel();
        let moving = Arc::clone(&state);
        thread::Builder::new()
            .name("eyebolt-checkpoint".to_owned())
            .spawn(move || {
                while let Ok(()) = woken.recv() {
                    for _ in 0..PASSES {
                        if advance(&handle) < FEW_PAGES {
                            break;
                        }
                    }
                    moving.store(LEFT, Ordering::Release);
                }
            })
            .expect("the system has threads to spare when the store is opened");
        Ok(Self { pages, state, wake })
    }

    /// To be called between two transactions.
    pub(super) fn between_groups(&self, writer: &Handle) {
        let (pages, state) = (self.pages.load(Ordering::Relaxed), self.state.load(Ordering::Acquire));
        if state == LEFT || pages >= MOST_PAGES {
            advance(writer);
            self.pages.store(0, Ordering::Relaxed);
            if state == LEFT {
                self.state.store(RESTING, Ordering::Relaxed);
            }
        } else if state == RESTING && pages >= PAGES {
            self.state.store(MOVING, Ordering::Relaxed);
            // The thread lives as long as this.
            _ = self.wake.send(());
        }
    }
}

/// Moves what no reader still needs where it is. How many pages came into the log meanwhile, or could not be moved.
fn advance(handle: &Handle) -> i64 {
    let moved = handle.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
    });
    match moved {
        Ok((log, moved)) => (log - moved).max(0),
        Err(error) => {
            // The log keeps everything; it is tried again after the next thousands of pages.
            tracing::warn!(%error, "the log could not be moved into the database");
            0
        }
    }
}
