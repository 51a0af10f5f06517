//! What a run is like: its arguments, and what of them the checker must know.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::checker::Invariant;

/// Crash tests of a real Eyebolt server: kills, stops and failpoints under load, then a check of what came out.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "eyebolt-torture", version)]
pub(crate) struct Arguments {
    /// The server, built with its feature `torture`.
    #[arg(long, required_unless_present = "check")]
    pub(crate) server_binary: Option<PathBuf>,
    /// A new folder for the history, the servers' logs and data, and the verdict.
    #[arg(long, default_value = "torture-run")]
    pub(crate) run_folder: PathBuf,
    /// Checks the folder of an earlier run again, and runs nothing.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) check: Option<PathBuf>,
    /// Sends more than the server can do instead, and prints how it fared.
    #[arg(long, conflicts_with = "check")]
    pub(crate) overload: bool,
    /// How long faults go on. A run without a defect that has not reached its minimums goes on, up to three times as long.
    #[arg(long, default_value_t = 90)]
    pub(crate) seconds: u64,
    /// Clients at once.
    #[arg(long, default_value_t = 16)]
    pub(crate) clients: usize,
    /// Repeats the choices of an earlier run.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Where rows live.
    #[arg(long, value_enum, default_value_t = Database::Sqlite)]
    pub(crate) database: Database,
    /// A PostgreSQL server; the run makes a schema of its own there.
    #[arg(
        long,
        env = "EYEBOLT_TEST_POSTGRES_URL",
        hide_env_values = true,
        required_if_eq("database", "postgres")
    )]
    pub(crate) postgres_url: Option<String>,
    /// Breaks the server on purpose, to see whether the checker notices.
    #[arg(long, value_enum, default_value_t = Defect::None)]
    pub(crate) defect: Defect,
    /// Succeeds only where one of these invariants is violated; without a value, those that the defect must violate.
    #[arg(long, value_enum, value_delimiter = ',', num_args = 0.., value_name = "INVARIANTS")]
    pub(crate) expect_violation: Option<Vec<Invariant>>,
    /// How long the fake backend takes for a step: shortest..longest, milliseconds.
    #[arg(long, default_value = "5..400")]
    pub(crate) delay_ms: String,
    /// How long a lease holds without a heartbeat, milliseconds.
    #[arg(long, default_value_t = 1500)]
    pub(crate) lease_ms: u64,
    /// Between two heartbeats, milliseconds.
    #[arg(long, default_value_t = 400)]
    pub(crate) heartbeat_ms: u64,
    /// How long a receiver of webhooks may take, milliseconds.
    #[arg(long, default_value_t = 800)]
    pub(crate) webhook_timeout_ms: u64,
    /// How long jobs may take to end after the last fault, and their ends to be told then, seconds.
    #[arg(long, default_value_t = 60)]
    pub(crate) settle_seconds: u64,
    #[command(flatten)]
    pub(crate) minimums: Minimums,
}

/// What a run must have done: one that does nothing violates nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, clap::Args)]
pub(crate) struct Minimums {
    /// Servers killed, by a signal or by themselves at a failpoint.
    #[arg(long = "min-kills", default_value_t = 15)]
    pub(crate) kills: u64,
    /// Requests sent.
    #[arg(long = "min-operations", default_value_t = 3000)]
    pub(crate) operations: u64,
    /// Writes with an old lease that the server refused. Without a value: 1 on PostgreSQL; 0 on SQLite, where a server
    /// that is stopped has no other that could take its jobs.
    #[arg(long = "min-fenced")]
    pub(crate) fenced: Option<u64>,
}

/// Where rows live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Database {
    /// In the data folder; one server.
    #[default]
    Sqlite,
    /// Two servers share it.
    Postgres,
}

/// What is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Defect {
    /// Nothing.
    #[default]
    None,
    /// A worker that lost its lease writes all the same.
    #[value(name = "no_fence")]
    NoFence,
    /// The key is stored after the job, not with it.
    #[value(name = "late_key")]
    LateKey,
    /// A webhook has another id at each attempt.
    #[value(name = "fresh_event_id")]
    FreshEventId,
    /// Ends of a step's parts are stored with the end of the step, not as they come.
    #[value(name = "late_parts")]
    LateParts,
}

impl Defect {
    /// Its name for the server.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::NoFence => Some("no_fence"),
            Self::LateKey => Some("late_key"),
            Self::FreshEventId => Some("fresh_event_id"),
            Self::LateParts => Some("late_parts"),
        }
    }

    /// Where it must show.
    pub(crate) fn violates(self) -> &'static [Invariant] {
        match self {
            Self::None => &[],
            Self::NoFence => &[Invariant::I3, Invariant::I5, Invariant::I8, Invariant::I9],
            Self::LateKey => &[Invariant::I2],
            Self::LateParts => &[Invariant::I2, Invariant::I9],
            Self::FreshEventId => &[Invariant::I6],
        }
    }
}

/// What the checker must know of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// Repeats the run's choices.
    pub(crate) seed: u64,
    /// Clients at once.
    pub(crate) clients: usize,
    /// Servers at once.
    pub(crate) servers: usize,
    /// Where rows live.
    pub(crate) database: Database,
    /// What is broken on purpose.
    pub(crate) defect: Defect,
    /// How long a lease holds without a heartbeat, milliseconds.
    pub(crate) lease_ms: u64,
    /// Between two heartbeats, milliseconds.
    pub(crate) heartbeat_ms: u64,
    /// How long jobs may take to end after the last fault, seconds.
    pub(crate) settle_seconds: u64,
    /// What a run must have done.
    pub(crate) minimums: Minimums,
}

impl Arguments {
    pub(crate) fn setup(&self) -> Setup {
        Setup {
            seed: self.seed,
            clients: self.clients,
            servers: match self.database {
                Database::Sqlite => 1,
                Database::Postgres => 2,
            },
            database: self.database,
            defect: self.defect,
            lease_ms: self.lease_ms,
            heartbeat_ms: self.heartbeat_ms,
            settle_seconds: self.settle_seconds,
            minimums: self.minimums.clone(),
        }
    }
}

impl Setup {
    /// Fenced writes that a run must have seen.
    pub(crate) fn min_fenced(&self) -> u64 {
        self.minimums.fenced.unwrap_or(match (self.database, self.defect) {
            (
                Database::Postgres,
                Defect::None | Defect::LateKey | Defect::FreshEventId | Defect::LateParts,
            ) => 1,
            _ => 0,
        })
    }
}
