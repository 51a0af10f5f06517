//! JPEG: scaled inside its inverse transform by the fast decoder, with others to fall back on.

use std::io::Cursor;

use image::codecs::jpeg::JpegDecoder;

use super::DecodePlan;
use super::orient::paint;
use super::raster;
use crate::ImageError;
use crate::probe::{Colour, Header};

#[cfg(feature = "turbojpeg")]
#[path = "jpeg_turbo.rs"]
mod turbo;

pub(super) fn decode(
    bytes: &[u8],
    header: &Header,
    plan: &DecodePlan,
    pixels: &mut [u8],
) -> Result<(), ImageError> {
    #[cfg(feature = "turbojpeg")]
    match turbo::decode(bytes, header, plan, pixels) {
        turbo::Outcome::Done => return Ok(()),
        turbo::Outcome::EndsEarly => {
            let what = "cut off: the compressed data ends before the last row".to_owned();
            return Err(ImageError::Corrupt { format: header.format, what });
        }
        turbo::Outcome::Refused => {}
    }
    // Inks by one decoder alone: the other one forgets whether they are inverted.
    if plan.scale > 1 || matches!(header.colour, Colour::Cmyk { .. }) {
        return decode_scaled(bytes, header, plan, pixels);
    }
    raster::read(JpegDecoder::new(Cursor::new(bytes)), header, plan, pixels)
}

/// By `jpeg-decoder`, which scales by the same steps.
fn decode_scaled(
    bytes: &[u8],
    header: &Header,
    plan: &DecodePlan,
    pixels: &mut [u8],
) -> Result<(), ImageError> {
    let corrupt =
        |error: jpeg_decoder::Error| ImageError::Corrupt { format: header.format, what: error.to_string() };
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    let size = plan.stored_size(header);
    let found = decoder.scale(size.0 as u16, size.1 as u16).map_err(corrupt)?;
    if (u32::from(found.0), u32::from(found.1)) != size {
        let what = format!("{} × {} pixels after scaling, not {} × {}", found.0, found.1, size.0, size.1);
        return Err(ImageError::Corrupt { format: header.format, what });
    }
    let native = decoder.decode().map_err(corrupt)?;
    let turn = header.orientation;
    match decoder.info().map(|info| info.pixel_format) {
        Some(jpeg_decoder::PixelFormat::L8) => {
            paint(&native, size, turn, (pixels, |&[grey]: &[u8; 1]| [grey; 3]));
        }
        Some(jpeg_decoder::PixelFormat::RGB24) => paint(&native, size, turn, (pixels, |rgb: &[u8; 3]| *rgb)),
        Some(jpeg_decoder::PixelFormat::CMYK32) => inks(&native, header, size, pixels),
        _ => return Err(ImageError::UnsupportedFormat { found: "JPEG of more than 8 bits".to_owned() }),
    }
    Ok(())
}

/// Converts four inks to upright RGB: light that passes one ink passes black as well.
fn inks(native: &[u8], header: &Header, size: (u32, u32), pixels: &mut [u8]) {
    let flip = if matches!(header.colour, Colour::Cmyk { inverted: true }) { 0 } else { 255 };
    let colour = |&[c, m, y, k]: &[u8; 4]| {
        let black = u32::from(k ^ flip);
        [c, m, y].map(|ink| ((u32::from(ink ^ flip) * black + 127) / 255) as u8)
    };
    paint(native, size, header.orientation, (pixels, colour));
}
