//! What the room shows of itself.

use eyebolt_admission::Capacity;
use eyebolt_types::{Class, Detail, Feature, id::ProjectId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Admission, Look,
    decisions::{Decisions, Moment},
};

/// How busy the machine is, and what the capacity law makes of it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Capacity)]
pub struct CapacityReport {
    /// Always `capacity`.
    pub object: String,
    /// Jobs that run at once.
    pub workers: usize,
    /// Jobs that run.
    pub running: usize,
    /// Workers that are not counted on, since what they run does not end.
    pub hung: usize,
    /// Requests that were turned away since the start.
    pub refused: u64,
    /// Those of them that were held back, since their client had come back too early.
    pub held_back: u64,
    /// By urgency, the most urgent first.
    pub classes: Vec<ClassReport>,
    /// Who waits.
    pub projects: Vec<TenantReport>,
    /// What was learned of how long work takes.
    pub costs: Vec<CostReport>,
    /// The last two minutes, second by second, the oldest first.
    pub history: Vec<Moment>,
}

/// What waits of a class.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = CapacityClass)]
pub struct ClassReport {
    /// Which.
    pub class: Class,
    /// How many.
    pub waiting: usize,
    /// Predicted seconds of a worker for what waits and is at least as urgent.
    pub work_seconds: f64,
    /// From so much work on, whoever has others waiting already is turned away.
    pub bound_seconds: f64,
    /// The same for jobs that are promised.
    pub promised_bound_seconds: f64,
    /// What was decided since the start.
    pub decisions: Decisions,
}

/// What waits of a project.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = CapacityProject)]
pub struct TenantReport {
    /// Whose.
    pub project: ProjectId,
    /// Of which urgency.
    pub class: Class,
    /// How many.
    pub waiting: usize,
}

/// How long a kind of work takes: `correction × (base_ms + ms_per_megapixel × megapixels)`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = CapacityCost)]
pub struct CostReport {
    /// The feature; none: everything beside the features, such as decoding.
    pub feature: Option<Feature>,
    /// The snapshot that answers.
    pub model: Option<String>,
    /// How closely it looks, where that can be chosen.
    pub detail: Option<Detail>,
    /// Milliseconds.
    pub base_ms: f64,
    /// Milliseconds.
    pub ms_per_megapixel: f64,
    /// How much slower (above 1) or faster the machine is of late.
    pub correction: f64,
}

impl Admission {
    /// Everything that the law knows.
    pub(crate) fn report(&self) -> CapacityReport {
        let state = self.state();
        let law = &state.law;
        let classes = Class::ALL.map(|class| ClassReport {
            class,
            waiting: law.lines(class).map(|(_, count)| count).sum(),
            work_seconds: rounded(law.work(class)),
            bound_seconds: rounded(law.bound_of(class, false)),
            promised_bound_seconds: rounded(law.bound_of(class, true)),
            decisions: state.record.decisions(class),
        });
        let lines = |class| law.lines(class).map(move |(project, waiting)| (*project, class, waiting));
        let mut projects: Vec<_> = Class::ALL
            .into_iter()
            .flat_map(lines)
            .map(|(project, class, waiting)| TenantReport { project, class, waiting })
            .collect();
        projects.sort_by_key(|row| (row.class, std::cmp::Reverse(row.waiting), row.project));
        let mut costs: Vec<_> =
            state.costs.all().map(|(work, model)| cost(work.as_ref(), model.learned())).collect();
        costs.sort_by(|a, b| {
            let name = |row: &CostReport| (row.feature.map(Feature::name), row.model.clone(), row.detail);
            name(a).cmp(&name(b))
        });
        CapacityReport {
            object: "capacity".to_owned(),
            workers: self.0.workers,
            running: law.running(),
            hung: law.hung(),
            refused: state.record.refusals(),
            held_back: state.record.held_back(),
            classes: classes.into(),
            projects,
            costs,
            history: state.record.moments(),
        }
    }

    /// How often this sender came back too early lately.
    pub(crate) fn strikes(&self, caller: u64) -> u8 {
        self.state().law.strikes(caller, self.now())
    }

    /// Of a project: how many of its requests and jobs wait, and how long one that comes now will wait, seconds.
    pub(crate) fn standing(&self, project: ProjectId) -> (usize, f64) {
        let state = self.state();
        let wait = state.law.work(Class::Interactive) / self.0.workers.max(1) as f64;
        (state.law.waiting_of(&project), rounded(wait))
    }
}

pub(super) fn moment(law: &Capacity<ProjectId>) -> Moment {
    Moment {
        running: law.running(),
        waiting: law.waiting(),
        work_seconds: rounded(law.work(Class::Interactive)),
        bound_seconds: rounded(law.bound_of(Class::Interactive, false)),
    }
}

fn cost(work: Option<&Look>, (base, slope, correction): (f64, f64, f64)) -> CostReport {
    CostReport {
        feature: work.map(|look| look.feature),
        model: work.and_then(|look| look.model.clone()),
        detail: work.and_then(|look| look.detail),
        base_ms: rounded(base * 1e3),
        ms_per_megapixel: rounded(slope * 1e3),
        correction: rounded(correction),
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
