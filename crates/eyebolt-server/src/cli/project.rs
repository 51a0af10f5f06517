use std::process::ExitCode;

use clap::Subcommand;
use eyebolt_store::ProjectChange;
use eyebolt_types::{Change, DedupPolicy, Mode, Policy};

use super::{
    key::{Printed, keys, keys_of_new, mode},
    limit::{LimitChoice, changed, limit},
    output,
};
use crate::{
    Settings,
    access::{ProjectList, ProjectView},
};

/// Of `eyebolt project`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a project and its first key; the key's secret is printed now and never again.
    Create {
        /// What people call it; unique.
        name: String,
        /// Of the first key: live or test.
        #[arg(long, value_parser = mode, default_value = "live")]
        mode: Mode,
        /// Print one line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Change a project; servers notice within a second.
    Set {
        /// Its id or name.
        project: String,
        /// What happens to images that it has sent before: off, flag, reuse, or default for what the setting dedup.policy
        /// says.
        #[arg(long, value_parser = dedup_policy)]
        dedup_policy: Option<PolicyChoice>,
        /// The plan that its limits come from: one of the setting quotas.plans, or default.
        #[arg(long)]
        plan: Option<String>,
        /// A limit of its own: a number, none for no limit, default for the plan's; may be repeated.
        #[arg(long = "limit", value_name = "POLICY=LIMIT", value_parser = limit)]
        limits: Vec<LimitChoice>,
        /// Print one line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show all projects.
    List {
        /// Print one line of JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(command: Command, settings: Settings) -> anyhow::Result<ExitCode> {
    let keys = match command {
        Command::Create { .. } => keys_of_new(&settings).await?,
        Command::Set { .. } | Command::List { .. } => keys(&settings).await?,
    };
    match command {
        Command::Create { name, mode, json } => {
            let (project, issued) = keys.create_project(&name, mode).await?;
            if !json {
                output::line(format_args!("Project {} ({})", project.id, project.name))?;
            }
            Printed::new(&issued).print(json)?;
        }
        Command::Set { project, dedup_policy, plan, limits, json } => {
            let project = keys.project(&project).await?;
            let plan = plan.map_or(Change::Keep, |plan| Change::To((plan != "default").then_some(plan)));
            if let Change::To(Some(plan)) = &plan {
                settings.quotas.check_plan(plan).map_err(|what| anyhow::anyhow!("--plan {plan} {what}"))?;
            }
            let dedup_policy = dedup_policy.map_or(Change::Keep, |PolicyChoice(policy)| Change::To(policy));
            let limits =
                if limits.is_empty() { Change::Keep } else { Change::To(changed(project.limits, limits)) };
            let change = ProjectChange { dedup_policy, plan, limits };
            let project = ProjectView::from(keys.change_project(project.id, change).await?);
            output::line(if json { serde_json::to_string(&project)? } else { line(&project) })?;
        }
        Command::List { json } => {
            let data: Vec<_> = keys.projects().await?.into_iter().map(ProjectView::from).collect();
            if json {
                output::line(serde_json::to_string(&ProjectList { object: "list".to_owned(), data })?)?;
            } else {
                for project in &data {
                    output::line(line(project))?;
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `default` is none.
#[derive(Debug, Clone, Copy)]
pub(super) struct PolicyChoice(Option<DedupPolicy>);

fn dedup_policy(text: &str) -> Result<PolicyChoice, String> {
    if text == "default" {
        return Ok(PolicyChoice(None));
    }
    let policy = text.parse().map_err(|_| "it is off, flag, reuse or default".to_owned())?;
    Ok(PolicyChoice(Some(policy)))
}

fn line(project: &ProjectView) -> String {
    let ProjectView { id, created_at, name, .. } = project;
    let policy = project.dedup_policy.map_or("default", DedupPolicy::name);
    let plan = project.plan.as_deref().unwrap_or("default");
    let limit = |(policy, limit): (&Policy, &Option<u64>)| {
        format!("  {}={}", policy.name(), limit.map_or("none".to_owned(), |limit| limit.to_string()))
    };
    let limits: String = project.limits.0.iter().map(limit).collect();
    format!("{id}  {created_at}  dedup {policy}  plan {plan}{limits}  {name}")
}
