use std::process::ExitCode;
use crate::Settings;
/// Of `eyebolt bench`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}
pub(super) async fn run(_: Arguments, _: Settings) -> anyhow::Result<ExitCode> { Ok(ExitCode::SUCCESS) }
