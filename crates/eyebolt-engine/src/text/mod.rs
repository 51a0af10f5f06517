//! Text: where lines stand, what they say, in which order they are read.
//!
//! The path: probability map → regions → straightened crops → which way up the page stands → characters → reading
//! order.

mod characters;
mod crop;
mod ctc;
mod detect;
mod order;
mod orientation;
mod page;
mod quad;
mod recognise;
mod rectangle;
mod regions;
mod tensor;

use eyebolt_types::{
    Detail,
    manifest::Bands,
    result::{ConfidenceBand, TextLine},
};

pub use self::{
    characters::Characters, detect::Detector, orientation::LineOrienter, recognise::Recogniser,
    regions::DbThresholds,
};
use self::{crop::Crop, quad::Quad, recognise::Reading};
use crate::{BackendError, Picture};

pub(crate) fn tune(name: &str, default: f32) -> f32 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Lines this many times higher than wide are read along their height.
const TALL: f32 = 1.5;
/// Up to here a tall line may also be a single upright character.
const SINGLE: f32 = 2.5;
/// Lines read with less confidence are also tried upside-down.
const DOUBTFUL: f32 = 0.6;

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
    /// Whether pages and lines that stand turned are looked for.
    pub auto_rotate: bool,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TextFindings {
    /// The lines in reading order, in pixels of the full image.
    pub lines: Vec<TextLine>,
    /// The same as one text: a row of the page a line, lines that share a row parted by a space.
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
    let mut reader = Reader { picture, models, options };
    let lines = reader.find_lines()?;
    let quarters = if options.auto_rotate { reader.quarter_turns(&lines)? } else { 0 };
    let mut read = Vec::with_capacity(lines.len());
    for line in lines {
        let line = reader.read_line(line.read_turned(quarters))?;
        if !line.reading.text.is_empty() && line.reading.confidence >= options.min_confidence {
            read.push(line);
        }
    }
    Ok(reader.findings(&read, quarters))
}

/// A line with its corners in the reading direction, and what it says.
struct ReadLine {
    quad: Quad,
    reading: Reading,
}

struct Reader<'a, 'm> {
    picture: &'a Picture,
    models: TextModels<'m>,
    options: &'a TextOptions,
}

impl Reader<'_, '_> {
    fn find_lines(&mut self) -> Result<Vec<Quad>, BackendError> {
        let mut regions = self.models.detector.detect(self.picture, self.options.detail)?;
        regions.sort_by(|a, b| b.score.total_cmp(&a.score));
        regions.truncate(self.options.max_results);
        Ok(regions.into_iter().map(|region| region.quad).collect())
    }

    fn cut(&self, line: &Quad) -> Crop {
        Crop::cut(self.picture, line, self.models.recogniser.height())
    }

    /// How many right angles the page stands turned clockwise.
    fn quarter_turns(&mut self, lines: &[Quad]) -> Result<usize, BackendError> {
        let sideways = page::runs_sideways(lines);
        let quarters = usize::from(sideways);
        let mut vote = page::Vote::default();
        for line in page::witnesses(lines, sideways) {
            vote.add(self.upside_down(&line.read_turned(quarters))?);
            if vote.is_clear() {
                break;
            }
        }
        Ok(if vote.upside_down() { quarters + 2 } else { quarters })
    }

    /// The probability that a line stands on its head.
    fn upside_down(&mut self, line: &Quad) -> Result<f32, BackendError> {
        let crop = self.cut(line);
        if let Some(orientation) = &mut self.models.orientation {
            return orientation.upside_down(&crop);
        }
        let upright = self.models.recogniser.recognise(&crop)?.confidence;
        let turned = self.models.recogniser.recognise(&crop.upside_down())?.confidence;
        Ok(turned / (upright + turned).max(f32::EPSILON))
    }

    /// Reads a line, whose corners follow the reading direction of the page; along its height where it is tall.
    fn read_line(&mut self, line: Quad) -> Result<ReadLine, BackendError> {
        let tallness = line.height() / line.width().max(f32::EPSILON);
        if tallness < TALL {
            let read = self.read_as(line)?;
            if read.reading.confidence >= DOUBTFUL || !self.options.auto_rotate || read.reading.text.is_empty() {
                return Ok(read);
            }
            return Ok(surer(read, self.read_as(line.read_turned(2))?));
        }
        let mut read = surer(self.read_as(line.read_turned(1))?, self.read_as(line.read_turned(3))?);
        if tallness < SINGLE {
            read = surer(read, self.read_as(line)?);
        }
        Ok(read)
    }

    fn read_as(&mut self, quad: Quad) -> Result<ReadLine, BackendError> {
        let crop = self.cut(&quad);
        let reading = self.models.recogniser.recognise(&crop)?;
        Ok(ReadLine { quad, reading })
    }

    fn findings(&self, read: &[ReadLine], quarters: usize) -> TextFindings {
        let (width, height) = (self.picture.width as f32, self.picture.height as f32);
        let upright = |[x, y]: [f32; 2]| match quarters {
            0 => [x, y],
            1 => [y, width - x],
            2 => [width - x, height - y],
            _ => [height - y, x],
        };
        let quads: Vec<Quad> = read.iter().map(|line| line.quad.map(upright)).collect();
        let rows = order::rows(&quads);
        let text: Vec<String> = rows
            .iter()
            .map(|row| row.iter().map(|line| read[*line].reading.text.as_str()).collect::<Vec<_>>().join(" "))
            .collect();
        TextFindings {
            lines: rows.into_iter().flatten().map(|line| self.text_line(&read[line])).collect(),
            text: text.join("\n"),
            rotation: quarters as u16 * 90,
        }
    }

    fn text_line(&self, line: &ReadLine) -> TextLine {
        let (scale_x, scale_y) = (self.picture.scale_x(), self.picture.scale_y());
        let size = (self.picture.full_width as f32, self.picture.full_height as f32);
        let quad = line.quad.map(|[x, y]| [x * scale_x, y * scale_y]).clipped(size.0, size.1);
        let confidence = line.reading.confidence;
        let bands = self.options.bands;
        TextLine {
            text: line.reading.text.clone(),
            confidence,
            confidence_band: if confidence >= bands.high {
                ConfidenceBand::High
            } else if confidence >= bands.medium {
                ConfidenceBand::Medium
            } else {
                ConfidenceBand::Low
            },
            polygon: quad.0,
            bounds: quad.bounds(),
        }
    }
}

fn surer(a: ReadLine, b: ReadLine) -> ReadLine {
    if b.reading.confidence > a.reading.confidence { b } else { a }
}
