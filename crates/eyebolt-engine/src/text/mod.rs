//! Text: where lines stand, what they say, in which order they are read.
//!
//! The path: probability map → regions → which way up the page stands → straightened crops → characters → reading
//! order. Everything runs on the caller's thread.

mod answer;
mod characters;
mod crop;
mod ctc;
mod detect;
mod order;
mod orientation;
mod page;
mod quad;
mod reader;
mod recognise;
mod rectangle;
mod regions;
mod tensor;
mod windows;

use eyebolt_types::{Detail, manifest::Bands, result::TextLine};

pub(crate) use self::crop::sample;
pub use self::{
    characters::Characters, detect::Detector, orientation::LineOrienter, recognise::Recogniser,
    regions::DbThresholds,
};
use self::{crop::Crop, quad::Quad, reader::Reader};
use crate::{BackendError, Picture};

/// The models that read text together.
pub struct TextModels<'a> {
    /// Finds lines.
    pub detector: Detector<'a>,
    /// Reads lines.
    pub recogniser: Recogniser<'a>,
    /// Tells which way up lines stand. Without it the recogniser reads some lines both ways.
    pub orientation: Option<LineOrienter<'a>>,
}

/// How text is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TextOptions {
    /// How small letters may be, against the time it takes.
    pub detail: Detail,
    /// Lines read with less confidence are left out, 0–1.
    pub min_confidence: f32,
    /// Where the bands of a confidence begin.
    pub bands: Bands,
    /// How many lines are read at most: those that the detector is surest of.
    pub max_results: usize,
    /// Whether to find out which way up the page stands. Otherwise it is taken to be upright.
    pub auto_rotate: bool,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TextFindings {
    /// The lines in reading order, in pixels of the full image.
    pub lines: Vec<TextLine>,
    /// The same as one text: a row of the page a line; what shares a row, such as an item and its price, is parted by
    /// a space.
    pub text: String,
    /// How far the page stands turned clockwise: 0, 90, 180 or 270 degrees.
    pub rotation: u16,
}

/// Reads the text in a picture, on the caller's thread.
///
/// # Errors
/// Where a model fails, or gives outputs of another shape than its kind has.
pub fn read(
    picture: &Picture,
    models: TextModels<'_>,
    options: &TextOptions,
) -> Result<TextFindings, BackendError> {
    let mut reader = Reader::new(picture, models);
    let found = reader.find_lines(options.detail, options.max_results)?;
    let quarters = if options.auto_rotate { reader.quarter_turns(&found)? } else { 0 };
    let mut lines = Vec::with_capacity(found.len());
    for line in found {
        let line = reader.read_line(line.read_turned(quarters), options.auto_rotate)?;
        if !line.reading.text.is_empty() && line.reading.confidence >= options.min_confidence {
            lines.push(line);
        }
    }
    let rotation = if reader.is_written_vertically(&lines, quarters)? { 0 } else { quarters as u16 * 90 };
    Ok(TextFindings { rotation, ..answer::of(picture, &lines, (quarters, options.bands)) })
}
