//! libjpeg-turbo. Its binding reports warnings as errors, also where the picture is there, so that what it says is
//! weighed here: it refuses alone only where data is missing.

use eyebolt_types::Orientation;
use turbojpeg::{Decompressor, Image, PixelFormat, ScalingFactor};

use super::{Colour, DecodePlan, Header, inks, paint};

/// How far it got.
pub(super) enum Outcome {
    /// The pixels are there.
    Done,
    /// Compressed data ran out before the last pixel; the rest is made up.
    EndsEarly,
    /// Others have to decide.
    Refused,
}

pub(super) fn decode(bytes: &[u8], header: &Header, plan: &DecodePlan, pixels: &mut [u8]) -> Outcome {
    let (width, height) = plan.stored_size(header);
    if matches!(header.colour, Colour::Cmyk { .. }) {
        let mut native = vec![0; width as usize * height as usize * 4];
        let outcome = decompress(bytes, header, plan, (&mut native, PixelFormat::CMYK));
        inks(&native, header, (width, height), pixels);
        return outcome;
    }
    if header.orientation == Orientation::Upright {
        return decompress(bytes, header, plan, (pixels, PixelFormat::RGB));
    }
    let mut native = vec![0; pixels.len()];
    let outcome = decompress(bytes, header, plan, (&mut native, PixelFormat::RGB));
    paint(&native, (width, height), header.orientation, (pixels, |rgb: &[u8; 3]| *rgb));
    outcome
}

fn decompress(
    bytes: &[u8],
    header: &Header,
    plan: &DecodePlan,
    (pixels, format): (&mut [u8], PixelFormat),
) -> Outcome {
    let (width, height) = plan.stored_size(header);
    let Ok(mut decompressor) = Decompressor::new() else { return Outcome::Refused };
    if decompressor.set_scaling_factor(ScalingFactor::new(1, plan.scale as usize)).is_err() {
        return Outcome::Refused;
    }
    let (width, height) = (width as usize, height as usize);
    let image = Image { pixels, width, pitch: width * format.size(), height, format };
    match decompressor.decompress(bytes, image) {
        Ok(()) => Outcome::Done,
        Err(error) => by_warning(&error.to_string()),
    }
}

/// Tells warnings, after which every pixel is there, from errors: by their words (libjpeg's `jerror.h`), since the
/// binding keeps nothing else.
fn by_warning(message: &str) -> Outcome {
    const ENDS_EARLY: [&str; 2] = ["premature end of data segment", "Premature end of JPEG file"];
    const TOLERATED: [&str; 6] = [
        "bad Huffman code",
        "extraneous bytes before marker",
        "instead of RST",
        "Inconsistent progression sequence",
        "Unknown Adobe color transform code",
        "unknown JFIF revision",
    ];
    let is_one_of = |words: &[&str]| words.iter().any(|words| message.contains(words));
    if is_one_of(&ENDS_EARLY) {
        Outcome::EndsEarly
    } else if is_one_of(&TOLERATED) {
        Outcome::Done
    } else {
        Outcome::Refused
    }
}
