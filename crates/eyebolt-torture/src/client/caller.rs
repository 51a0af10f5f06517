//! Requests that leave a trace in the history.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    batch::BatchIntent,
    history::{Action, BatchSubmission, History, Purpose, Submission, What},
    journal::Intent,
    observed::Answer,
    wire::Call,
};

/// A customer of the server.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    pub(crate) name: String,
    pub(crate) secret: String,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// New work, under faults.
    Storm,
    /// No new work, no faults: what is open is brought to its end.
    Drain,
    /// Whoever still waits gives up.
    Over,
}

/// An intent whose final answer is known.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    pub(crate) project: String,
    pub(crate) intent: Intent,
    pub(crate) job: Option<String>,
}

/// What all clients share.
pub(crate) struct Field {
    pub(crate) history: History,
    pub(crate) servers: Vec<SocketAddr>,
    pub(crate) projects: Vec<Project>,
    /// Where messages to addresses of requests go.
    pub(crate) receiver: SocketAddr,
    pub(crate) finished: Mutex<Vec<Arc<Finished>>>,
    /// Addresses of requests that were accepted: their receivers' names, and what is told there.
    pub(crate) hooks: Mutex<Vec<(String, String)>>,
    /// Batches that were accepted, with their projects.
    pub(crate) batches: Mutex<Vec<(String, String)>>,
    pub(crate) phase: watch::Receiver<Phase>,
}

/// How a request with a key is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Manner {
    /// Waits for the job, this many seconds.
    Wait(u64),
    /// Does not wait.
    Async,
    /// Would wait, but hangs up after this many milliseconds.
    HangUp(u64),
    /// Hangs up before the body's end.
    Half,
}

/// Somebody who sends requests.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) process: String,
    pub(crate) project: Project,
    pub(crate) field: Arc<Field>,
}

/// A stopped server takes connections and says nothing: this is when a polite client gives up.
const PATIENCE: Duration = Duration::from_secs(8);

/// A receiver's name.
fn hook(project: &str, token: &str) -> String {
    format!("hook/{project}/{token}")
}

impl Field {
    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Notes that a job or batch was accepted that wants to be told of at this address, if any.
    pub(crate) fn expects(&self, project: &str, told: Option<(&str, &str)>) {
        let hook = told.map(|(token, id)| (hook(project, token), id.to_owned()));
        self.hooks.lock().expect("no holder panics").extend(hook);
    }

    /// What is finished, of a project or of all.
    pub(crate) fn finished(&self, project: Option<&str>) -> Vec<Arc<Finished>> {
        let finished = self.finished.lock().expect("no holder panics");
        finished.iter().filter(|one| project.is_none_or(|name| one.project == name)).cloned().collect()
    }
}

impl Caller {
    /// Sends an intent. `None` where the outcome is unknown.
    pub(crate) async fn submit(&self, intent: &Intent, purpose: Purpose, manner: Manner) -> Option<Answer> {
        let hook = intent.payload.hook.as_ref().map(|token| hook(&self.project.name, token));
        let address = hook.as_ref().map(|hook| format!("http://{}/{hook}", self.field.receiver));
        let action = Action::Submit(Submission {
            key: intent.key.clone(),
            fingerprint: intent.payload.fingerprint(),
            kind: intent.payload.kind,
            purpose,
            hook,
            plan: intent.payload.plan.clone(),
        });
        let prefer = match manner {
            Manner::Async => "respond-async".to_owned(),
            Manner::Wait(seconds) => format!("wait={seconds}"),
            Manner::HangUp(_) | Manner::Half => "wait=10".to_owned(),
        };
        let call = Call::analyze(intent, &prefer, address.as_deref());
        match manner {
            Manner::Half => self.half(action, call).await,
            Manner::HangUp(ms) => self.call(action, call, Duration::from_millis(ms)).await,
            Manner::Wait(seconds) => self.call(action, call, PATIENCE + Duration::from_secs(seconds)).await,
            Manner::Async => self.call(action, call, PATIENCE).await,
        }
    }

