//! The characters of a text recogniser, one a line.

use prost::Message as _;

use super::ConvertError;
use crate::onnx::ModelMetadata;

/// Takes the metadata entry `character` out of an ONNX file: one character a line, each line ended by a line feed.
/// Backends without access to metadata need it as a file.
pub(crate) fn character_lines(onnx: &[u8]) -> Result<Vec<u8>, ConvertError> {
    let metadata = ModelMetadata::decode(onnx)?;
    let entry = metadata
        .entries
        .into_iter()
        .find(|entry| entry.key == "character")
        .ok_or_else(|| ConvertError::new("the ONNX file has no metadata entry \"character\""))?;
    let mut lines = entry.value.into_bytes();
    if lines.last() != Some(&b'\n') {
        lines.push(b'\n');
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{Entry, GraphBuilder};

    #[test]
    fn every_character_gets_its_line() {
        let mut model = GraphBuilder::new("reader").finish(vec![], vec![]);
        assert!(character_lines(&model.encode_to_vec()).is_err(), "no entry");
        model.metadata.push(Entry { key: "character".to_owned(), value: "a\né\n字".to_owned() });
        assert_eq!(character_lines(&model.encode_to_vec()).unwrap(), "a\né\n字\n".as_bytes());
    }
}
