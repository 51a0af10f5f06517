use std::sync::LazyLock;

use super::Pipeline;

/// A pipeline that is always there.
#[derive(Debug)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: u32,
    /// What it does.
    pub pipeline: Pipeline,
}

/// Pipelines that are always there; a project may have none of the same name.
pub static PRESETS: LazyLock<Vec<Preset>> = LazyLock::new(|| {
    let texts = [
        ("read-signs", include_str!("presets/read-signs.json")),
        ("faces-with-quality", include_str!("presets/faces-with-quality.json")),
        ("document", include_str!("presets/document.json")),
    ];
    let preset = |(name, text)| {
        let pipeline = serde_json::from_str(text).expect("a test reads every preset");
        Preset { name, version: 1, pipeline }
    };
    texts.into_iter().map(preset).collect()
});

/// The preset of this name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}
