//! The rounds of an acceptance: the key, and where it was free everything else.

use eyebolt_types::{
    JobStatus, StepStatus,
    id::{JobId, ProjectId},
};
use jiff::Timestamp;

use crate::{
    Acceptance, ContentKey, Idempotency, NewJob, NewStep, Overrun, StoreError,
    cap::Capped,
    content,
    database::{Pace, Round, Rounds, Row, Statement},
    ledger,
    record::{self, Holder},
    times,
};

/// A job on its way in.
pub(crate) struct Accepting {
    job: NewJob,
    now: Timestamp,
    asked: Asked,
}

/// What the last round was.
#[derive(Clone, Copy)]
enum Asked {
    /// The key, by the last statement.
    Key,
    /// Room under the limits.
    Room,
    /// That what was taken of other limits goes back.
    Back(Overrun),
    /// Every row of the job.
    Rows,
    /// The key, and then every row.
    All,
    /// The name of the image, where there is one with the same content.
    Image,
    /// What the key stands for.
    Known,
}

const IMAGE: &str = "INSERT INTO images (id, project_id, mode, sha256, bytes, content, created_at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (project_id, mode, sha256) \
                     WHERE removed_at IS NULL DO NOTHING RETURNING id";
/// The lock: a sweep that is removing the image is waited for. Then there is none, the row is refused, and the move runs again.
const JOB: &str = "INSERT INTO jobs (id, project_id, mode, key_id, request_id, status, request, input, image_id, dedup, \
                   not_before, deadline_at, created_at, lease_owner, lease_until, lease_token, started_at, class, predicted_us) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, \
                   (SELECT id FROM images WHERE project_id = $2 AND mode = $3 AND sha256 = $9 \
                   AND removed_at IS NULL FOR KEY SHARE), \
                   $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)";
/// Of a job whose image was there already.
const IMAGE_OF: &str = "SELECT image_id FROM jobs WHERE id = $1";
const STEP: &str =
    "INSERT INTO steps (job_id, position, id, feature, model, status) VALUES ($1, $2, $3, $4, $5, $6)";
const STEP_OF_PARTS: &str = "INSERT INTO steps (job_id, position, id, feature, model, status, units) VALUES ($1, $2, $3, $4, $5, $6, $7)";

impl Accepting {
    pub(crate) fn new(mut job: NewJob, now: Timestamp) -> Self {
        #[cfg(feature = "torture")]
        if crate::defect::has("late_key") {
            crate::defect::keep_key(&job);
            job.idempotency = None;
        }
        #[cfg(not(feature = "torture"))]
        let _ = &mut job;
        Self { job, now, asked: Asked::Key }
    }

    fn reserve(&self, idempotency: &Idempotency) -> Statement {
        self.with_key(|holder| record::reserve(holder, idempotency, self.now))
    }

    fn with_key(&self, statement: impl FnOnce(Holder<'_>) -> Statement) -> Statement {
        let NewJob { project, mode, .. } = self.job;
        statement(Holder { project, mode, subject: &self.job.id.to_string() })
    }

    /// Where the key is free: the job's rows, or first the limits that it may not fit into.
    fn go_on(&mut self) -> Vec<Statement> {
        let Some(capped) = self.capped() else { return self.rows() };
        self.asked = Asked::Room;
        capped.take()
    }

    fn capped(&self) -> Option<Capped> {
        let NewJob { id, project, key, mode, caps, .. } = self.job;
        caps.map(|caps| Capped { job: id, project, key, mode, units: self.job.units(), caps, now: self.now })
    }

    /// Nothing of it stays, its key included.
    fn give_up(&mut self, (over, mut back): (Overrun, Vec<Statement>)) -> Vec<Statement> {
        self.asked = Asked::Back(over);
        let key = self.job.idempotency.as_ref();
        back.extend(key.map(|key| self.with_key(|holder| record::release(holder, key))));
        back
    }

    /// By the answers to every row.
    fn accepted(&mut self, answers: &[Vec<Row>]) -> Round<Acceptance> {
        if answers.first().is_some_and(|rows| !rows.is_empty()) {
            return Round::Done(Acceptance::Accepted(self.job.image.id));
        }
        self.asked = Asked::Image;
        Round::Ask(vec![(IMAGE_OF, vec![self.job.id.to_string().into()])])
    }

    fn rows(&mut self) -> Vec<Statement> {
        let unclaim = self.capped().map(|capped| capped.unclaim());
        self.asked = Asked::Rows;
        let (job, now) = (&self.job, self.now);
        // The job before the image would have no image to name, and the rest no job.
        let mut rows = vec![insert_image(job, now), insert_job(job, now)];
        rows.extend(job.steps.iter().zip(0..).map(|(step, position)| insert_step(job.id, step, position)));
        rows.extend(job.taken_over.statements(job.id));
        if let Some(operation) = job.operation {
            let key = ContentKey { project: job.project, mode: job.mode, operation, job: job.id };
            rows.push(content::remember_bytes(&key, &job.image.sha256, now));
        }
        rows.push(ledger::reserve_new(job, now));
        rows.extend(unclaim);
        rows
    }
}

impl Rounds for Accepting {
    type Done = Acceptance;

