//! Ending a job: its state, its price, its document and the answer to retries, at once or not at all.

use eyebolt_types::{
    JobStatus,
    id::{JobId, ProjectId},
};
use jiff::Timestamp;

use crate::{
    Document, Fenced, NearEntry, NewEvent, StepOutcome, Store, StoreError, batch, cap,
    content::{self, Entering},
    database::{Pace, Round, Rounds, Row, Statement},
    event, ledger,
    run::write_step,
    task, times,
};

/// How a job ends.
#[derive(Debug, Clone)]
pub struct Closing {
    /// A terminal state.
    pub status: JobStatus,
    /// Why it failed: a problem as JSON.
    pub error: Option<String>,
    /// What became of the steps that were not committed before.
    pub steps: Vec<StepOutcome>,
    /// What readers get.
    pub document: Document,
    /// What retries get; `None` where they run the job again.
    pub answer: Option<Answer>,
    /// Until when a key stands for this job.
    pub expires_at: Timestamp,
    /// Until when what failed can be run again.
    pub retryable_until: Option<Timestamp>,
    /// What it costs.
    pub charge: Charging,
    /// What its image is known by when it comes again: pixels, and what near pictures share.
    pub content: Option<([u8; 32], NearEntry)>,
    /// What is told of its end.
    pub event: NewEvent,
}

/// What an ended job costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charging {
    /// A unit for each step that succeeded.
    Steps,
    /// The same of a pipeline, where a step with parts costs what its parts do. Results stay with the rows.
    Pipeline,
    /// Nothing, and the statement shows each step: it was answered from another job.
    Duplicate,
    /// Nothing.
    Nothing,
}

/// What retries get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body, where it is not the document.
    pub body: Option<Vec<u8>>,
}

#[cfg(not(feature = "torture"))]
const CLOSE: &str = "UPDATE jobs SET status = $1, error = $2, finished_at = $3, lease_owner = NULL, \
                     lease_until = NULL, document = $4, document_digest = $5, answer_status = $6, answer_body = $7, \
                     retryable_until = $8 WHERE id = $9 AND lease_token = $10 AND status = 'processing' RETURNING project_id";
#[cfg(feature = "torture")]
const CLOSE: &str = "UPDATE jobs SET status = $1, error = $2, finished_at = $3, lease_owner = NULL, \
                     lease_until = NULL, document = $4, document_digest = $5, answer_status = $6, answer_body = $7, \
                     retryable_until = $8 WHERE id = $9 \
                     AND ((lease_token = $10 AND status = 'processing') OR CAST($11 AS BIGINT) = 1) RETURNING project_id";
/// Results that are in the document need no second place.
const DROP_RESULTS: &str = "UPDATE steps SET result = NULL WHERE job_id = $1 AND result IS NOT NULL";
const CANCEL_STEPS: &str = "UPDATE steps SET status = 'canceled', finished_at = CAST($2 AS BIGINT) \
                            WHERE job_id = $1 AND finished_at IS NULL";
const EXPIRE: &str = "UPDATE idempotency_records SET expires_at = $1 WHERE job_id = $2";

impl Store {
    /// Ends a job.
    ///
    /// # Errors
    /// Where the database fails.
    ///
    /// # Panics
    /// Where the state is not a terminal one.
    pub async fn close(
        &self,
        lease: (JobId, i64),
        closing: Closing,
        now: Timestamp,
    ) -> Result<Result<(), Fenced>, StoreError> {
        assert!(closing.status.is_terminal(), "a job ends in a terminal state");
        let closed = self.database.write_rounds(Ending::new(lease, closing, now)).await?;
        Ok(closed.map(|project| self.tell_event(project)))
    }
}

/// The rounds of an end: the job where the lease holds, then everything else.
pub(crate) struct Ending {
    lease: (JobId, i64),
    closing: Closing,
    now: Timestamp,
    asked: Asked,
    /// Whose job it is, once it is closed.
    project: Option<ProjectId>,
}

/// What the last round was.
enum Asked {
    Job,
    Rest,
    /// Both.
    All,
    Bands(Entering),
}

impl Ending {
    pub(crate) fn new(lease: (JobId, i64), closing: Closing, now: Timestamp) -> Self {
        Self { lease, closing, now, asked: Asked::Job, project: None }
    }

