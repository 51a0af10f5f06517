use eyebolt_types::manifest::InputSpec;

use super::{Characters, Crop, ctc, tensor};
use crate::{
    BackendError,
    backend::{Session, TensorView},
};

/// Height of a line as the model sees it where its manifest leaves it open.
const HEIGHT: u32 = 48;

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

    pub(crate) fn recognise(&mut self, crop: &Crop) -> Result<Reading, BackendError> {
        let classes = self.characters.classes();
        let mut emissions = Ok(Vec::new());
        let planes = padded_planes(crop, self.input, crate::text::tune("MINW", 320.0) as usize);
        let shape = [1, 3, crop.height, planes.len() / (3 * crop.height)];
        self.session.run(TensorView { shape: &shape, data: &planes }, &mut |outputs| {
            emissions = tensor::output(outputs, |[_, found]| found == classes)
                .map(|(_, probabilities)| ctc::decode(probabilities, classes));
        })?;
        let emissions = emissions?;
        let sum: f32 = emissions.iter().map(|emission| emission.probability).sum();
        let text: String = emissions.iter().map(|emission| self.characters.get(emission.class)).collect();
        if std::env::var("STEPS").is_ok() {
            let s: Vec<String> = emissions.iter().map(|e| format!("{}@{}", self.characters.get(e.class), e.step)).collect();
            println!("{} {:?}", s.join(" "), crop.width);
        }
        Ok(Reading { text: text.trim().to_owned(), confidence: sum / emissions.len().max(1) as f32 })
    }
}

fn padded_planes(crop: &Crop, spec: &InputSpec, min: usize) -> Vec<f32> {
    let mut planes = Vec::new();
    tensor::write_planes(&crop.pixels, spec, &mut planes);
    let width = crop.width.max(min).next_multiple_of(crate::text::tune("MULT", 8.0) as usize);
    if width == crop.width { return planes; }
    let mut padded = vec![crate::text::tune("PADV", 0.0); width * crop.height * 3];
    for (to, from) in padded.chunks_exact_mut(width).zip(planes.chunks_exact(crop.width)) {
        to[..crop.width].copy_from_slice(from);
    }
    padded
}
