//! What an answer says, as far as the checker asks.

use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::payload::sha256;

/// An answer of the server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// Digest of the body's bytes.
    pub(crate) body_sha256: String,
    /// As sent.
    pub(crate) content_type: String,
    /// The problem's code.
    pub(crate) code: Option<String>,
    /// The job that `Location` names.
    pub(crate) location: Option<String>,
    /// Whether it says that it is a replay.
    pub(crate) replayed: bool,
    /// Whether its problem may pass: then the key runs the job again.
    #[serde(default)]
    pub(crate) retryable: bool,
    /// The job in the body.
    pub(crate) job: Option<JobView>,
    /// The totals in the body.
    pub(crate) usage: Option<Usage>,
    /// The batch in the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) batch: Option<BatchView>,
}

/// What an answer means for the key that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The stored answer: the same for ever.
    Final,
    /// The job runs.
    Interim,
    /// The key stands for another payload.
    Reused,
    /// Not accepted, and no retry will be.
    Refused,
    /// Unknown or for now: to be sent again.
    Again,
}

/// A job, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct JobView {
    /// Its id.
    pub(crate) id: String,
    /// Its state's name.
    pub(crate) status: String,
    /// As printed.
    pub(crate) finished_at: Option<String>,
    /// What it costs.
    pub(crate) units: Option<u64>,
    /// The code of its problem.
    pub(crate) error: Option<String>,
    /// Digest of its results.
    pub(crate) results_sha256: Option<String>,
    /// One for each feature, or for each step of the pipeline.
    pub(crate) steps: Vec<StepView>,
    /// The parts of its steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) parts: Vec<PartView>,
}

/// A step, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct StepView {
    /// What is asked; in a pipeline, its name there.
    pub(crate) name: String,
    /// Its state's name.
    pub(crate) status: String,
    /// Which attempt this is.
    pub(crate) attempt: u64,
    /// What its work is known by, in a pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// How many parts it has, once they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parts: Option<u64>,
}

/// A part of a step, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct PartView {
    /// The step's name.
    pub(crate) step: String,
    /// Its place among the parts of the step.
    pub(crate) index: u64,
    /// Its state's name.
    pub(crate) status: String,
    /// Which attempt this is.
    pub(crate) attempt: u64,
    /// What its work is known by.
    pub(crate) key: String,
}

/// A batch, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct BatchView {
    /// Its id.
    pub(crate) id: String,
    /// Its state's name.
    pub(crate) status: String,
    /// As printed.
    pub(crate) finished_at: Option<String>,
    /// 1, and one more for each time that failed items were run again after its end.
    #[serde(default)]
    pub(crate) round: u64,
    /// Its items: all, and those in each state.
    pub(crate) total: u64,
    pub(crate) pending: u64,
    pub(crate) processing: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) canceled: u64,
    pub(crate) expired: u64,
}

/// Units of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Charged.
    pub(crate) units: i64,
    /// Held for jobs that run.
    pub(crate) reserved: i64,
}

impl Answer {
    pub(crate) fn of(status: u16, headers: &HeaderMap, body: &[u8]) -> Self {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        Self {
            status,
            body_sha256: sha256(body),
            content_type: header("content-type").unwrap_or_default().to_owned(),
            code: text(&json, "code"),
            location: header("location")
                .and_then(|place| place.rsplit('/').next())
                .filter(|id| id.starts_with("job_"))
                .map(str::to_owned),
            replayed: header("idempotent-replayed") == Some("true"),
            retryable: json["retryable"] == true,
            job: JobView::read(&json),
            usage: usage(&json),
            batch: BatchView::read(&json),
        }
    }

    /// The job that it is about.
    pub(crate) fn job_id(&self) -> Option<&str> {
        self.job.as_ref().map(|job| job.id.as_str()).or(self.location.as_deref())
    }

    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(crate) fn standing(&self) -> Standing {
        let code = self.code.as_deref().unwrap_or_default();
        match self.status {
            202 => Standing::Interim,
            409 if code == "idempotency_key_in_use" => Standing::Interim,
            422 if code == "idempotency_key_reused" => Standing::Reused,
            500.. if self.retryable => Standing::Again,
            _ if self.is_success() || self.replayed => Standing::Final,
            408 | 425 | 429 | 500.. => Standing::Again,
            400..500 if self.location.is_some() => Standing::Final,
            409 => Standing::Again,
            400..500 => Standing::Refused,
            _ => Standing::Again,
        }
    }
}