    fn locks(&self) -> Option<ProjectId> {
        self.job.caps.map(|_| self.job.project)
    }

    fn begin(&mut self, pace: Pace) -> Vec<Statement> {
        let lock = self.locks().map(Capped::lock);
        let reserve = self.job.idempotency.as_ref().map(|idempotency| self.reserve(idempotency));
        if lock.is_none() && reserve.is_none() {
            return self.rows();
        }
        // Keys that were used are found before anything is accepted; what meets one here is a race. Limits are another matter.
        let at_once = pace == Pace::AtOnce && lock.is_none();
        let mut statements: Vec<_> = lock.into_iter().chain(reserve).collect();
        self.asked = Asked::Key;
        if at_once {
            statements.extend(self.rows());
            self.asked = Asked::All;
        }
        statements
    }

    fn next(&mut self, answers: Vec<Vec<Row>>) -> Result<Round<Acceptance>, StoreError> {
        let taken = answers.last().is_some_and(|rows| !rows.is_empty());
        match (self.asked, &self.job.idempotency) {
            (Asked::Rows, _) => Ok(self.accepted(&answers)),
            (Asked::All, _) if answers.first().is_none_or(Vec::is_empty) => Ok(Round::Slower),
            (Asked::All, _) => Ok(self.accepted(&answers[1..])),
            (Asked::Image, _) => {
                let image = answers.first().and_then(|rows| rows.first()).ok_or(StoreError::Conflict)?;
                Ok(Round::Done(Acceptance::Accepted(image.parsed(0)?)))
            }
            (Asked::Back(over), _) => Ok(Round::Done(Acceptance::Over(over))),
            (Asked::Room, _) => {
                let judged = self.capped().map_or(Ok(Ok(())), |capped| capped.judge(&answers))?;
                Ok(Round::Ask(match judged {
                    Ok(()) => self.rows(),
                    Err(over) => self.give_up(over),
                }))
            }
            (Asked::Key, None) => Ok(Round::Ask(self.go_on())),
            (Asked::Key, Some(_)) if taken => Ok(Round::Ask(self.go_on())),
            (Asked::Key, Some(idempotency)) => {
                let sought = self.with_key(|holder| record::sought(holder, idempotency));
                self.asked = Asked::Known;
                Ok(Round::Ask(vec![sought]))
            }
            (Asked::Known, idempotency) => {
                // No row: the winner's transaction ended between the two rounds, and its record went with it.
                let row = answers.last().and_then(|rows| rows.first()).ok_or(StoreError::Conflict)?;
                if let Some(known) = record::known(row, self.now)? {
                    return Ok(Round::Done(Acceptance::Known(known)));
                }
                let idempotency = idempotency.as_ref().ok_or(StoreError::Conflict)?;
                let forget = self.with_key(|holder| record::forget(holder, idempotency, self.now));
                let again = vec![forget, self.reserve(idempotency)];
                self.asked = Asked::Key;
                Ok(Round::Ask(again))
            }
        }
    }
}

fn insert_image(job: &NewJob, now: Timestamp) -> Statement {
    let image = &job.image;
    let row = [
        image.id.to_string().into(),
        job.project.to_string().into(),
        job.mode.name().into(),
        image.sha256.as_slice().into(),
        (image.bytes as i64).into(),
        image.content.clone().into(),
        times::micros(now).into(),
    ];
    (IMAGE, row.into())
}

fn insert_job(job: &NewJob, now: Timestamp) -> Statement {
    let leased = job.lease.as_ref();
    let status = if leased.is_some() { JobStatus::Processing } else { JobStatus::Pending };
    let row = [
        job.id.to_string().into(),
        job.project.to_string().into(),
        job.mode.name().into(),
        job.key.map(|key| key.to_string()).into(),
        job.request_id.as_str().into(),
        status.name().into(),
        job.request.as_str().into(),
        job.input.as_str().into(),
        job.image.sha256.as_slice().into(),
        job.dedup.as_str().into(),
        times::micros(now).into(),
        times::micros(job.deadline).into(),
        times::micros(now).into(),
        leased.map(|lease| lease.owner.as_str()).into(),
        leased.map(|lease| times::micros(lease.until)).into(),
        i64::from(leased.is_some()).into(),
        leased.map(|_| times::micros(now)).into(),
        job.class.name().into(),
        i64::try_from(job.predicted.as_micros()).unwrap_or(i64::MAX).into(),
    ];
    (JOB, row.into())
}

fn insert_step(job: JobId, step: &NewStep, position: i64) -> Statement {
    let mut row = vec![
        job.to_string().into(),
        position.into(),
        step.id.to_string().into(),
        step.feature.name().into(),
        step.model.clone().into(),
        StepStatus::Pending.name().into(),
    ];
    if step.units == 1 {
        return (STEP, row);
    }
    row.push((step.units as i64).into());
    (STEP_OF_PARTS, row)
}
