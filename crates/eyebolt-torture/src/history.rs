//! What was done and what came back: one JSON line an event, in a file that only grows.

use std::{
    fs::File,
    io::Write,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context;
use eyebolt_types::Clock;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{batch::ItemKind, observed::Answer, payload::Kind, plan::Plan, profile::Setup};

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Microseconds since 1970.
    pub(crate) at_us: i64,
    /// Who: a client, an auditor, the nemesis.
    pub(crate) process: String,
    /// What happened.
    #[serde(flatten)]
    pub(crate) what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum What {
    /// The first line.
    Run(Setup),
    /// A request is about to leave.
    Invoke {
        /// Its number.
        op: u64,
        /// On whose behalf.
        project: String,
        /// What it asks.
        action: Action,
    },
    /// A 2xx answer came.
    Ok {
        /// Its request's number.
        op: u64,
        /// The answer.
        answer: Answer,
    },
    /// Another answer came.
    Fail {
        /// Its request's number.
        op: u64,
        /// The answer.
        answer: Answer,
    },
    /// None came: it may have been done or not. A request without any end, since its client crashed, is the same.
    Info {
        /// Its request's number.
        op: u64,
        /// What came instead.
        reason: String,
    },
    /// Something was done to a server or a client.
    Nemesis(Fault),
}

/// What a request asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "f", rename_all = "snake_case")]
pub(crate) enum Action {
    /// `POST /v1/analyze`.
    Submit(Submission),
    /// `GET /v1/jobs/{id}`.
    Read {
        /// The job.
        job: String,
        /// Whether it is another project's.
        foreign: bool,
    },
    /// `POST /v1/jobs/{id}:cancel`.
    Cancel {
        /// The job.
        job: String,
    },
    /// `POST /v1/jobs/{id}:retry`, or that of a step or a part.
    Retry {
        /// The job.
        job: String,
        /// The step; none: all of the job.
        step: Option<String>,
        /// The part of the step.
        part: Option<u32>,
    },
    /// `POST /v1/batches`.
    Batch(BatchSubmission),
    /// `GET /v1/batches/{id}`.
    ReadBatch {
        /// The batch.
        batch: String,
    },
    /// `POST /v1/batches/{id}:cancel`.
    CancelBatch {
        /// The batch.
        batch: String,
    },
    /// `POST /v1/batches/{id}:retry`.
    RetryBatch {
        /// The batch.
        batch: String,
    },
    /// `GET /v1/jobs`.
    List,
    /// `GET /v1/usage`.
    Usage,
}

/// A request with a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Submission {
    /// Its idempotency key.
    pub(crate) key: String,
    /// Digest of the payload.
    pub(crate) fingerprint: String,
    /// What the payload is.
    pub(crate) kind: Kind,
    /// Why it is sent.
    pub(crate) purpose: Purpose,
    /// Who is to be told of its end, beside the endpoints: a receiver's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hook: Option<String>,
    /// The pipeline that it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) plan: Option<Plan>,
}

/// A request with a key that brings a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BatchSubmission {
    /// Its idempotency key.
    pub(crate) key: String,
    /// Digest of the payload.
    pub(crate) fingerprint: String,
    /// The names of its items, and what they are.
    pub(crate) items: Vec<(String, ItemKind)>,
    /// Why it is sent.
    pub(crate) purpose: Purpose,
    /// Who is to be told of its end, beside the endpoints.
    pub(crate) hook: Option<String>,
}

/// Why a request with a key is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// The first time.
    Fresh,
    /// The first time, by a client that hangs up.
    HangUp,
    /// The first time, by a client that hangs up before the body's end.
    HalfUpload,
    /// One of several at once.
    Twin,
    /// One of two at once that differ.
    Race,
    /// Again, since its outcome is not known or not final.
    Retry,
    /// Again, though its outcome is known.
    Replay,
    /// A key that stands for something else.
    OtherPayload,
}

