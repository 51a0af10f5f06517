use eyebolt_types::{ImageFormat, Orientation};
use serde::{Deserialize, Serialize};

use crate::Picture;
use crate::probe::{Colour, Header};

/// How a file will be decoded, and what that takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecodePlan {
    /// Width of the upright pixels.
    pub width: u32,
    /// Height of the upright pixels.
    pub height: u32,
    /// Sides are divided by this and rounded up: 1, 2, 4 or 8.
    pub scale: u32,
    /// Memory at the peak, without the input: the pixels and whatever the decoder holds beside them.
    pub bytes_needed: u64,
}

impl DecodePlan {
    /// Bytes of the pixels alone.
    pub fn pixel_bytes(&self) -> usize {
        self.width as usize * self.height as usize * 3
    }

    /// Stored width and height after scaling.
    pub(super) fn stored_size(&self, header: &Header) -> (u32, u32) {
        (header.stored_width.div_ceil(self.scale), header.stored_height.div_ceil(self.scale))
    }

    pub(super) fn picture(&self, header: &Header, pixels: Vec<u8>) -> Picture {
        Picture {
            width: self.width,
            height: self.height,
            full_width: header.width,
            full_height: header.height,
            pixels,
        }
    }
}

/// Plans the decoding of a file.
///
/// `wanted` is the length in pixels that the longer side must keep; none means full size. Only JPEG can be scaled
/// while it is decoded; other formats come at full size.
pub fn plan(header: &Header, wanted: Option<u32>) -> DecodePlan {
    let longer = header.width.max(header.height);
    let keeps = |scale: &u32| wanted.is_some_and(|wanted| longer.div_ceil(*scale) >= wanted.max(1));
    let scale = match header.format {
        ImageFormat::Jpeg => [8, 4, 2].into_iter().find(keeps).unwrap_or(1),
        _ => 1,
    };
    let (width, height) = (header.width.div_ceil(scale), header.height.div_ceil(scale));
    let plan = DecodePlan { width, height, scale, bytes_needed: 0 };
    let extra = match header.format {
        ImageFormat::Jpeg => jpeg_bytes(header, &plan),
        _ => raster_bytes(header),
    };
    DecodePlan { bytes_needed: plan.pixel_bytes() as u64 + extra, ..plan }
}

/// What a JPEG takes beside its pixels.
fn jpeg_bytes(header: &Header, plan: &DecodePlan) -> u64 {
    let scaled = u64::from(plan.width) * u64::from(plan.height);
    let samples = match header.colour {
        Colour::Grey => 1,
        Colour::Cmyk { .. } => 4,
        Colour::Rgb | Colour::Palette => 3,
    };
    // Scans of a progressive file are added up as 16-bit coefficients of the whole picture, in whole blocks.
    let padded = u64::from(header.width + 32) * u64::from(header.height + 32);
    let coefficients = if header.progressive { padded * samples * 2 } else { 0 };
    let inks = matches!(header.colour, Colour::Cmyk { .. });
    let turned = header.orientation != Orientation::Upright;
    let fast = scaled
        * if inks {
            4
        } else if turned {
            3
        } else {
            0
        };
    // The decoder that stands in where the fast one gives up keeps planes of samples, then the samples in order.
    let stand_in = if plan.scale > 1 || inks { scaled * samples * 2 } else { fast };
    coefficients + fast.max(stand_in)
}

/// What any other format takes beside its pixels: samples as stored where they are not what is wanted, and what the
/// format's decoder holds of the whole picture.
fn raster_bytes(header: &Header) -> u64 {
    let pixels = header.pixels();
    let wide = u64::from(header.bits.div_ceil(8).next_power_of_two());
    let native = u64::from(header.channels) * wide;
    let direct = native == 3 && header.orientation == Orientation::Upright;
    let own = if direct { 0 } else { native };
    let inside = match header.format {
        // A canvas and a frame of an animation, with alpha.
        ImageFormat::Webp if header.frames > 1 => 8,
        // Planes of `YCbCr` and alpha beside the pixels; a lossless picture is kept with alpha.
        ImageFormat::Webp => 5,
        ImageFormat::Gif => 4,
        ImageFormat::Ico => 8,
        // Decoded as a whole, then copied.
        ImageFormat::Tiff | ImageFormat::Qoi | ImageFormat::Pnm => native,
        _ => 0,
    };
    pixels * (own + inside)
}
