use eyebolt_types::manifest::InputSpec;

use super::{Characters, Crop, ctc, tensor, windows};
use crate::{
    BackendError,
    backend::{Session, TensorView},
};

/// Height of a line as the model sees it where its manifest leaves it open.
const HEIGHT: u32 = 48;
/// Narrower lines are padded: the model invents characters where it sees a line without surroundings.
const MIN_WIDTH: usize = 160;
/// The model looks at the line in steps of this many pixels.
const STEP: usize = 8;

/// Reads one line: probabilities of characters, step by step along the line.
pub struct Recogniser<'a> {
    /// The model.
    pub session: &'a mut dyn Session,
    /// How pixels become its input; the width follows the line.
    pub input: &'a InputSpec,
    /// What its classes stand for.
    pub characters: &'a Characters,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Reading {
    pub(crate) text: String,
    /// Mean over the characters, 0–1; 0 without any.
    pub(crate) confidence: f32,
}

impl Recogniser<'_> {
    /// The height that crops should have, in pixels.
    pub(crate) fn height(&self) -> usize {
        (if self.input.height == 0 { HEIGHT } else { self.input.height }) as usize
    }

    /// Reads a line of that height.
    pub(crate) fn recognise(&mut self, crop: &Crop) -> Result<Reading, BackendError> {
        let mut text = String::new();
        let (mut sum, mut count) = (0.0, 0);
        for window in windows::of(crop) {
            let part = if window.columns.len() == crop.width {
                self.emissions(crop)?
            } else {
                self.emissions(&crop.columns(window.columns))?
            };
            text.extend(part.iter().map(|emission| self.characters.get(emission.class)));
            if window.ends_word {
                text.push(' ');
            }
            sum += part.iter().map(|emission| emission.probability).sum::<f32>();
            count += part.len();
        }
        Ok(Reading { text: text.trim().to_owned(), confidence: sum / count.max(1) as f32 })
    }

    fn emissions(&mut self, crop: &Crop) -> Result<Vec<ctc::Emission>, BackendError> {
        let classes = self.characters.classes();
        let width = crop.width.max(MIN_WIDTH).next_multiple_of(STEP);
        let planes = tensor::padded_planes(crop, self.input, width);
        let shape = [1, 3, crop.height, width];
        let mut emissions = Ok(Vec::new());
        self.session.run(TensorView { shape: &shape, data: &planes }, &mut |outputs| {
            emissions = tensor::output(outputs, |[_, found]| found == classes)
                .map(|(_, probabilities)| ctc::decode(probabilities, classes));
        })?;
        emissions
    }
}
