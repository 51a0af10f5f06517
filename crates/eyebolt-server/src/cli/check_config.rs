use std::process::ExitCode;

use super::output;
use crate::Settings;

pub(super) fn run(settings: &Settings) -> anyhow::Result<ExitCode> {
    output::line("# The settings in force. config.default.toml gives the reason for each.\n")?;
    output::line(toml::to_string(settings)?)?;
    output::line("# Variables that set them:")?;
    for (name, key) in Settings::variables() {
        output::line(format_args!("# {name} = {key}"))?;
    }
    output::line(format_args!("#\n# Models: {}", settings.models_dir().display()))?;
    let library = settings.library().map_or_else(|| "none".to_owned(), |path| path.display().to_string());
    output::line(format_args!("# ONNX Runtime library: {library}"))?;
    output::line(format_args!("# Database: {}", settings.storage.database()))?;
    Ok(ExitCode::SUCCESS)
}
