use std::{io, path::Path};

/// The characters that a recogniser knows, by class: 0 is the CTC blank, then one for each line of the character file,
/// then a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Characters {
    /// All of them, joined.
    text: String,
    /// Where each one ends in `text`.
    ends: Vec<u32>,
}

impl Characters {
    /// Reads the character file: UTF-8, one character (or cluster of characters) a line.
    ///
    /// # Errors
    /// Where the file can't be read or is not UTF-8.
    pub fn load(path: &Path) -> io::Result<Self> {
        std::fs::read_to_string(path).map(|text| Self::new(text.lines()))
    }

    /// From the lines of a character file.
    pub fn new<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut characters = Self { text: String::new(), ends: vec![0] };
        for character in lines.into_iter().chain([" "]) {
            characters.text.push_str(character);
            characters.ends.push(characters.text.len() as u32);
        }
        characters
    }

    /// How many classes a model with these characters has, blank and space included.
    pub fn classes(&self) -> usize {
        self.ends.len()
    }

    /// The character of a class; nothing for the blank and for a class that does not exist.
    pub(crate) fn get(&self, class: usize) -> &str {
        match class.checked_sub(1).and_then(|before| self.ends.get(before..=class)) {
            Some(&[start, end]) => &self.text[start as usize..end as usize],
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_count_from_the_blank_to_the_space() {
        let characters = Characters::new(["a", "字", "e\u{301}"]);
        assert_eq!(characters.classes(), 5);
        let all: Vec<_> = (0..6).map(|class| characters.get(class)).collect();
        assert_eq!(all, ["", "a", "字", "e\u{301}", " ", ""]);
    }

    #[test]
    fn a_missing_file_is_an_error() {
        let missing = Characters::load(Path::new("no/such/characters.txt"));
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
