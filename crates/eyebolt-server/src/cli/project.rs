use std::process::ExitCode;

use clap::Subcommand;
use eyebolt_types::{DedupPolicy, Mode};

use super::key::{Printed, keys, mode};
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
        dedup_policy: PolicyChoice,
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
    let keys = keys(&settings).await?;
    match command {
        Command::Create { name, mode, json } => {
            let (project, issued) = keys.create_project(&name, mode).await?;
            if !json {
                println!("Project {} ({})", project.id, project.name);
            }
            Printed::new(&issued).print(json)?;
        }
        Command::Set { project, dedup_policy: PolicyChoice(policy), json } => {
            let project = keys.project(&project).await?;
            let project = ProjectView::from(keys.set_dedup_policy(project.id, policy).await?);
            println!("{}", if json { serde_json::to_string(&project)? } else { line(&project) });
        }
        Command::List { json } => {
            let data: Vec<_> = keys.projects().await?.into_iter().map(ProjectView::from).collect();
            if json {
                println!("{}", serde_json::to_string(&ProjectList { object: "list".to_owned(), data })?);
            } else {
                for project in &data {
                    println!("{}", line(project));
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
    format!("{id}  {created_at}  dedup {policy}  {name}")
}
