use eyebolt_types::{ImageFormat, Orientation};
use serde::{Deserialize, Serialize};

/// What the numbers of a stored pixel mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Colour {
    /// One channel of brightness.
    Grey,
    /// Red, green, blue, or a transform of them (`YCbCr`).
    Rgb,
    /// Indices into a table of colours.
    Palette,
    /// Four inks, or a transform of them (YCCK).
    Cmyk {
        /// Whether 255 means no ink, as Adobe's programs store it.
        inverted: bool,
    },
}

/// What a file says of itself. Serialisable, since it crosses into a decoder process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The kind of file, told by its content.
    pub format: ImageFormat,
    /// Width of the upright image, pixels.
    pub width: u32,
    /// Height of the upright image, pixels.
    pub height: u32,
    /// Width as stored, before the orientation is applied.
    pub stored_width: u32,
    /// Height as stored, before the orientation is applied.
    pub stored_height: u32,
    /// Frames of an animation or pages of a document; 1 for a still picture.
    pub frames: u32,
    /// How to turn the stored pixels.
    pub orientation: Orientation,
    /// Bits of one channel of one pixel, as stored; of an index in a palette.
    pub bits: u8,
    /// Channels that a decoder gives: 1 grey, 3 colour, 4 inks, one more with alpha.
    pub channels: u8,
    /// What the channels mean.
    pub colour: Colour,
    /// Stored coarse to fine: progressive JPEG, interlaced PNG or GIF.
    pub progressive: bool,
    /// Whether pixels can be transparent.
    pub has_alpha: bool,
    /// EXIF, XMP, ICC, text, comments and unknown parts together, after inflation, with their framing.
    pub metadata_bytes: u64,
}

impl Header {
    /// An upright, opaque, 8-bit RGB picture of one frame.
    pub(super) fn new(format: ImageFormat, width: u32, height: u32) -> Self {
        Self {
            format,
            width,
            height,
            stored_width: width,
            stored_height: height,
            frames: 1,
            orientation: Orientation::Upright,
            bits: 8,
            channels: 3,
            colour: Colour::Rgb,
            progressive: false,
            has_alpha: false,
            metadata_bytes: 0,
        }
    }

    /// Sets colour and alpha, and the channels that follow from them.
    pub(super) fn with_colour(mut self, colour: Colour, has_alpha: bool) -> Self {
        self.colour = colour;
        self.has_alpha = has_alpha;
        let channels = match colour {
            Colour::Grey => 1,
            Colour::Rgb | Colour::Palette => 3,
            Colour::Cmyk { .. } => 4,
        };
        self.channels = channels + u8::from(has_alpha);
        self
    }

    /// Sets the orientation, and the upright size that follows from it.
    pub(super) fn turned(mut self, orientation: Orientation) -> Self {
        self.orientation = orientation;
        (self.width, self.height) = if orientation.swaps_sides() {
            (self.stored_height, self.stored_width)
        } else {
            (self.stored_width, self.stored_height)
        };
        self
    }

    /// Width × height of one frame.
    pub fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}
