//! Threads that hold connections. Moves queue up while a commit is under way, and the next one takes them all: with
//! sixty callers at once, sixty moves share one fsync (group commit).

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use eyebolt_types::id::ProjectId;
use tokio::sync::{oneshot, watch};

use super::{Connection, Kept, Pace, Round, Rounds, Row, Statement, Transaction, drive};
use crate::{StoreError, cap::Capped};

/// Moves in one transaction at most: bounds how long the first one waits for the last one's statements.
const GROUP: usize = 64;

/// A move that waits for its transaction.
pub(super) trait Move: Send {
    /// Runs the statements; the answer is kept. `Err`: they must be undone.
    fn run(&mut self, transaction: &mut dyn Transaction) -> Result<(), Undo>;

    /// The project whose row it locks before anything else.
    fn locks(&self) -> Option<ProjectId> {
        None
    }

    /// The statements of its first round, where it is made of rounds.
    fn begin(&mut self) -> Option<Vec<Statement>> {
        None
    }

    /// Takes the answers to a round; the next one, or none where its answer is kept.
    fn next(&mut self, answers: Vec<Vec<Row>>) -> Result<Option<Vec<Statement>>, Undo> {
        let _ = answers;
        Ok(None)
    }

    /// Tells the caller how it ended.
    fn tell(self: Box<Self>, committed: Result<(), StoreError>);
}

/// What this move did must be undone.
#[derive(Debug)]
pub(super) enum Undo {
    /// Its neighbours go on.
    Alone,
    /// The connection's transaction can't go on: its neighbours run again in a new one.
    All(StoreError),
}

struct Waiting<F, T> {
    locks: Option<ProjectId>,
    work: F,
    done: Option<Result<T, StoreError>>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Move for Waiting<F, T>
where
    F: Fn(&mut dyn Transaction) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn run(&mut self, transaction: &mut dyn Transaction) -> Result<(), Undo> {
        let locked = self.locks.map_or(Ok(()), |project| lock(transaction, [project]));
        match locked.and_then(|()| (self.work)(transaction)) {
            Err(error) if error.ends_transaction() => Err(Undo::All(error)),
            done => {
                let undo = done.is_err();
                self.done = Some(done);
                if undo { Err(Undo::Alone) } else { Ok(()) }
            }
        }
    }

    fn locks(&self) -> Option<ProjectId> {
        self.locks
    }

    fn tell(self: Box<Self>, committed: Result<(), StoreError>) {
        answer(self.answer, self.done, committed);
    }
}

/// A move made of rounds.
struct Stepping<R: Rounds> {
    rounds: R,
    done: Option<Result<R::Done, StoreError>>,
    answer: oneshot::Sender<Result<R::Done, StoreError>>,
}

impl<R: Rounds> Stepping<R> {
    fn keep(&mut self, done: Result<R::Done, StoreError>) -> Result<(), Undo> {
        match done {
            Err(error) if error.ends_transaction() => Err(Undo::All(error)),
            done => {
                let undo = done.is_err();
                self.done = Some(done);
                if undo { Err(Undo::Alone) } else { Ok(()) }
            }
        }
    }
}

impl<R: Rounds> Move for Stepping<R> {
    fn run(&mut self, transaction: &mut dyn Transaction) -> Result<(), Undo> {
        let done = drive(transaction, &mut self.rounds);
        self.keep(done)
    }

    fn locks(&self) -> Option<ProjectId> {
        self.rounds.locks()
    }

    fn begin(&mut self) -> Option<Vec<Statement>> {
        Some(self.rounds.begin(Pace::AtOnce))
    }

    fn next(&mut self, answers: Vec<Vec<Row>>) -> Result<Option<Vec<Statement>>, Undo> {
        match self.rounds.next(answers) {
            Ok(Round::Ask(statements)) => Ok(Some(statements)),
            Ok(Round::Done(done)) => self.keep(Ok(done)).map(|()| None),
            Ok(Round::Slower) => Err(Undo::Alone),
            Err(error) => self.keep(Err(error)).map(|()| None),
        }
    }

    fn tell(self: Box<Self>, committed: Result<(), StoreError>) {
        answer(self.answer, self.done, committed);
    }
}

fn answer<T>(
    to: oneshot::Sender<Result<T, StoreError>>,
    done: Option<Result<T, StoreError>>,
    committed: Result<(), StoreError>,
) {
    let done = match (committed, done) {
        // An answer that undid itself holds whatever became of the commit.
        (_, Some(Err(error))) | (Err(error), _) => Err(error),
        (Ok(()), Some(done)) => done,
        (Ok(()), None) => Err(StoreError::Stopped),
    };
    let _ = to.send(done);
}

