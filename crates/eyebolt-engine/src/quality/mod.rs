//! Whether a picture is worth a model's time: measures, verdicts, and the codes that the gate refuses with.
//!
//! Only garbage is refused: what no model and no person can use. Everything doubtful is a warning. The limits and
//! the distributions that they were drawn from stand in `docs/quality-gate.md`.

mod compression;
mod exposure;
mod noise;
mod plane;
mod sharpness;
mod verdict;

use self::{exposure::Exposure, plane::Canonical};
use crate::Picture;
pub use verdict::{judge, refusals};

/// What can be measured without knowing what a picture shows. Light is luma (ITU-R BT.601), 0–255.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measures {
    /// The shorter side of the image as the file has it, pixels.
    pub short_side: u32,
    /// Steepness of edges over that in a view at a quarter of the scale; about 1 where sharp, towards 0.25 where
    /// blurred. None: too small or too flat to tell.
    pub sharpness: Option<f32>,
    /// Mean light.
    pub mean: f32,
    /// Light of the darkest pixels, leaving out a few.
    pub darkest: f32,
    /// Light of the brightest pixels, leaving out a few.
    pub brightest: f32,
    /// Share of pixels with no light at all, 0–1.
    pub clipped_dark: f32,
    /// Share of pixels with all light, 0–1.
    pub clipped_bright: f32,
    /// Largest range within luma or a colour channel, leaving out a few pixels, 0–255.
    pub contrast: f32,
    /// Share of pixels that differ from the background in light or colour, 0–1.
    pub content: f32,
    /// Share of pixels in the middle half between darkest and brightest, 0–1: next to none in line art and codes.
    pub midtones: f32,
    /// Standard deviation of the noise, 0–255. None: too small to tell.
    pub noise: Option<f32>,
    /// How much larger steps are at the borders of 8 × 8 blocks than inside; about 1 where there are none.
    /// None: too small, or decoded at a fraction of its size.
    pub blockiness: Option<f32>,
}

/// Measures a picture. Takes a fraction of a millisecond at 640 × 640 pixels: most measures look at samples, and
/// sharpness and noise at luma whose longer side was brought below 1024 pixels.
pub fn measure(picture: &Picture) -> Measures {
    let canonical = Canonical::of(picture);
    let exposure = Exposure::of(picture);
    Measures {
        short_side: picture.full_width.min(picture.full_height),
        sharpness: sharpness::detail_ratio(&canonical),
        mean: exposure.mean,
        darkest: f32::from(exposure.darkest),
        brightest: f32::from(exposure.brightest),
        clipped_dark: exposure.clipped_dark,
        clipped_bright: exposure.clipped_bright,
        contrast: f32::from(exposure.range),
        content: exposure.content,
        midtones: exposure.midtones,
        noise: noise::deviation(&canonical),
        blockiness: compression::blockiness(picture),
    }
}

#[cfg(test)]
mod tests;