impl JobView {
    /// From a job's JSON; `None` for anything else.
    pub(crate) fn read(json: &Value) -> Option<Self> {
        let id = text(json, "id").filter(|id| id.starts_with("job_"))?;
        let steps = json["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
        let results = json.get("results").filter(|results| !results.is_null());
        Some(Self {
            id,
            status: text(json, "status")?,
            finished_at: text(json, "finished_at"),
            units: json["usage"]["units"].as_u64(),
            error: text(&json["error"], "code"),
            results_sha256: results.map(|results| sha256(results.to_string().as_bytes())),
            steps: steps.iter().map(StepView::read).collect(),
            parts: PartView::all(&json["results"], steps),
        })
    }

    pub(crate) fn is_terminal(&self) -> bool {
        !matches!(self.status.as_str(), "pending" | "processing")
    }

    pub(crate) fn step(&self, name: &str) -> Option<&StepView> {
        self.steps.iter().find(|step| step.name == name)
    }

    /// Steps and parts that succeeded and were done themselves, as the journal of executions names them. Each costs a unit.
    pub(crate) fn done(&self) -> impl Iterator<Item = String> {
        let steps = self.steps.iter().filter(|step| step.succeeded() && step.parts.is_none());
        let parts = self.parts.iter().filter(|part| part.status == "succeeded");
        steps.map(|step| step.name.clone()).chain(parts.map(PartView::place))
    }
}

impl BatchView {
    /// From a batch's JSON; `None` for anything else.
    pub(crate) fn read(json: &Value) -> Option<Self> {
        let id = text(json, "id").filter(|id| id.starts_with("batch_"))?;
        let count = |name: &str| json["counts"][name].as_u64();
        Some(Self {
            id,
            status: text(json, "status")?,
            finished_at: text(json, "finished_at"),
            round: json["round"].as_u64().unwrap_or_default(),
            total: count("total")?,
            pending: count("pending")?,
            processing: count("processing")?,
            succeeded: count("succeeded")?,
            failed: count("failed")?,
            canceled: count("canceled")?,
            expired: count("expired")?,
        })
    }

    pub(crate) fn is_terminal(&self) -> bool {
        !matches!(self.status.as_str(), "processing" | "canceling")
    }

    /// Items that have not ended.
    pub(crate) fn open(&self) -> u64 {
        self.pending + self.processing
    }

    /// Items that have.
    pub(crate) fn ended(&self) -> u64 {
        self.succeeded + self.failed + self.canceled + self.expired
    }
}

impl StepView {
    fn read(json: &Value) -> Self {
        Self {
            name: text(json, "name").or_else(|| text(json, "feature")).unwrap_or_default(),
            status: text(json, "status").unwrap_or_default(),
            attempt: json["attempt"].as_u64().unwrap_or_default(),
            key: text(json, "key"),
            parts: json["tasks"]["total"].as_u64(),
        }
    }

    pub(crate) fn succeeded(&self) -> bool {
        self.status == "succeeded"
    }
}

impl PartView {
    /// Those of all steps, in the order of the document.
    fn all(results: &Value, steps: &[Value]) -> Vec<Self> {
        let names = steps.iter().filter_map(|step| step["name"].as_str());
        let parts = |name: &str| {
            let items = results[name]["items"].as_array().map(Vec::as_slice).unwrap_or_default();
            items.iter().map(|item| Self::read(name, item)).collect::<Vec<_>>()
        };
        names.flat_map(parts).collect()
    }

    fn read(step: &str, json: &Value) -> Self {
        Self {
            step: step.to_owned(),
            // One without a place is found to be missing.
            index: json["index"].as_u64().unwrap_or(u64::MAX),
            status: text(json, "status").unwrap_or_default(),
            attempt: json["attempt"].as_u64().unwrap_or_default(),
            key: text(json, "key").unwrap_or_default(),
        }
    }

