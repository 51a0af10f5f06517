//! Pixels from a probed file, under limits: the first frame, upright, 8-bit RGB.
//!
//! Transparency is laid on white, 16-bit and float samples are rounded to 8 bits, grey, palettes and inks become
//! RGB. Colour profiles (ICC) are not applied: models were trained on pictures that were read the same way.

#[cfg(target_os = "linux")]
mod channel;
mod jpeg;
mod orient;
mod plan;
#[cfg(target_os = "linux")]
pub mod pool;
#[cfg(target_os = "linux")]
mod process;
mod raster;
#[cfg(target_os = "linux")]
mod shared;
#[cfg(target_os = "linux")]
pub mod worker;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use plan::{DecodePlan, plan};

use eyebolt_types::ImageFormat;

use crate::probe::Header;
use crate::{ImageError, Picture};

/// The formats that are decoded.
pub fn formats() -> &'static [ImageFormat] {
    use ImageFormat as F;
    &[F::Jpeg, F::Png, F::Webp, F::Gif, F::Tiff, F::Bmp, F::Pnm, F::Qoi, F::Ico]
}

/// Decodes the first frame of a file that `header` was read from.
///
/// # Errors
/// [`ImageError::Corrupt`] where the compressed data is broken, [`ImageError::UnsupportedFormat`] where the decoder
/// lacks a feature, [`ImageError::DecoderDied`] where it panicked.
pub fn decode(bytes: &[u8], header: &Header, plan: &DecodePlan) -> Result<Picture, ImageError> {
    let mut pixels = vec![0; plan.pixel_bytes()];
    decode_into(bytes, header, plan, &mut pixels)?;
    Ok(plan.picture(header, pixels))
}

/// The same into memory of the caller's: `plan.width × plan.height × 3` bytes.
///
/// # Errors
/// As [`decode`]; `pixels` then holds anything.
///
/// # Panics
/// Where `pixels` has another length.
pub fn decode_into(
    bytes: &[u8],
    header: &Header,
    plan: &DecodePlan,
    pixels: &mut [u8],
) -> Result<(), ImageError> {
    assert_eq!(pixels.len(), plan.pixel_bytes(), "the memory fits the plan");
    let work = || match header.format {
        ImageFormat::Jpeg => jpeg::decode(bytes, header, plan, pixels),
        _ => raster::decode(bytes, header, plan, pixels),
    };
    // Nothing of a panicking decoder is used again, and the pixels are given up.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(ImageError::DecoderDied { format: header.format }))
}
