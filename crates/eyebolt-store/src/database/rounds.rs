//! Moves whose statements come in rounds: all that need no answer of each other are one round. The rounds of all moves of
//! a group share a round trip to the server; what each decides between two rounds is its own.

use eyebolt_types::id::ProjectId;

use super::{Row, Statement, Transaction};
use crate::StoreError;

/// A move made of rounds.
pub(crate) trait Rounds: Send + 'static {
    /// What it comes to.
    type Done: Send + 'static;

    /// The project whose row its first statement locks. Moves of a group lock in the order of projects, so that no two groups
    /// wait for each other.
    fn locks(&self) -> Option<ProjectId> {
        None
    }

    /// Its first statements. Called again where everything was undone: what it has learnt is void then.
    fn begin(&mut self, pace: Pace) -> Vec<Statement>;

    /// Takes the rows that each statement of the last round gave.
    fn next(&mut self, answers: Vec<Vec<Row>>) -> Result<Round<Self::Done>, StoreError>;
}

/// What follows a round.
pub(crate) enum Round<T> {
    /// Another one.
    Ask(Vec<Statement>),
    /// Nothing.
    Done(T),
    /// It went the other way, at once: what was done is undone, and it is driven step by step.
    Slower,
}

/// How a move asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// A move that nearly always goes one way asks for all of it, without a look at the first answers: a round trip less.
    /// Where it went the other way it says [`Round::Slower`].
    AtOnce,
    /// Only what the answers before it allow.
    StepByStep,
}

/// One round whose answers are all that is wanted.
pub(super) struct Look(pub(super) Vec<Statement>);

impl Rounds for Look {
    type Done = Vec<Vec<Row>>;

    fn begin(&mut self, _: Pace) -> Vec<Statement> {
        self.0.clone()
    }

    fn next(&mut self, answers: Vec<Vec<Row>>) -> Result<Round<Self::Done>, StoreError> {
        Ok(Round::Done(answers))
    }
}

/// Runs a move alone, step by step.
pub(crate) fn drive<R: Rounds>(
    transaction: &mut dyn Transaction,
    rounds: &mut R,
) -> Result<R::Done, StoreError> {
    let mut statements = rounds.begin(Pace::StepByStep);
    loop {
        match rounds.next(transaction.query_all(&statements)?)? {
            Round::Ask(next) => statements = next,
            Round::Done(done) => return Ok(done),
            // Only what began at once says so.
            Round::Slower => return Err(StoreError::Conflict),
        }
    }
}
