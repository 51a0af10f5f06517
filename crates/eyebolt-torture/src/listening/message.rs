//! What was told, by a webhook or by a stream.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::EndOf;
use crate::payload::sha256;

/// An event as it came.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Message {
    /// The event's id, as its body says.
    pub(crate) id: String,
    /// Its type.
    #[serde(rename = "event")]
    pub(crate) kind: String,
    /// The job, or the batch, that it tells of.
    pub(crate) job: String,
    /// How that ended.
    pub(crate) status: String,
    /// When, as printed.
    pub(crate) finished_at: Option<String>,
    /// Which end of it: 1, and one more for each time that it was run again.
    #[serde(default)]
    pub(crate) round: u64,
    /// Digest of its bytes.
    pub(crate) sha256: String,
}

/// A message that a receiver of webhooks got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    /// Microseconds since 1970.
    pub(crate) at_us: i64,
    /// The receiver: `endpoint/PROJECT/NAME` or `hook/PROJECT/TOKEN`.
    pub(crate) to: String,
    /// The header `webhook-id`.
    pub(crate) id: String,
    /// The header `webhook-timestamp`, seconds since 1970.
    pub(crate) sent_at: i64,
    /// Whether it is signed by the receiver's secret.
    pub(crate) signed: bool,
    /// How often it came to this receiver, this time too.
    pub(crate) attempt: u32,
    /// What it was answered.
    pub(crate) said: Said,
    /// What it tells.
    pub(crate) message: Message,
}

/// What a receiver answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// 204 in time.
    Taken,
    /// 500.
    Failed,
    /// 503, and to come back after a second.
    Busy,
    /// 204, too late.
    Late,
    /// Nothing: the connection stays open.
    Nothing,
    /// Nothing: the connection is cut.
    Cut,
    /// 410.
    Gone,
}

/// A line of what a reader of streams saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// Microseconds since 1970.
    pub(crate) at_us: i64,
    /// Whose stream.
    pub(crate) project: String,
    /// Which of the reader's connections, from 0.
    pub(crate) connection: u64,
    /// What came.
    #[serde(flatten)]
    pub(crate) what: Heard,
}

/// What came on a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Heard {
    /// An event.
    Event {
        /// Its place in the stream.
        position: u64,
        /// What it tells.
        message: Message,
    },
    /// The server gave no stream.
    Refused {
        /// What it answered instead.
        status: u16,
        /// The place behind which the reader wanted to go on.
        after: Option<u64>,
    },
}

impl Message {
    /// From its bytes; what they do not say is empty.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let json: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let data = &json["data"];
        Self {
            id: text(&json["id"]).unwrap_or_default(),
            kind: text(&json["type"]).unwrap_or_default(),
            job: text(&data["id"]).unwrap_or_default(),
            status: text(&data["status"]).unwrap_or_default(),
            finished_at: text(&data["finished_at"]),
            round: data["round"].as_u64().unwrap_or_default(),
            sha256: sha256(bytes),
        }
    }

    /// What ended, and when.
    pub(crate) fn end(&self) -> EndOf {
        (self.job.clone(), self.finished_at.clone())
    }
}

impl Receipt {
    /// The project that the receiver belongs to.
    pub(crate) fn project(&self) -> &str {
        self.to.split('/').nth(1).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_from_its_bytes() {
        let bytes =
            br#"{"id":"evt_1","type":"job.failed","timestamp":"2026-01-01T00:00:00Z","data":{"id":"job_1",
            "status":"failed","round":2,"finished_at":"2026-01-01T00:00:00Z"}}"#;
        let read = Message::read(bytes);
        assert_eq!(
            (&*read.id, &*read.kind, &*read.job, &*read.status),
            ("evt_1", "job.failed", "job_1", "failed")
        );
        assert_eq!((read.finished_at.as_deref(), read.round), (Some("2026-01-01T00:00:00Z"), 2));
        assert_eq!(read.sha256, sha256(bytes));
        assert_eq!(Message::read(b"no JSON").job, "");
    }
}
