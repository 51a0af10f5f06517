//! What the servers on one database tell each other: hints that spare them a wait, never promises. Whoever misses one
//! finds out by looking.

use std::{fmt, str::FromStr};

use eyebolt_types::{
    UnknownName,
    id::{JobId, ProjectId},
};
use tokio::sync::broadcast;

use crate::Store;

/// Something that another server may be waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// There is a job that nobody works on.
    Pending,
    /// Somebody wants this job to be canceled.
    Cancel(JobId),
    /// This job has ended.
    Ended(JobId),
    /// There is a new event of this project: heard by [`Store::news`].
    Event(ProjectId),
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending => f.write_str("pending"),
            Self::Cancel(job) => write!(f, "cancel:{job}"),
            Self::Ended(job) => write!(f, "ended:{job}"),
            Self::Event(project) => write!(f, "event:{project}"),
        }
    }
}

impl FromStr for Signal {
    type Err = UnknownName;

    fn from_str(word: &str) -> Result<Self, UnknownName> {
        let job = |id: &str| id.parse().map_err(|_| UnknownName);
        match word.split_once(':') {
            Some(("cancel", id)) => Ok(Self::Cancel(job(id)?)),
            Some(("ended", id)) => Ok(Self::Ended(job(id)?)),
            Some(("event", id)) => Ok(Self::Event(id.parse().map_err(|_| UnknownName)?)),
            None if word == "pending" => Ok(Self::Pending),
            _ => Err(UnknownName),
        }
    }
}

impl Store {
    /// Tells the other servers on this database. Returns at once, and may get lost. SQLite has one server: nobody
    /// is told.
    pub fn tell(&self, signal: Signal) {
        self.database.signals.tell(signal);
    }

    /// What others tell from now on.
    pub fn hear(&self) -> broadcast::Receiver<Signal> {
        self.database.signals.hear()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_as_they_are_written() {
        let job = JobId::new();
        let event = Signal::Event(ProjectId::new());
        for signal in [Signal::Pending, Signal::Cancel(job), Signal::Ended(job), event] {
            assert_eq!(signal.to_string().parse(), Ok(signal));
        }
        for unknown in ["", "ended", "ended:", "ended:job_1", "pending:x", "paused"] {
            assert_eq!(unknown.parse::<Signal>(), Err(UnknownName));
        }
    }
}
