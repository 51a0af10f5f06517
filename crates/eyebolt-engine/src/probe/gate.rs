use eyebolt_types::{ImageFormat, ImageLimits};

use super::Header;
use super::reader::corrupt;
use crate::ImageError;
use crate::inspect::{self, Part};

/// Holds what a walk finds against the limits, at the moment it is found.
pub(super) struct Gate<'a> {
    pub(super) format: ImageFormat,
    pub(super) limits: &'a ImageLimits,
    metadata_bytes: u64,
    frames: u64,
    animation_pixels: u64,
    /// A part that is not pixels holds `*/`: it could close a script comment that the header opened.
    closes_comment: bool,
}

impl<'a> Gate<'a> {
    pub(super) fn new(format: ImageFormat, limits: &'a ImageLimits) -> Self {
        Self { format, limits, metadata_bytes: 0, frames: 0, animation_pixels: 0, closes_comment: false }
    }

    pub(super) fn corrupt(&self, what: impl Into<String>) -> ImageError {
        corrupt(self.format, what)
    }

    /// The size of the picture.
    pub(super) fn size(&self, width: u64, height: u64) -> Result<(u32, u32), ImageError> {
        let limits = self.limits;
        if width == 0 || height == 0 {
            return Err(self.corrupt(format!("a size of {width} × {height} pixels")));
        }
        if width.saturating_mul(height) > limits.max_pixels {
            return Err(ImageError::TooManyPixels { limit: limits.max_pixels, width, height });
        }
        let (longer, shorter) = (width.max(height), width.min(height));
        if longer > u64::from(limits.max_side) {
            return Err(ImageError::SideTooLong { limit: limits.max_side, width, height });
        }
        if shorter < u64::from(limits.min_side) {
            return Err(ImageError::TooSmall { limit: limits.min_side, width, height });
        }
        if longer as f32 > limits.max_aspect_ratio * shorter as f32 {
            return Err(ImageError::BadAspectRatio { limit: limits.max_aspect_ratio, width, height });
        }
        let narrow = |side| u32::try_from(side).map_err(|_| self.corrupt("a side beyond 32 bits"));
        Ok((narrow(width)?, narrow(height)?))
    }

    /// One more frame or page of this size.
    pub(super) fn frame(&mut self, width: u64, height: u64) -> Result<(), ImageError> {
        let limits = self.limits;
        self.frames += 1;
        self.announced_frames(self.frames)?;
        let pixels = width.saturating_mul(height);
        if pixels > limits.max_pixels {
            return Err(ImageError::TooManyPixels { limit: limits.max_pixels, width, height });
        }
        self.animation_pixels += pixels;
        if self.frames > 1 && self.animation_pixels > limits.max_animation_pixels {
            return Err(ImageError::DecompressionBomb {
                what: "pixels over all frames".to_owned(),
                limit: limits.max_animation_pixels,
                found: self.animation_pixels,
            });
        }
        Ok(())
    }

    /// The count of frames that a header announces.
    pub(super) fn announced_frames(&self, found: u64) -> Result<(), ImageError> {
        let limit = u64::from(self.limits.max_frames);
        if found > limit { Err(ImageError::TooManyFrames { limit, found }) } else { Ok(()) }
    }

    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// A part that is not pixels. `framing` is what its container adds, so that a flood of empty parts counts too.
    pub(super) fn metadata(&mut self, part: Part, data: &[u8], framing: u64) -> Result<(), ImageError> {
        self.count_metadata(data.len() as u64 + framing)?;
        self.closes_comment |= inspect::closes_comment(data);
        inspect::refuse_active_part(part, data, self.format)
    }

    /// Counts a part whose bytes are not worth a look.
    pub(super) fn count_metadata(&mut self, bytes: u64) -> Result<(), ImageError> {
        self.metadata_bytes += bytes;
        let limit = self.limits.max_metadata_bytes;
        if self.metadata_bytes > limit {
            return Err(ImageError::TooManyMetadata { limit, found: self.metadata_bytes });
        }
        Ok(())
    }

    /// A part of metadata that is compressed by zlib: inflates it as far as the limit reaches, and counts.
    pub(super) fn inflated_metadata(&mut self, compressed: &[u8]) -> Result<(), ImageError> {
        let limit = self.limits.max_metadata_bytes;
        let room = limit - self.metadata_bytes;
        let inflated = inspect::inflated_length(compressed, room + 1);
        if inflated > room {
            let found = self.metadata_bytes + inflated;
            return Err(ImageError::DecompressionBomb { what: "bytes of metadata".to_owned(), limit, found });
        }
        self.metadata_bytes += inflated;
        Ok(())
    }

    /// Whatever follows the picture, from `end` to the end of the file.
    pub(super) fn trailer(&mut self, bytes: &[u8], end: usize) -> Result<(), ImageError> {
        let trailer = inspect::without_padding(&bytes[end.min(bytes.len())..]);
        self.closes_comment |= inspect::closes_comment(trailer);
        if self.closes_comment && inspect::opens_comment(bytes, self.format) {
            return Err(ImageError::Polyglot { format: self.format, also: "JavaScript".to_owned() });
        }
        inspect::refuse_active_trailer(trailer, self.format)?;
        // Phones append a clip or a second picture of any length; anything else counts as metadata.
        if inspect::is_media(trailer) { Ok(()) } else { self.count_metadata(trailer.len() as u64) }
    }

    /// Notes what was counted.
    pub(super) fn close(&self, mut header: Header) -> Header {
        header.metadata_bytes = self.metadata_bytes;
        header.frames = u32::try_from(self.frames.max(1)).unwrap_or(u32::MAX);
        header
    }
}