    /// Sends a batch. `None` where the outcome is unknown.
    pub(crate) async fn submit_batch(
        &self,
        batch: &BatchIntent,
        purpose: Purpose,
        limit: Duration,
    ) -> Option<Answer> {
        let hook = batch.hook.as_ref().map(|token| hook(&self.project.name, token));
        let address = hook.as_ref().map(|hook| format!("http://{}/{hook}", self.field.receiver));
        let action = Action::Batch(BatchSubmission {
            key: batch.key.clone(),
            fingerprint: batch.fingerprint(),
            items: batch.items.iter().map(|item| (item.custom_id.clone(), item.kind)).collect(),
            purpose,
            hook,
        });
        self.call(action, Call::batch(batch, address.as_deref()), limit).await
    }

    pub(crate) async fn read_batch(&self, batch: &str) -> Option<Answer> {
        let call = Call::get(format!("/v1/batches/{batch}"));
        self.call(Action::ReadBatch { batch: batch.to_owned() }, call, PATIENCE).await
    }

    pub(crate) async fn cancel_batch(&self, batch: &str) -> Option<Answer> {
        let action = Action::CancelBatch { batch: batch.to_owned() };
        self.call(action, Call::cancel_batch(batch), PATIENCE).await
    }

    pub(crate) async fn read(&self, job: &str, foreign: bool) -> Option<Answer> {
        let call = Call::get(format!("/v1/jobs/{job}"));
        self.call(Action::Read { job: job.to_owned(), foreign }, call, PATIENCE).await
    }

    pub(crate) async fn cancel(&self, job: &str) -> Option<Answer> {
        self.call(Action::Cancel { job: job.to_owned() }, Call::cancel(job), PATIENCE).await
    }

    /// Runs again what failed: of all of a job, of a step, of a part.
    pub(crate) async fn retry(&self, job: &str, (step, part): (Option<&str>, Option<u32>)) -> Option<Answer> {
        let action = Action::Retry { job: job.to_owned(), step: step.map(str::to_owned), part };
        self.call(action, Call::retry(job, (step, part)), PATIENCE).await
    }

    pub(crate) async fn retry_batch(&self, batch: &str) -> Option<Answer> {
        let action = Action::RetryBatch { batch: batch.to_owned() };
        self.call(action, Call::retry_batch(batch), PATIENCE).await
    }

    pub(crate) async fn list(&self) -> Option<Answer> {
        self.call(Action::List, Call::list(None, None), PATIENCE).await
    }

    pub(crate) async fn usage(&self) -> Option<Answer> {
        self.call(Action::Usage, Call::get("/v1/usage"), PATIENCE).await
    }

    async fn call(&self, action: Action, call: Call, limit: Duration) -> Option<Answer> {
        let op = self.invoke(action);
        let reply = match call.by(&self.project.secret).send(self.server(op), limit).await {
            Ok(reply) => reply,
            Err(reason) => {
                self.field.history.write(&self.process, What::Info { op, reason });
                return None;
            }
        };
        let answer = Answer::of(reply.status, &reply.headers, &reply.body);
        let what = if answer.is_success() {
            What::Ok { op, answer: answer.clone() }
        } else {
            What::Fail { op, answer: answer.clone() }
        };
        self.field.history.write(&self.process, what);
        Some(answer)
    }

    async fn half(&self, action: Action, call: Call) -> Option<Answer> {
        let op = self.invoke(action);
        let sent = call.by(&self.project.secret).send_half(self.server(op)).await;
        let reason = sent.map_or_else(|error| error.to_string(), |()| "hung up in the body".to_owned());
        self.field.history.write(&self.process, What::Info { op, reason });
        None
    }

    fn invoke(&self, action: Action) -> u64 {
        let op = self.field.history.op();
        let project = self.project.name.clone();
        self.field.history.write(&self.process, What::Invoke { op, project, action });
        op
    }

    /// In turns, so that a retry, or a twin, meets another server.
    fn server(&self, op: u64) -> SocketAddr {
        self.field.servers[op as usize % self.field.servers.len()]
    }
}
