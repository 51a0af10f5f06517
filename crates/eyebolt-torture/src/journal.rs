//! What a client means to do, on disk before it does it: a client that crashes, or learns no outcome, asks again with
//! the same key.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::{batch::BatchIntent, history::read_lines, payload::Payload};

/// One thing that a client wants done once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Intent {
    /// Its idempotency key.
    pub(crate) key: String,
    /// What is sent with it.
    pub(crate) payload: Payload,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Intent(Intent),
    Done(Intent),
    Batch(BatchIntent),
    BatchDone(BatchIntent),
}

/// What was meant, and is not known to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) intents: Vec<Intent>,
    pub(crate) batches: Vec<BatchIntent>,
}

/// A client's file.
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// Opens the file, and gives what was meant and is not known to be done.
    pub(crate) fn open(path: &Path) -> anyhow::Result<(Self, Open)> {
        let file = File::options().create(true).append(true).open(path);
        let file = file.with_context(|| format!("{}: the journal can't be opened", path.display()))?;
        let mut open = Open::default();
        for line in read_lines(path)? {
            match line {
                Line::Intent(intent) => open.intents.push(intent),
                Line::Done(done) => open.intents.retain(|intent| *intent != done),
                Line::Batch(batch) => open.batches.push(batch),
                Line::BatchDone(done) => open.batches.retain(|batch| *batch != done),
            }
        }
        Ok((Self { file, path: path.to_owned() }, open))
    }

    /// Notes what is meant. Durable when it returns.
    pub(crate) fn intend(&mut self, intent: &Intent) -> anyhow::Result<()> {
        self.append(&Line::Intent(intent.clone()))?;
        self.file.sync_data().with_context(|| self.path.display().to_string())
    }

    /// Notes a batch that is meant. Durable when it returns.
    pub(crate) fn intend_batch(&mut self, batch: &BatchIntent) -> anyhow::Result<()> {
        self.append(&Line::Batch(batch.clone()))?;
        self.file.sync_data().with_context(|| self.path.display().to_string())
    }

    /// Notes that a batch is known to be accepted, or refused for good.
    pub(crate) fn batch_done(&mut self, batch: &BatchIntent) -> anyhow::Result<()> {
        self.append(&Line::BatchDone(batch.clone()))
    }

    /// Notes that the final answer is known. If that is forgotten, the client asks once more.
    pub(crate) fn done(&mut self, intent: &Intent) -> anyhow::Result<()> {
        self.append(&Line::Done(intent.clone()))
    }

    fn append(&mut self, line: &Line) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(line)?;
        line.push(b'\n');
        self.file.write_all(&line).with_context(|| self.path.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Kind;

    fn intent(key: &str) -> Intent {
        let payload = Payload {
            kind: Kind::Sound,
            text: "FAKE".to_owned(),
            features: "text".to_owned(),
            hook: None,
            plan: None,
        };
        Intent { key: key.to_owned(), payload }
    }

    #[test]
    fn after_a_crash_what_is_not_done_is_still_meant() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client-1.jsonl");
        let (mut journal, open) = Journal::open(&path).unwrap();
        assert_eq!(open, Open::default());
        let batch = |key: &str| {
            let (key, features) = (key.to_owned(), "text".to_owned());
            BatchIntent { key, features, items: Vec::new(), hook: None }
        };
        journal.intend_batch(&batch("x")).unwrap();
        journal.intend_batch(&batch("y")).unwrap();
        journal.batch_done(&batch("x")).unwrap();
        for key in ["a", "b", "c"] {
            journal.intend(&intent(key)).unwrap();
        }
        journal.done(&intent("b")).unwrap();
        drop(journal);
        let (_, open) = Journal::open(&path).unwrap();
        assert_eq!(open, Open { intents: vec![intent("a"), intent("c")], batches: vec![batch("y")] });
    }
}
