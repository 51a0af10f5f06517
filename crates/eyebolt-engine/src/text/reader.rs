use eyebolt_types::Detail;

use super::{Crop, Quad, TextModels, page, recognise::Reading};
use crate::{BackendError, Picture};

/// Lines this many times higher than wide are read along their height.
const TALL: f32 = 1.5;
/// Up to here a tall line may also be a single upright character.
const SINGLE: f32 = 2.5;
/// Lines read with less confidence are also tried upside-down.
const DOUBTFUL: f32 = 0.6;
/// A page is only turned on its head where its longest line is read better that way by this much.
const CLEARLY: f32 = 0.1;

/// A line with its corners in the reading direction, and what it says.
#[derive(Debug, Clone)]
pub(crate) struct ReadLine {
    pub(crate) quad: Quad,
    pub(crate) reading: Reading,
}

impl ReadLine {
    fn surer(self, other: Self) -> Self {
        if other.reading.confidence > self.reading.confidence { other } else { self }
    }
}

/// Leads the models through one picture.
pub(crate) struct Reader<'p, 'm> {
    picture: &'p Picture,
    models: TextModels<'m>,
}

impl<'p, 'm> Reader<'p, 'm> {
    pub(crate) fn new(picture: &'p Picture, models: TextModels<'m>) -> Self {
        Self { picture, models }
    }

    /// The `most` lines that the detector is surest of, in picture pixels.
    pub(crate) fn find_lines(&mut self, detail: Detail, most: usize) -> Result<Vec<Quad>, BackendError> {
        let mut regions = self.models.detector.detect(self.picture, detail)?;
        regions.sort_by(|a, b| b.score.total_cmp(&a.score));
        regions.truncate(most);
        Ok(regions.into_iter().map(|region| region.quad).collect())
    }

    /// How many right angles the page stands turned clockwise.
    pub(crate) fn quarter_turns(&mut self, lines: &[Quad]) -> Result<usize, BackendError> {
        let sideways = page::runs_sideways(lines);
        let quarters = usize::from(sideways);
        let witnesses: Vec<Quad> =
            page::witnesses(lines, sideways).into_iter().map(|line| line.read_turned(quarters)).collect();
        let mut vote = page::Vote::default();
        for line in &witnesses {
            vote.add(self.upside_down(line)?);
            if vote.is_clear() {
                break;
            }
        }
        // The orientation model guesses on scripts that it does not know; the recogniser must agree.
        let turned = vote.upside_down()
            && match witnesses.first() {
                Some(line) => self.gain_upside_down(&self.cut(line))? > CLEARLY,
                None => false,
            };
        Ok(if turned { quarters + 2 } else { quarters })
    }

    /// The probability that a line stands on its head.
    fn upside_down(&mut self, line: &Quad) -> Result<f32, BackendError> {
        let crop = self.cut(line);
        match &mut self.models.orientation {
            Some(orientation) => orientation.upside_down(&crop),
            None => Ok(0.5 + 0.5 * self.gain_upside_down(&crop)?),
        }
    }

    /// How much surer the recogniser is of the line when it is turned by 180°, −1 to 1.
    fn gain_upside_down(&mut self, crop: &Crop) -> Result<f32, BackendError> {
        let upright = self.models.recogniser.recognise(crop)?;
        let turned = self.models.recogniser.recognise(&crop.upside_down())?;
        Ok(turned.confidence - upright.confidence)
    }

    /// Reads a line, whose corners follow the reading direction of the page; along its height where it is tall.
    pub(crate) fn read_line(&mut self, line: Quad, both_ways: bool) -> Result<ReadLine, BackendError> {
        let tallness = line.height() / line.width().max(f32::EPSILON);
        if tallness < TALL {
            let read = self.read_as(line)?;
            let doubtful = !read.reading.text.is_empty() && read.reading.confidence < DOUBTFUL;
            return if both_ways && doubtful {
                Ok(read.surer(self.read_as(line.read_turned(2))?))
            } else {
                Ok(read)
            };
        }
        let read = self.read_as(line.read_turned(1))?.surer(self.read_as(line.read_turned(3))?);
        if tallness < SINGLE { Ok(read.surer(self.read_as(line)?)) } else { Ok(read) }
    }

    /// Whether lines that run sideways are columns of upright characters, as in Chinese and Japanese, rather than a
    /// page on its side: the first character of the longest line is the same when it is read upright.
    pub(crate) fn is_written_vertically(
        &mut self,
        lines: &[ReadLine],
        quarters: usize,
    ) -> Result<bool, BackendError> {
        let sideways =
            lines.iter().filter(|line| quarters % 2 == 1 && line.quad.width() > line.quad.height());
        let longest = sideways.max_by(|a, b| a.quad.width().total_cmp(&b.quad.width()));
        let Some((line, first)) = longest.and_then(|line| Some((line, line.reading.text.chars().next()?)))
        else {
            return Ok(false);
        };
        if !page::is_ideographic(first) {
            return Ok(false);
        }
        let upright = self.read_as(line.quad.first_square().read_turned(4 - quarters))?;
        Ok(upright.reading.text.starts_with(first))
    }

    fn read_as(&mut self, quad: Quad) -> Result<ReadLine, BackendError> {
        let reading = self.models.recogniser.recognise(&self.cut(&quad))?;
        Ok(ReadLine { quad, reading })
    }

    fn cut(&self, line: &Quad) -> Crop {
        Crop::cut(self.picture, line, self.models.recogniser.height())
    }
}