/// Runs moves as one: the rounds of all of them side by side, then the others after each other.
pub(super) fn run_together(transaction: &mut dyn Transaction, queue: &mut Queue) -> Result<(), Undo> {
    let begun = queue.0.iter_mut().enumerate().map(|(place, one)| (place, one.begin()));
    let (rounds, single): (Vec<_>, Vec<_>) = begun.partition(|(_, statements)| statements.is_some());
    let locked: Vec<_> = queue.0.iter().filter_map(|one| one.locks()).collect();
    // What runs last locks first, too: after the rows of the rounds it would wait for a group that waits for those.
    if single.iter().any(|(place, _)| queue.0[*place].locks().is_some()) {
        lock(transaction, locked).map_err(Undo::All)?;
    }
    let mut asking: Vec<_> = rounds.into_iter().filter_map(|(place, asks)| Some((place, asks?))).collect();
    while !asking.is_empty() {
        let (places, statements): (Vec<_>, Vec<_>) =
            asking.into_iter().map(|(place, asks)| ((place, asks.len()), asks)).unzip();
        let statements: Vec<_> = statements.into_iter().flatten().collect();
        let mut answers = transaction.query_all(&statements).map_err(undo)?.into_iter();
        asking = Vec::new();
        for (place, count) in places {
            let next = queue.0[place].next(answers.by_ref().take(count).collect())?;
            asking.extend(next.map(|statements| (place, statements)));
        }
    }
    single.into_iter().try_for_each(|(place, _)| queue.0[place].run(transaction))
}

/// Locks the rows of projects, in their order.
fn lock(
    transaction: &mut dyn Transaction,
    projects: impl IntoIterator<Item = ProjectId>,
) -> Result<(), StoreError> {
    let ordered: BTreeSet<_> = projects.into_iter().collect();
    let locks: Vec<_> = ordered.into_iter().map(Capped::lock).collect();
    transaction.query_all(&locks).map(drop)
}

fn undo(error: StoreError) -> Undo {
    if error.ends_transaction() { Undo::All(error) } else { Undo::Alone }
}

/// The moves of one transaction.
pub(super) struct Queue(Vec<Box<dyn Move>>);

impl Queue {
    pub(super) fn moves(&mut self) -> &mut [Box<dyn Move>] {
        &mut self.0
    }
}

/// Threads with a connection each, and their common queue.
pub(super) struct Writers {
    waiting: mpsc::Sender<Box<dyn Move>>,
}

impl Writers {
    /// Starts a thread for each connection. They end when this is dropped.
    pub(super) fn start<C: Connection>(connections: Vec<C>, fail: &watch::Sender<Option<String>>) -> Self {
        let (waiting, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        for (index, mut connection) in connections.into_iter().enumerate() {
            let (queue, fail) = (Arc::clone(&queue), fail.clone());
            thread::Builder::new()
                .name(format!("eyebolt-store-{index}"))
                .spawn(move || {
                    while let Some(mut group) = next_group(&queue) {
                        serve(&mut connection, &mut group, &fail);
                    }
                })
                .expect("the system has threads to spare when the store is opened");
        }
        Self { waiting }
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        locks: Option<ProjectId>,
        work: impl Fn(&mut dyn Transaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let waiting = Box::new(Waiting { locks, work, done: None, answer });
        self.waiting.send(waiting).map_err(|_| StoreError::Stopped)?;
        answered.await.map_err(|_| StoreError::Stopped)?
    }

    pub(super) async fn run_rounds<R: Rounds>(&self, rounds: R) -> Result<R::Done, StoreError> {
        let (answer, answered) = oneshot::channel();
        let stepping = Box::new(Stepping { rounds, done: None, answer });
        self.waiting.send(stepping).map_err(|_| StoreError::Stopped)?;
        answered.await.map_err(|_| StoreError::Stopped)?
    }
}

/// Waits for a move, and takes those that wait with it.
fn next_group(queue: &Mutex<mpsc::Receiver<Box<dyn Move>>>) -> Option<Queue> {
    let queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    let first = queue.recv().ok()?;
    let mut group: Vec<_> = std::iter::once(first).chain(queue.try_iter().take(GROUP - 1)).collect();
    // Those that lock nothing stay in their order.
    group.sort_by_cached_key(|one| one.locks());
    Some(Queue(group))
}

fn serve<C: Connection>(connection: &mut C, group: &mut Queue, fail: &watch::Sender<Option<String>>) {
    // After a failed commit nobody knows what is on the disk: only a restart reads it anew.
    if let Some(reason) = fail.borrow().clone() {
        return tell(group, &Err(StoreError::Failed { reason }));
    }
    let committed = commit(connection, group);
    if let Err(StoreError::Failed { reason }) = &committed {
        tracing::error!(%reason, "the store failed");
        fail.send_replace(Some(reason.clone()));
    }
    tell(group, &committed);
}

/// Savepoints cost two round trips a move, and nearly no move fails: a group has them only where one did.
fn commit<C: Connection>(connection: &mut C, group: &mut Queue) -> Result<(), StoreError> {
    if connection.commit_group(group, Kept::Together)? {
        return Ok(());
    }
    connection.commit_group(group, Kept::Apart).map(drop)
}

fn tell(group: &mut Queue, committed: &Result<(), StoreError>) {
    for one in group.0.drain(..) {
        one.tell(committed.clone());
    }
}
