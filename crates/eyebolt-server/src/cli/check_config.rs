use std::process::ExitCode;

use crate::Settings;

pub(super) fn run(settings: &Settings) -> anyhow::Result<ExitCode> {
    println!("# The settings in force. config.default.toml gives the reason for each.\n");
    println!("{}", toml::to_string(settings)?);
    println!("# Variables that set them:");
    for (name, key) in Settings::variables() {
        println!("# {name} = {key}");
    }
    println!("#\n# Models: {}", settings.models_dir().display());
    let library = settings.library().map_or_else(|| "none".to_owned(), |path| path.display().to_string());
    println!("# ONNX Runtime library: {library}");
    println!("# Database: {}", settings.storage.database());
    Ok(ExitCode::SUCCESS)
}