    /// As the journal of executions names it.
    pub(crate) fn place(&self) -> String {
        format!("{}/{}", self.step, self.index)
    }
}

fn usage(json: &Value) -> Option<Usage> {
    if json["object"] != "usage" {
        return None;
    }
    let total = |name: &str| json[name].as_i64();
    Some(Usage { units: total("units")?, reserved: total("reserved").unwrap_or_default() })
}

fn text(json: &Value, name: &str) -> Option<String> {
    json[name].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &Value) -> Answer {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        Answer::of(status, &headers.collect(), body.to_string().as_bytes())
    }

    #[test]
    fn a_job_is_read_from_its_answer() {
        let body = json!({
            "id": "job_1", "object": "job", "status": "succeeded", "finished_at": "2026-01-01T00:00:00Z",
            "usage": {"units": 2}, "results": {"text": {}}, "error": null,
            "steps": [{"feature": "text", "status": "succeeded", "attempt": 2}],
        });
        let found = answer(200, &[("idempotent-replayed", "true")], &body);
        let job = found.job.as_ref().unwrap();
        assert_eq!((job.units, job.steps[0].attempt, job.is_terminal()), (Some(2), 2, true));
        assert!(found.replayed && found.standing() == Standing::Final);
        assert_eq!(found.job_id(), Some("job_1"));
    }

    #[test]
    fn a_pipelines_job_is_read_with_the_parts_of_its_steps() {
        let part =
            |index: u64, status: &str| json!({"index": index, "status": status, "attempt": 1, "key": "ab"});
        let body = json!({
            "id": "job_1", "status": "succeeded", "usage": {"units": 2},
            "results": {"find": {"status": "succeeded"}, "read": {"items": [part(0, "skipped"), part(1, "succeeded")]}},
            "steps": [{"name": "find", "feature": "objects", "status": "succeeded", "attempt": 1, "key": "cd"},
                      {"name": "read", "feature": "text", "status": "succeeded", "attempt": 1, "tasks": {"total": 2}}],
        });
        let job = answer(200, &[], &body).job.unwrap();
        assert_eq!((job.steps[0].key.as_deref(), job.steps[1].parts), (Some("cd"), Some(2)));
        assert_eq!(job.done().collect::<Vec<_>>(), ["find", "read/1"]);
        assert_eq!(job.parts.iter().map(PartView::place).collect::<Vec<_>>(), ["read/0", "read/1"]);
    }

    #[test]
    fn a_batch_is_read_from_its_answer_and_is_no_job() {
        let body = json!({
            "id": "batch_1", "object": "batch", "status": "canceling", "finished_at": null,
            "counts": {"total": 5, "pending": 0, "processing": 1, "succeeded": 2, "failed": 1, "canceled": 1,
                       "expired": 0},
        });
        let found = answer(202, &[("location", "/v1/batches/batch_1")], &body);
        let batch = found.batch.as_ref().unwrap();
        assert_eq!((batch.total, batch.open(), batch.ended(), batch.is_terminal()), (5, 1, 4, false));
        assert_eq!((found.job_id(), &found.job), (None, &None));
    }

    #[test]
    fn what_an_answer_means_for_its_key() {
        let place = [("location", "/v1/jobs/job_7")];
        let code = |code: &str| json!({ "code": code });
        let standing = |status, headers: &[(&'static str, &'static str)], name: &str| {
            answer(status, headers, &code(name)).standing()
        };
        assert_eq!(standing(202, &place, ""), Standing::Interim);
        assert_eq!(standing(409, &place, "idempotency_key_in_use"), Standing::Interim);
        assert_eq!(standing(422, &[], "idempotency_key_reused"), Standing::Reused);
        assert_eq!(standing(422, &place, "corrupt_image"), Standing::Final);
        assert_eq!(standing(415, &[], "unsupported_format"), Standing::Refused);
        assert_eq!(standing(503, &place, "shutting_down"), Standing::Again);
        assert_eq!(standing(429, &[], "rate_limited"), Standing::Again);
        assert_eq!(standing(500, &[("idempotent-replayed", "true")], "worker_died"), Standing::Final);
        let passing = json!({"code": "model_failed", "retryable": true});
        assert_eq!(answer(500, &[("idempotent-replayed", "true")], &passing).standing(), Standing::Again);
        assert_eq!(answer(422, &place, &code("corrupt_image")).job_id(), Some("job_7"));
    }
}