/// What was done to a server or a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub(crate) enum Fault {
    /// Started; `failpoint` is armed.
    Start { server: usize, failpoint: Option<String> },
    /// It answers, this long after its start.
    Healthy { server: usize, after_ms: u64 },
    /// SIGKILL by the nemesis.
    Kill { server: usize },
    /// An armed failpoint killed or stopped the server.
    Hit { server: usize, failpoint: String },
    /// An armed failpoint was not reached in time.
    Missed { server: usize, failpoint: String },
    /// SIGSTOP, for this long.
    Stop { server: usize, ms: u64 },
    /// SIGCONT.
    Continue { server: usize },
    /// It ended, and nobody had asked for it.
    Exit { server: usize, status: String },
    /// A client forgot everything but its journal.
    ClientCrash { client: usize },
    /// No more faults from here.
    Heal,
    /// All jobs have ended.
    Quiet,
    /// All ends have been told, to everybody.
    Told,
}

/// A file of JSON lines that only grows. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Lines(Arc<Inner>);

struct Inner {
    clock: Clock,
    /// With the first failure to write.
    file: Mutex<(File, Option<std::io::Error>)>,
}

impl Lines {
    pub(crate) fn create(path: &Path, clock: Clock) -> anyhow::Result<Self> {
        let file = File::options().create_new(true).append(true).open(path);
        let file = file.with_context(|| format!("{}: it can't be made", path.display()))?;
        Ok(Self(Arc::new(Inner { clock, file: Mutex::new((file, None)) })))
    }

    /// Writes the line that `make` makes of the time now, in microseconds since 1970, and gives that time.
    pub(crate) fn write<T: Serialize>(&self, make: impl FnOnce(i64) -> T) -> i64 {
        // Under the lock, so that lines are in the order of their times.
        let mut file = self.0.file.lock().expect("no writer panics");
        let at_us = self.0.clock.now().as_microsecond();
        let mut line = serde_json::to_vec(&make(at_us)).expect("lines are plain JSON");
        line.push(b'\n');
        if let Err(error) = file.0.write_all(&line) {
            file.1.get_or_insert(error);
        }
        at_us
    }

    /// Whether every line was written.
    pub(crate) fn complete(&self) -> anyhow::Result<()> {
        match self.0.file.lock().expect("no writer panics").1.take() {
            None => Ok(()),
            Some(error) => Err(error).context("a file of the run has gaps"),
        }
    }
}

/// The open history. Cheap to clone.
#[derive(Clone)]
pub(crate) struct History {
    lines: Lines,
    next: Arc<AtomicU64>,
}

impl History {
    pub(crate) fn create(path: &Path, clock: Clock) -> anyhow::Result<Self> {
        Ok(Self { lines: Lines::create(path, clock)?, next: Arc::new(AtomicU64::new(1)) })
    }

    /// A number for a request.
    pub(crate) fn op(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Writes a line and gives its time.
    pub(crate) fn write(&self, process: &str, what: What) -> i64 {
        self.lines.write(|at_us| Event { at_us, process: process.to_owned(), what })
    }

    /// Whether every line was written.
    pub(crate) fn complete(&self) -> anyhow::Result<()> {
        self.lines.complete()
    }
}

/// Reads a file of JSON lines.
pub(crate) fn read_lines<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Vec<T>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let line = |(number, line): (usize, &str)| {
        serde_json::from_str(line).with_context(|| format!("{}:{}", path.display(), number + 1))
    };
    text.lines().enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        let clock = Clock::fixed("2026-01-01T00:00:00Z".parse().unwrap());
        let history = History::create(&path, clock).unwrap();
        let submission = Submission {
            key: "k".to_owned(),
            fingerprint: "f".to_owned(),
            kind: Kind::Flaky,
            purpose: Purpose::Twin,
            hook: Some("hook/torture/7".to_owned()),
            plan: None,
        };
        let op = history.op();
        let lines = [
            What::Run(Setup::default()),
            What::Invoke { op, project: "torture".to_owned(), action: Action::Submit(submission) },
            What::Ok { op, answer: Answer { status: 202, ..Answer::default() } },
            What::Info { op, reason: "reset".to_owned() },
            What::Nemesis(Fault::Start { server: 0, failpoint: Some("after_blob:1:kill".to_owned()) }),
            What::Nemesis(Fault::Heal),
        ];
        let times: Vec<i64> = lines.iter().map(|line| history.write("client-1", line.clone())).collect();
        history.complete().unwrap();
        let read: Vec<Event> = read_lines(&path).unwrap();
        assert_eq!(read.iter().map(|event| event.at_us).collect::<Vec<_>>(), times);
        assert_eq!(read.into_iter().map(|event| event.what).collect::<Vec<_>>(), lines);
    }
}
