//! The samples behind a Netpbm header: as many as the size calls for.

use super::reader::Reader;
use crate::ImageError;

/// What a Netpbm header says.
pub(super) struct Raster {
    pub(super) width: u64,
    pub(super) height: u64,
    /// Samples of a pixel.
    pub(super) depth: u64,
    /// The value that means white.
    pub(super) maximum: u64,
}

/// Steps over the samples. The size has passed the limits, so no product overflows.
pub(super) fn step_over(reader: &mut Reader<'_>, variant: u8, raster: &Raster) -> Result<(), ImageError> {
    let samples = raster.width * raster.height * raster.depth;
    match variant {
        b'1' => text_bits(reader, samples),
        b'2' | b'3' => text_samples(reader, samples),
        b'4' => reader.take(raster.width.div_ceil(8) * raster.height).map(drop),
        _ => reader.take(samples * if raster.maximum > 255 { 2 } else { 1 }).map(drop),
    }
}

/// Digits 0 and 1, which need no white space between them.
fn text_bits(reader: &mut Reader<'_>, samples: u64) -> Result<(), ImageError> {
    let mut left = samples;
    let mut length = 0;
    for byte in reader.rest() {
        if left == 0 {
            break;
        }
        match byte {
            b'0' | b'1' => left -= 1,
            byte if byte.is_ascii_whitespace() => {}
            _ => return Err(reader.corrupt("a sample that is neither 0 nor 1")),
        }
        length += 1;
    }
    end(reader, length, left)
}

fn text_samples(reader: &mut Reader<'_>, samples: u64) -> Result<(), ImageError> {
    let mut left = samples;
    let mut length = 0;
    let mut inside = false;
    for byte in reader.rest() {
        if left == 0 && !inside {
            break;
        }
        match byte {
            b'0'..=b'9' => {
                left -= u64::from(!inside && left > 0);
                inside = true;
            }
            byte if byte.is_ascii_whitespace() => inside = false,
            _ => return Err(reader.corrupt("a sample that is no number")),
        }
        length += 1;
    }
    end(reader, length, left)
}

fn end(reader: &mut Reader<'_>, length: u64, left: u64) -> Result<(), ImageError> {
    if left > 0 {
        return Err(reader.corrupt(format!("cut off: {left} samples are missing")));
    }
    reader.take(length).map(drop)
}
