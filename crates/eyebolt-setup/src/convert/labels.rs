//! Class names, one a line.

use super::ConvertError;

/// Turns a JSON array of names into lines, class 0 first.
pub(crate) fn label_lines(json: &[u8]) -> Result<Vec<u8>, ConvertError> {
    let names: Vec<String> = serde_json::from_slice(json)?;
    if let Some(name) = names.iter().find(|name| name.contains('\n')) {
        return Err(ConvertError::new(format!("the label {name:?} holds a line feed")));
    }
    Ok((names.join("\n") + "\n").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_lines() {
        assert_eq!(label_lines(br#"["tench", "house finch"]"#).unwrap(), b"tench\nhouse finch\n");
        assert!(label_lines(br#"["two\nlines"]"#).is_err());
        assert!(label_lines(br#"{"0": "tench"}"#).is_err());
    }
}
