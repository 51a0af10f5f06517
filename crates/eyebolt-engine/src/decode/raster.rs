//! Every format but JPEG, by the decoders of `image`.

use std::io::Cursor;

use eyebolt_types::{ImageFormat, Orientation};
use image::codecs::{bmp, gif, ico, png, pnm, qoi, tiff, webp};
use image::{ColorType, ImageDecoder, ImageResult};

use super::DecodePlan;
use super::orient::paint;
use crate::ImageError;
use crate::probe::{Header, embedded_png};

/// Memory that decoders take whatever the picture is: tables, windows, buffers of a row.
const FIXED_BYTES: u64 = 8 << 20;

pub(super) fn decode(
    bytes: &[u8],
    header: &Header,
    plan: &DecodePlan,
    pixels: &mut [u8],
) -> Result<(), ImageError> {
    let input = Cursor::new(bytes);
    match header.format {
        ImageFormat::Png => read(png::PngDecoder::new(input), header, plan, pixels),
        ImageFormat::Webp => read(webp::WebPDecoder::new(input), header, plan, pixels),
        ImageFormat::Gif => read(gif::GifDecoder::new(input), header, plan, pixels),
        ImageFormat::Tiff => read(tiff::TiffDecoder::new(input), header, plan, pixels),
        ImageFormat::Bmp => read(bmp::BmpDecoder::new(input), header, plan, pixels),
        // `image` takes only PNGs with alpha inside icons.
        ImageFormat::Ico if let Some(png) = embedded_png(bytes) => {
            read(png::PngDecoder::new(Cursor::new(png)), header, plan, pixels)
        }
        ImageFormat::Ico => read(ico::IcoDecoder::new(input), header, plan, pixels),
        ImageFormat::Pnm => read(pnm::PnmDecoder::new(input), header, plan, pixels),
        ImageFormat::Qoi => read(qoi::QoiDecoder::new(input), header, plan, pixels),
        format => Err(ImageError::UnsupportedFormat { found: format.name().to_uppercase() }),
    }
}

/// Reads with one of `image`'s decoders, whose size must be the one that was probed.
pub(super) fn read(
    decoder: ImageResult<impl ImageDecoder>,
    header: &Header,
    plan: &DecodePlan,
    pixels: &mut [u8],
) -> Result<(), ImageError> {
    let refused = |error| refusal(&error, header.format);
    let mut decoder = decoder.map_err(refused)?;
    let size = (header.stored_width, header.stored_height);
    if decoder.dimensions() != size {
        let (width, height) = decoder.dimensions();
        let what = format!("{} × {} pixels in its header, {width} × {height} in its data", size.0, size.1);
        return Err(ImageError::Corrupt { format: header.format, what });
    }
    let mut limits = image::Limits::no_limits();
    limits.max_alloc = Some(plan.bytes_needed + FIXED_BYTES);
    decoder.set_limits(limits).map_err(refused)?;
    let colour = decoder.color_type();
    if colour == ColorType::Rgb8 && header.orientation == Orientation::Upright {
        return decoder.read_image(pixels).map_err(refused);
    }
    let native_bytes = decoder.total_bytes();
    if native_bytes + pixels.len() as u64 > plan.bytes_needed + FIXED_BYTES {
        let what = format!("{colour:?} pixels, more than its header says");
        return Err(ImageError::Corrupt { format: header.format, what });
    }
    let mut native = vec![0; native_bytes as usize];
    decoder.read_image(&mut native).map_err(refused)?;
    convert(&native, colour, header, pixels)
}

/// Converts native samples (of the machine's byte order) to upright RGB.
fn convert(native: &[u8], colour: ColorType, header: &Header, pixels: &mut [u8]) -> Result<(), ImageError> {
    let size = (header.stored_width, header.stored_height);
    let turn = header.orientation;
    match colour {
        ColorType::L8 => paint(native, size, turn, (pixels, |&[grey]: &[u8; 1]| [grey; 3])),
        ColorType::La8 => paint(native, size, turn, (pixels, |&[grey, a]: &[u8; 2]| [on_white(grey, a); 3])),
        ColorType::Rgb8 => paint(native, size, turn, (pixels, |rgb: &[u8; 3]| *rgb)),
        ColorType::Rgba8 => {
            paint(
                native,
                size,
                turn,
                (pixels, |&[r, g, b, a]: &[u8; 4]| [r, g, b].map(|value| on_white(value, a))),
            );
        }
        ColorType::L16 => paint(native, size, turn, (pixels, |grey: &[u8; 2]| [wide::<1, 2>(grey)[0]; 3])),
        ColorType::La16 => paint(
            native,
            size,
            turn,
            (pixels, |pixel: &[u8; 4]| {
                let [grey, a] = wide(pixel);
                [on_white(grey, a); 3]
            }),
        ),
        ColorType::Rgb16 => paint(native, size, turn, (pixels, |pixel: &[u8; 6]| wide(pixel))),
        ColorType::Rgba16 => paint(
            native,
            size,
            turn,
            (pixels, |pixel: &[u8; 8]| {
                let [r, g, b, a] = wide(pixel);
                [r, g, b].map(|value| on_white(value, a))
            }),
        ),
        ColorType::Rgb32F => paint(native, size, turn, (pixels, |pixel: &[u8; 12]| float(pixel))),
        ColorType::Rgba32F => paint(
            native,
            size,
            turn,
            (pixels, |pixel: &[u8; 16]| {
                let [r, g, b, a] = float(pixel);
                [r, g, b].map(|value| on_white(value, a))
            }),
        ),
        other => {
            return Err(ImageError::UnsupportedFormat {
                found: format!("{} of {other:?} pixels", header.format),
            });
        }
    }
    Ok(())
}

/// A value laid on white by its alpha.
fn on_white(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

/// 16-bit samples, rounded to 8 bits.
fn wide<const N: usize, const BYTES: usize>(samples: &[u8; BYTES]) -> [u8; N] {
    let mut narrow = [0; N];
    for (narrow, sample) in narrow.iter_mut().zip(samples.as_chunks::<2>().0) {
        *narrow = ((u32::from(u16::from_ne_bytes(*sample)) * 255 + 32_767) / 65_535) as u8;
    }
    narrow
}

/// Float samples between 0 and 1; what lies outside is clipped, and what is no number is black.
fn float<const N: usize, const BYTES: usize>(samples: &[u8; BYTES]) -> [u8; N] {
    let mut narrow = [0; N];
    for (narrow, sample) in narrow.iter_mut().zip(samples.as_chunks::<4>().0) {
        *narrow = (f32::from_ne_bytes(*sample).clamp(0.0, 1.0) * 255.0).round() as u8;
    }
    narrow
}

/// What a decoder's error means. Its text is kept: it names a place, never bytes of the file's metadata.
fn refusal(error: &image::ImageError, format: ImageFormat) -> ImageError {
    match error {
        image::ImageError::Unsupported(error) => ImageError::UnsupportedFormat {
            found: format!("{format} with a feature that is not decoded: {error}"),
        },
        error => ImageError::Corrupt { format, what: error.to_string() },
    }
}
