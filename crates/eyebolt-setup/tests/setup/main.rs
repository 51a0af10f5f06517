//! Setups of tiny catalogues, whose archives the tests make themselves.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking; clippy knows functions marked as tests only"
)]

mod clients;
mod from_directory;
mod repair;
mod workshop;

use eyebolt_setup::{Catalogue, sources};
use eyebolt_types::{Feature, manifest::Decoder};

#[test]
fn the_pinned_catalogue_has_one_default_for_each_role() {
    let mut roles: Vec<String> = sources()
        .iter()
        .filter_map(|source| source.manifest.as_ref())
        .filter(|manifest| manifest.default)
        .map(|manifest| format!("{} {}", manifest.task, role(&manifest.decoder)))
        .collect();
    roles.sort();
    let expected =
        ["faces find", "labels classify", "objects find", "text find lines", "text read", "text turn"];
    assert_eq!(roles, expected);
}

fn role(decoder: &Decoder) -> &'static str {
    match decoder {
        Decoder::Ssd { .. } | Decoder::Yolox { .. } | Decoder::Centerface { .. } => "find",
        Decoder::Classifier { .. } => "classify",
        Decoder::DbText { .. } => "find lines",
        Decoder::LineOrientation {} => "turn",
        Decoder::CtcText { .. } => "read",
    }
}

#[test]
fn every_pinned_model_has_what_its_manifest_names_and_its_licence() {
    for source in sources() {
        let has = |name: &str| source.files.iter().any(|file| file.name == name);
        assert!(has("LICENSE"), "{}", source.name);
        let Some(manifest) = &source.manifest else { continue };
        let beside = match &manifest.decoder {
            Decoder::Ssd { anchors_file, .. } => Some(anchors_file),
            Decoder::CtcText { characters_file } => Some(characters_file),
            _ => None,
        };
        let named = [Some(&manifest.file), manifest.labels_file.as_ref(), beside];
        for name in named.into_iter().flatten().map(String::as_str).chain(["model.toml", "NOTICE"]) {
            assert!(has(name), "{} lacks {name}", source.name);
        }
    }
}

#[test]
fn coco_names_80_of_its_91_numbers() {
    let detector = sources()
        .iter()
        .find(|source| source.manifest.as_ref().is_some_and(|manifest| manifest.task == Feature::Objects));
    let labels = detector.unwrap().files.iter().find(|file| file.name == "labels.txt").unwrap();
    let eyebolt_setup::Origin::Text(text) = &labels.origin else { panic!("not a text") };
    let lines: Vec<&str> = text.split_terminator('\n').collect();
    let named = lines.iter().filter(|line| !line.is_empty()).count();
    assert_eq!((lines.len(), named), (91, 80));
    assert_eq!((lines[0], lines[1], lines[12], lines[90]), ("", "person", "", "toothbrush"));
}

#[test]
fn a_catalogue_that_contradicts_itself_is_refused() {
    let refusal = |source: &str| Catalogue::parse("", &[source]).unwrap_err().to_string();
    let no_archive = r#"
        name = "a"
        directory = "a"
        files = [{ name = "f", sha256 = "00", members = [{ archive = "x", path = "p", bytes = 1, sha256 = "00" }] }]
    "#;
    assert_eq!(refusal(no_archive), "the catalogue is not sound: a: no archive \"x\"");
    let no_origin = r#"
        name = "a"
        directory = "a"
        files = [{ name = "f" }]
    "#;
    let expected = "the catalogue is not sound: a: f: give text, apache_licence, or members with sha256";
    assert_eq!(refusal(no_origin), expected);
}
