//! What `eyebolt bench` measures below the server.

use std::time::{Duration, Instant};

use eyebolt_types::{
    ImageLimits,
    manifest::{Channels, Fit, InputSpec},
};
use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder};

use crate::{
    ImageError, decode,
    preprocess::{Frame, prepare},
    probe,
};

/// A JPEG of 12 megapixels (4000 × 3000, quality 90) with the content of another image.
///
/// # Errors
/// Where that image can't be decoded.
///
/// # Panics
/// Never: encoding into memory does not fail.
pub fn twelve_megapixels(image: &[u8]) -> Result<Vec<u8>, ImageError> {
    let header = probe::probe(image, &ImageLimits::default())?;
    let picture = decode::decode(image, &header, &decode::plan(&header, None))?;
    let large = image::RgbImage::from_raw(picture.width, picture.height, picture.pixels)
        .expect("a picture has three bytes for each of its pixels");
    let large = image::imageops::resize(&large, 4000, 3000, image::imageops::FilterType::Triangle);
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 90)
        .write_image(large.as_raw(), 4000, 3000, ExtendedColorType::Rgb8)
        .expect("writing to memory does not fail");
    Ok(bytes)
}

/// Best times of `rounds` rounds to bring an image to an input whose longer side is `side`.
#[derive(Debug, Clone, Copy)]
pub struct DecodeTimes {
    /// Decoding every pixel, then resizing.
    pub full: Duration,
    /// Decoding at a fraction inside the inverse DCT, then resizing.
    pub scaled: Duration,
}

/// Measures [`DecodeTimes`], the two ways in turn.
///
/// # Errors
/// Where the image can't be decoded.
pub fn decode_times(image: &[u8], side: u32, rounds: usize) -> Result<DecodeTimes, ImageError> {
    let header = probe::probe(image, &ImageLimits::default())?;
    let mut times = DecodeTimes { full: Duration::MAX, scaled: Duration::MAX };
    for _ in 0..rounds {
        for (wanted, best) in [(None, &mut times.full), (Some(side), &mut times.scaled)] {
            let begun = Instant::now();
            let picture = decode::decode(image, &header, &decode::plan(&header, wanted))?;
            std::hint::black_box(prepare(&picture, &input(), Frame::LongSide(side)));
            *best = begun.elapsed().min(*best);
        }
    }
    Ok(times)
}

fn input() -> InputSpec {
    InputSpec {
        width: 0,
        height: 0,
        fit: Fit::Multiple32,
        channels: Channels::Rgb,
        mean: [0.0; 3],
        scale: [1.0; 3],
        pad: 0,
    }
}
