//! TIFF 6.0, sections 3 to 8 and 15: what the fields of a directory say of its pixels.

use eyebolt_types::Orientation;

use super::gate::Gate;
use super::tiff_entry::Entry;
use super::{Colour, Header};
use crate::ImageError;

/// The fields of one directory that describe pixels.
#[derive(Default)]
pub(super) struct Page<'a> {
    width: Option<u64>,
    height: Option<u64>,
    bits: Option<u64>,
    samples: Option<u64>,
    compression: Option<u64>,
    photometric: Option<u64>,
    planar: Option<u64>,
    orientation: Option<u64>,
    rows_per_strip: Option<u64>,
    tile_width: Option<u64>,
    tile_height: Option<u64>,
    extra_samples: Option<u64>,
    offsets: Option<Entry<'a>>,
    byte_counts: Option<Entry<'a>>,
}

impl<'a> Page<'a> {
    /// Keeps an entry that describes pixels; says no for any other.
    pub(super) fn keep(&mut self, entry: &Entry<'a>) -> bool {
        let field = match entry.tag {
            256 => &mut self.width,
            257 => &mut self.height,
            258 => &mut self.bits,
            259 => &mut self.compression,
            262 => &mut self.photometric,
            274 => &mut self.orientation,
            277 => &mut self.samples,
            278 => &mut self.rows_per_strip,
            284 => &mut self.planar,
            322 => &mut self.tile_width,
            323 => &mut self.tile_height,
            338 => &mut self.extra_samples,
            273 | 324 => {
                self.offsets = Some(entry.clone());
                return true;
            }
            279 | 325 => {
                self.byte_counts = Some(entry.clone());
                return true;
            }
            // Tables for decoding: predictor, fill order, colour map, JPEG tables, subsampling, sample format.
            266 | 317 | 320 | 339 | 347 | 529..=532 => return true,
            _ => return false,
        };
        *field = entry.numbers().next();
        true
    }

    pub(super) fn size(&self) -> (u64, u64) {
        (self.width.unwrap_or(0), self.height.unwrap_or(0))
    }

    fn bits(&self) -> u64 {
        self.bits.unwrap_or(1)
    }

    fn samples(&self) -> u64 {
        self.samples.unwrap_or(1)
    }

    /// Where the last chunk of pixels ends, as far as one look tells.
    pub(super) fn pixels_end_at_a_glance(&self) -> usize {
        let last = |entry: &Option<Entry<'_>>| entry.as_ref().and_then(Entry::last_number);
        match (last(&self.offsets), last(&self.byte_counts)) {
            (Some(offset), Some(length)) => {
                usize::try_from(offset.saturating_add(length)).unwrap_or(usize::MAX)
            }
            _ => 0,
        }
    }

    /// Checks depth, layout and the place of every chunk of pixels; gives where the last of them ends.
    pub(super) fn check_pixels(&self, gate: &Gate<'_>) -> Result<usize, ImageError> {
        if !(1..=64).contains(&self.bits()) {
            return Err(gate.corrupt(format!("{} bits a sample", self.bits())));
        }
        if !(1..=32).contains(&self.samples()) {
            return Err(gate.corrupt(format!("{} samples a pixel", self.samples())));
        }
        let (Some(offsets), Some(byte_counts)) = (&self.offsets, &self.byte_counts) else {
            return Err(gate.corrupt("no pixels: strip or tile offsets or their lengths are missing"));
        };
        let chunks = self.chunks(gate)?;
        if offsets.count < chunks || byte_counts.count < chunks {
            return Err(gate.corrupt(format!(
                "{chunks} strips or tiles are due, {} offsets and {} lengths are there",
                offsets.count, byte_counts.count
            )));
        }
        let file_bytes = offsets.layout().file_bytes();
        let mut end = 0;
        let mut total = 0_u64;
        // The size has passed the limits, which bounds the count of chunks.
        for (offset, length) in offsets.numbers().zip(byte_counts.numbers()).take(chunks as usize) {
            let chunk_end = offset.saturating_add(length);
            if chunk_end > file_bytes || length == 0 {
                return Err(
                    gate.corrupt(format!("{length} bytes of pixels at byte {offset}, beyond the file"))
                );
            }
            end = end.max(chunk_end);
            total += length;
        }
        let (width, height) = self.size();
        let due = (width * self.bits() * self.samples()).div_ceil(8) * height;
        if self.compression.unwrap_or(1) == 1 && self.photometric != Some(6) && total < due {
            return Err(gate.corrupt(format!("cut off: {due} bytes of pixels are due, {total} are there")));
        }
        Ok(end as usize)
    }

    /// How many strips or tiles the size calls for.
    fn chunks(&self, gate: &Gate<'_>) -> Result<u64, ImageError> {
        let (width, height) = self.size();
        let planes = if self.planar == Some(2) { self.samples() } else { 1 };
        if self.tile_width.is_none() && self.tile_height.is_none() {
            let rows = self.rows_per_strip.unwrap_or(height).min(height);
            return match rows {
                0 => Err(gate.corrupt("strips without rows")),
                rows => Ok(height.div_ceil(rows) * planes),
            };
        }
        // A tile is decoded as a whole, so it may not dwarf its picture.
        let largest = (width * height).max(1 << 20);
        match (self.tile_width, self.tile_height) {
            (Some(across @ 1..), Some(down @ 1..)) if across.saturating_mul(down) <= largest => {
                Ok(width.div_ceil(across) * height.div_ceil(down) * planes)
            }
            (across, down) => Err(gate.corrupt(format!("tiles of {across:?} × {down:?} pixels"))),
        }
    }

    pub(super) fn header(&self, gate: &Gate<'_>) -> Result<Header, ImageError> {
        let (width, height) = self.size();
        let (width, height) = gate.size(width, height)?;
        let (colour, base) = match self.photometric {
            Some(2 | 6 | 8) => (Colour::Rgb, 3),
            Some(3) => (Colour::Palette, 1),
            Some(5) => (Colour::Cmyk { inverted: false }, 4),
            _ => (Colour::Grey, 1),
        };
        let alpha = self.samples() > base && matches!(self.extra_samples, Some(1 | 2));
        let orientation = self.orientation.and_then(|value| u16::try_from(value).ok());
        let mut header = Header::new(gate.format, width, height)
            .with_colour(colour, alpha)
            .turned(orientation.map_or(Orientation::Upright, Orientation::from_exif));
        // In range: checked with the pixels.
        header.bits = self.bits() as u8;
        header.channels = header.channels.max(self.samples() as u8);
        Ok(header)
    }
}
