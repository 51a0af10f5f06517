//! Turns at something that few can have at once: a thread, a session of a model.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use eyebolt_types::Class;
use tokio::sync::oneshot;

/// So many who came later may go first: whoever somebody waits for passes a batch, and a batch still gets a tenth.
fn passed_by(class: Class) -> u64 {
    match class {
        Class::Interactive => 0,
        Class::Standard => 4,
        Class::Batch => 9,
    }
}

/// A number of turns and those who wait for one. Cheap to clone; every clone is the same line.
#[derive(Debug, Clone)]
pub struct Turns(Arc<Mutex<Line>>);

#[derive(Debug)]
struct Line {
    free: usize,
    closed: bool,
    came: u64,
    /// By the number that each came with, set back by its class. One that has left is found out when its turn comes.
    waiting: BTreeMap<(u64, Class, u64), oneshot::Sender<Turn>>,
}

/// The turn is given to the next one when this is dropped.
#[derive(Debug)]
pub struct Turn(Option<Turns>);

/// There are no turns any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

impl Turns {
    /// So many, all free.
    pub fn new(free: usize) -> Self {
        let line = Line { free, closed: false, came: 0, waiting: BTreeMap::new() };
        Self(Arc::new(Mutex::new(line)))
    }

    /// One more, for good.
    pub fn add(&self) {
        self.pass_on();
    }

    /// Whoever waits, and whoever comes, is told that there is none.
    pub fn close(&self) {
        let mut line = self.line();
        line.closed = true;
        line.waiting.clear();
    }

    /// Waits for a turn. Dropping the future leaves the line.
    ///
    /// # Errors
    /// Where the line was closed.
    pub async fn take(&self, class: Class) -> Result<Turn, Closed> {
        let told = {
            let mut line = self.line();
            if line.closed {
                return Err(Closed);
            }
            line.came += 1;
            if line.free > 0 {
                line.free -= 1;
                return Ok(Turn(Some(self.clone())));
            }
            let (tell, told) = oneshot::channel();
            let place = (line.came + passed_by(class), class, line.came);
            line.waiting.insert(place, tell);
            told
        };
        told.await.map_err(|_| Closed)
    }

    /// Whether somebody waits who is more urgent.
    pub(crate) fn is_wanted(&self, class: Class) -> bool {
        class != Class::Interactive
            && self.line().waiting.iter().any(|((_, other, _), tell)| *other < class && !tell.is_closed())
    }

    fn pass_on(&self) {
        let mut line = self.line();
        while let Some((_, next)) = line.waiting.pop_first() {
            match next.send(Turn(Some(self.clone()))) {
                Ok(()) => return,
                // It has left. The turn is not dropped here: that would pass it on, under the lock.
                Err(mut unused) => drop(unused.0.take()),
            }
        }
        line.free += 1;
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    struct Waiter(Pin<Box<dyn Future<Output = Result<Turn, Closed>>>>);

    impl Waiter {
        /// In the line, where it has no turn at once.
        fn comes(turns: &Turns, class: Class) -> Self {
            let turns = turns.clone();
            let mut waiter = Self(Box::pin(async move { turns.take(class).await }));
            assert!(waiter.looks().is_none());
            waiter
        }

        fn looks(&mut self) -> Option<Result<Turn, Closed>> {
            match self.0.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(taken) => Some(taken),
                Poll::Pending => None,
            }
        }
    }

    /// One turn, which is taken.
    fn one_taken() -> (Turns, Turn) {
        let turns = Turns::new(1);
        let mut taken = Box::pin(turns.take(Class::Batch));
        let Poll::Ready(Ok(turn)) = taken.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("it was free");
        };
        (turns.clone(), turn)
    }

    /// Who has the turn after each other, by their places in `line`.
    fn served(mut line: Vec<Waiter>, turn: Turn) -> Vec<usize> {
        let (mut order, mut turn) = (Vec::new(), Some(turn));
        while order.len() < line.len() {
            drop(turn.take());
            let waits = (0..line.len()).filter(|place| !order.contains(place)).collect::<Vec<_>>();
            let next = waits.into_iter().find_map(|place| Some((place, line[place].looks()?)));
            let (place, taken) = next.expect("the turn is somebody's");
            order.push(place);
            turn = Some(taken.expect("the line is open"));
        }
        order
    }

    #[test]
    fn whoever_is_waited_for_passes_batches_and_a_batch_gets_a_tenth() {
        let (turns, turn) = one_taken();
        let classes = [Class::Batch, Class::Batch].into_iter().chain([Class::Interactive; 12]);
        let line = classes.map(|class| Waiter::comes(&turns, class)).collect();
        assert_eq!(served(line, turn), [2, 3, 4, 5, 6, 7, 8, 9, 0, 10, 1, 11, 12, 13]);
    }

    #[test]
    fn equals_are_served_as_they_came() {
        for class in Class::ALL {
            let (turns, turn) = one_taken();
            let line = (0..5).map(|_| Waiter::comes(&turns, class)).collect();
            assert_eq!(served(line, turn), [0, 1, 2, 3, 4], "{class}");
        }
    }

    #[test]
    fn who_leaves_takes_no_turn_along() {
        let (turns, turn) = one_taken();
        let (left, gave_back) =
            (Waiter::comes(&turns, Class::Interactive), Waiter::comes(&turns, Class::Interactive));
        let mut stays = Waiter::comes(&turns, Class::Batch);
        drop(left);
        drop(turn);
        assert!(stays.looks().is_none());
        // It has been told already, and leaves without having looked.
        drop(gave_back);
        assert!(matches!(stays.looks(), Some(Ok(_))));
        let line = turns.line();
        assert_eq!((line.free, line.waiting.len()), (1, 0));
    }

    #[test]
    fn those_who_wait_hear_that_there_is_nothing_to_wait_for() {
        let turns = Turns::new(0);
        let [mut first, mut second] = [(); 2].map(|()| Waiter::comes(&turns, Class::Interactive));
        turns.add();
        turns.close();
        assert!(matches!(first.looks(), Some(Ok(_))), "it had its turn before");
        assert!(matches!(second.looks(), Some(Err(Closed))));
        let mut waits = Box::pin(turns.take(Class::Interactive));
        let told = waits.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(told, Poll::Ready(Err(Closed))));
    }
}
