use std::process::ExitCode;

use clap::Subcommand;
use eyebolt_types::Mode;

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
        Command::List { json } => {
            let data: Vec<_> = keys.projects().await?.into_iter().map(ProjectView::from).collect();
            if json {
                println!("{}", serde_json::to_string(&ProjectList { object: "list".to_owned(), data })?);
            } else {
                for ProjectView { id, created_at, name, .. } in &data {
                    println!("{id}  {created_at}  {name}");
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