    fn rest(&self) -> Vec<Statement> {
        let ((job, _), closing, now) = (self.lease, &self.closing, self.now);
        let mut rest = end_steps(job, (closing, now));
        #[cfg(feature = "torture")]
        rest.extend(crate::defect::late_key(job, now));
        rest.push((EXPIRE, vec![times::micros(closing.expires_at).into(), job.to_string().into()]));
        match closing.charge {
            Charging::Steps => rest.push(ledger::charge(job, now)),
            Charging::Pipeline => rest.extend(ledger::charge_parts(job, now)),
            Charging::Duplicate => rest.push(ledger::note_duplicate(job, now)),
            Charging::Nothing => {}
        }
        // What every step of a job that succeeded has used up needs no look at what is left.
        if closing.charge != Charging::Steps || closing.status != JobStatus::Succeeded {
            rest.push(ledger::release(job, now));
            // What was free from the start was counted nowhere.
            if closing.charge != Charging::Duplicate {
                rest.push(cap::released(job));
            }
        }
        // Whosever job it is: items of any batch may have joined it by its key.
        rest.push(batch::item_ended(job, closing, now));
        rest.extend(event::write(&closing.event, job, now));
        // The last one: its row says where the bands belong.
        let content = closing.content.as_ref();
        rest.extend(content.map(|(pixels, near)| content::remember_pixels(job, pixels, Some(near))));
        rest
    }

    /// Where there is a near picture to be known by, it is entered into its bands.
    fn enter(&mut self, remembered: Option<&Row>) -> Result<Round<Result<ProjectId, Fenced>>, StoreError> {
        let (Some((_, near)), Some(row)) = (&self.closing.content, remembered) else {
            return Ok(Round::Done(self.done()));
        };
        let mut entering = Entering::new(self.lease.0, (&row.text(0)?, &row.text(1)?), &near.bands);
        let next = entering.next(&[]);
        self.asked = Asked::Bands(entering);
        Ok(next.map_or(Round::Done(self.done()), Round::Ask))
    }

    fn done(&self) -> Result<ProjectId, Fenced> {
        self.project.ok_or(Fenced)
    }
}

impl Rounds for Ending {
    type Done = Result<ProjectId, Fenced>;

    fn begin(&mut self, pace: Pace) -> Vec<Statement> {
        let mut statements = vec![close(self.lease, &self.closing, self.now)];
        self.asked = Asked::Job;
        // Whoever comes to an end has nearly always kept the lease.
        if pace == Pace::AtOnce {
            statements.extend(self.rest());
            self.asked = Asked::All;
        }
        statements
    }

    fn next(&mut self, answers: Vec<Vec<Row>>) -> Result<Round<Self::Done>, StoreError> {
        if matches!(self.asked, Asked::Job | Asked::All) {
            let closed = answers.first().and_then(|rows| rows.first());
            self.project = closed.map(|row| row.parsed(0)).transpose()?;
        }
        match &mut self.asked {
            Asked::Job if self.project.is_none() => Ok(Round::Done(Err(Fenced))),
            Asked::Job => {
                self.asked = Asked::Rest;
                Ok(Round::Ask(self.rest()))
            }
            Asked::All if self.project.is_none() => Ok(Round::Slower),
            Asked::Rest | Asked::All => self.enter(answers.last().and_then(|rows| rows.first())),
            Asked::Bands(entering) => {
                let next = entering.next(&answers);
                Ok(next.map_or_else(|| Round::Done(self.done()), Round::Ask))
            }
        }
    }
}

/// Gives a row where the lease held.
fn close((job, token): (JobId, i64), closing: &Closing, now: Timestamp) -> Statement {
    let (document, digest) = match &closing.document {
        Document::Inline(bytes) => (Some(bytes.as_slice()), None),
        Document::Blob(name) => (None, Some(name.as_str())),
    };
    let answer = closing.answer.as_ref();
    let parameters = [
        closing.status.name().into(),
        closing.error.clone().into(),
        times::micros(now).into(),
        document.into(),
        digest.into(),
        answer.map(|answer| i64::from(answer.status)).into(),
        answer.and_then(|answer| answer.body.clone()).into(),
        closing.retryable_until.map(times::micros).into(),
        job.to_string().into(),
        token.into(),
        #[cfg(feature = "torture")]
        i64::from(crate::defect::has("no_fence")).into(),
    ];
    (CLOSE, parameters.into())
}

fn end_steps(job: JobId, (closing, now): (&Closing, Timestamp)) -> Vec<Statement> {
    let of_pipeline = closing.charge == Charging::Pipeline;
    let in_document = closing.status == JobStatus::Succeeded && !of_pipeline;
    let mut ends: Vec<_> =
        closing.steps.iter().map(|outcome| write_step((job, !in_document), outcome)).collect();
    if in_document {
        ends.push((DROP_RESULTS, vec![job.to_string().into()]));
    }
    // What a pipeline that failed did not come to is canceled as well.
    let left = of_pipeline && closing.status == JobStatus::Failed;
    if left || matches!(closing.status, JobStatus::Canceled | JobStatus::Expired) {
        let canceled = || vec![job.to_string().into(), times::micros(now).into()];
        ends.extend([(CANCEL_STEPS, canceled()), (task::CANCEL, canceled())]);
    }
    ends
}
